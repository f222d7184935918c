/** Takes over a container from a dead shim: carries out the plan that takeover.ts makes. */
import { isAlive } from '../sys/process.ts';
import { clearLeftovers } from './generation.ts';
import type { Generations } from './generations.ts';
import type { Journal } from './journal.ts';
import { findLiving } from './living.ts';
import { orphanedCommandsEnded } from './orphaned-commands.ts';
import type { Phases } from './phase.ts';
import type { Reaper } from './reaper.ts';
import type { RemovalGrace } from './removal-grace.ts';
import type { Restarts } from './restarts.ts';
import { settleStops } from './settle-stops.ts';
import type { LogError } from './shim-log.ts';
import type { SpecFile } from './spec-file.ts';
import type { Stops } from './stops.ts';
import { plan, type Living } from './takeover.ts';

export interface SuccessorDeps {
  /** The container's run directory. */
  run: string;
  /** Boot id of the running kernel. */
  boot: string;
  journal: Journal;
  reaper: Reaper;
  phases: Phases;
  specFile: SpecFile;
  generations: Generations;
  restarts: Restarts;
  stops: Stops;
  removal: RemovalGrace;
  logError: LogError;
}

const LOST = { code: 255, signal: 0, oomKilled: false } as const;

export class Successor {
  constructor(private readonly deps: SuccessorDeps) {}

  /** Continues where the journal says that the previous shim stopped. Called once, before any operation. */
  async takeOver(): Promise<void> {
    const { run, journal, reaper, specFile } = this.deps;
    const { state } = journal;
    // Where the init of the last record is alive, nothing can have followed it. Everything else may be a journal that
    // has lost its end, or is a copy of an earlier one.
    const isCurrent = !journal.isIncomplete && isAlive(state.pid, state.pidStartTime);
    this.#takeOver(isCurrent ? null : await findLiving(specFile.spec, { run, state, reaper }));
  }

  #takeOver(living: Living | null): void {
    const { journal, boot, phases, specFile, generations, restarts, stops } = this.deps;
    const { state, pending } = journal;
    const step = plan({ state, pending, boot, living });
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
      case 'adopt-found':
        this.#continueFound(step.living);
        if (step.as === 'paused') journal.append({ type: 'paused' });
        generations.adopt(step.living, { as: step.as, justStarted: false });
        return stops.resume();
      case 'clear-found':
        journal.continueGeneration(step.living.gen);
        journal.append({ type: 'created', pid: step.living.pid, startTime: step.living.startTime });
        phases.move('clear');
        return this.#clearSoon('fail');
      case 'lost':
        journal.append({ type: 'exited', ...LOST, error: 'the host went down while the container was running' });
        return this.#finish();
      case 'fail':
        journal.append({
          type: 'failed',
          operation: pending.operation,
          code: 128,
          error: 'the host went down while the container was being started',
        });
        return this.#finish();
      case 'finish':
        return this.#finish();
      case 'clear':
        phases.move('clear');
        return this.#clearSoon(step.then);
      case 'decide':
        phases.move('clear');
        restarts.decideAfterDeath();
        return settleStops(journal);
      case 'await-restart':
        return step.by === 'policy' ? this.#awaitPolicy() : this.#awaitClients();
    }
  }

  #continueFound({ gen, pid, startTime }: Living): void {
    const { journal } = this.deps;
    journal.continueGeneration(gen);
    journal.append({ type: 'started', pid, startTime, operation: '' });
  }

  #clearSoon(then: 'fail' | 'retry'): void {
    void this.deps.phases
      .inTurn(() => this.#clear(then))
      .catch((error: unknown) => this.deps.logError('clearing away an unfinished create or start', error));
  }

  /** Finishes or undoes a create or start that the dead shim had under way. */
  async #clear(then: 'fail' | 'retry'): Promise<void> {
    const { journal, run, specFile, generations, restarts, stops, phases, logError } = this.deps;
    const { runtime, spec } = specFile.definition;
    await orphanedCommandsEnded(spec);
    const { state, pending } = journal;
    const known = { pid: state.pid, startTime: state.pidStartTime };
    if (known.pid > 0 && (await runtime.state())?.status === 'running') {
      // The start succeeded; only its record is missing.
      journal.append({ type: 'started', ...known, operation: pending.operation });
      generations.adopt(known, { as: 'running', justStarted: true });
      return void stops.resume();
    }
    await clearLeftovers(runtime, run, { gen: state.gen, ...known }, logError);
    if (then === 'fail') {
      generations.fail(pending.operation, {
        message: "the start was interrupted: the container's shim died",
        code: 128,
      });
      return;
    }
    if (pending.intents.some((intent) => intent.restart)) return void this.#awaitClients();
    phases.move('adoptBackoff');
    restarts.schedule(0);
  }

  #awaitPolicy(): void {
    this.deps.phases.move('adoptBackoff');
    this.deps.restarts.scheduleAt(this.deps.journal.pending.restartAt);
  }

  #awaitClients(): void {
    this.deps.phases.move('adoptBetween');
    this.deps.stops.resume();
  }

  #finish(): void {
    const { journal } = this.deps;
    journal.append({ type: 'final', user: journal.state.stoppedByUser });
    settleStops(journal);
    this.deps.removal.update();
  }
}
