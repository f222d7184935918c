/** A shim that follows a dead one: does what the table of takeover.ts says. */
import { clearLeftovers } from './generation.ts';
import type { Generations } from './generations.ts';
import type { Journal } from './journal.ts';
import type { Phases } from './phase.ts';
import type { RemovalGrace } from './removal-grace.ts';
import type { Restarts } from './restarts.ts';
import type { SpecFile } from './spec-file.ts';
import { settleStops, type Stops } from './stops.ts';
import { plan } from './takeover.ts';

export interface SuccessorOptions {
  /** The container's run directory. */
  run: string;
  boot: string;
  journal: Journal;
  phases: Phases;
  specFile: SpecFile;
  generations: Generations;
  restarts: Restarts;
  stops: Stops;
  removal: RemovalGrace;
  complain: (what: string, error: unknown) => void;
}

const LOST = { code: 255, signal: 0, oomKilled: false } as const;

export class Successor {
  constructor(private readonly o: SuccessorOptions) {}

  /** Goes on where the journal says that the last shim stood. Called once, before anything else. */
  takeOver(): void {
    const { journal, boot, phases, specFile, generations, restarts, stops } = this.o;
    const { state, carried } = journal;
    const step = plan({ state, carried, boot });
    if (step.do !== 'rest') specFile.load();
    switch (step.do) {
      case 'rest':
        return settleStops(journal);
      case 'adopt':
        generations.adopt(
          { pid: state.pid, startTime: state.pidStartTime },
          { as: state.status === 'paused' ? 'paused' : 'running', justStarted: false },
        );
        return stops.resume();
      case 'lost':
        journal.append({ type: 'exited', ...LOST, error: 'the host went down while the container was running' });
        return this.#finish();
      case 'fail':
        journal.append({
          type: 'failed',
          operation: carried.operation,
          code: 128,
          error: 'the host went down while the container was being started',
        });
        return this.#finish();
      case 'finish':
        return this.#finish();
      case 'clear':
        phases.move('clear');
        void phases
          .inTurn(() => this.#clear(step.then))
          .catch((error: unknown) => this.o.complain('clearing away a half-made container', error));
        return;
      case 'decide':
        phases.move('clear');
        restarts.decide();
        return settleStops(journal);
      case 'await-restart':
        return step.by === 'policy' ? this.#awaitPolicy() : this.#awaitClients();
    }
  }

  /** A create or start was under way. */
  async #clear(then: 'fail' | 'retry'): Promise<void> {
    const { journal, run, specFile, generations, restarts, stops, phases } = this.o;
    const { runtime } = specFile.definition;
    const { state, carried } = journal;
    const known = { pid: state.pid, startTime: state.pidStartTime };
    if (known.pid > 0 && (await runtime.state())?.status === 'running') {
      // It had been let go, only the record is missing.
      journal.append({ type: 'started', ...known, operation: carried.operation });
      generations.adopt(known, { as: 'running', justStarted: true });
      return void stops.resume();
    }
    await clearLeftovers(runtime, run, { gen: state.gen, ...known }, this.o.complain);
    if (then === 'fail') {
      generations.fail(carried.operation, {
        message: "the start was interrupted: the container's shim died",
        code: 128,
      });
      return;
    }
    if (carried.intents.some((intent) => intent.restart)) return void this.#awaitClients();
    phases.move('adoptBackoff');
    restarts.schedule(0);
  }

  #awaitPolicy(): void {
    this.o.phases.move('adoptBackoff');
    this.o.restarts.scheduleAt(this.o.journal.carried.restartAt);
  }

  #awaitClients(): void {
    this.o.phases.move('adoptBetween');
    this.o.stops.resume();
  }

  #finish(): void {
    const { journal } = this.o;
    journal.append({ type: 'final', user: journal.state.stoppedByUser });
    settleStops(journal);
    this.o.removal.consider();
  }
}
