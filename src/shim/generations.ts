/**
 * The container's generations, of which there is one at a time: how it is made, started, paused and resumed, how it
 * ends, and
 * how it is undone. Each intent is in the journal before it is acted upon. What comes after an end is decided elsewhere
 * (restarts.ts). Whoever calls create(), start(), again(), undo(), pause(), resume() or fail() has the turn (phase.ts).
 */
import { SIGKILL } from '../sys/process.ts';
import { Execs, type ExecSurroundings } from './exec.ts';
import { startFailure, type StartFailure } from './failure.ts';
import { Generation, type Making } from './generation.ts';
import { Health } from './health.ts';
import { now, type Journal } from './journal.ts';
import type { Phases } from './phase.ts';
import { Ports } from './held-ports.ts';
import type { Death, Reaper } from './reaper.ts';
import { Refused } from './refused.ts';
import type { RemovalGrace } from './removal-grace.ts';
import type { Sessions } from './sessions.ts';
import type { SpecFile } from './spec-file.ts';
import { settleStops } from './stops.ts';
import type { Waiters } from './wait-clients.ts';

export interface GenerationsOptions {
  id: string;
  /** The container's run directory. */
  run: string;
  journal: Journal;
  reaper: Reaper;
  phases: Phases;
  specFile: SpecFile;
  /** The attached clients, those who wait, and the removal that is waited for. */
  sessions: Sessions;
  waiters: Waiters;
  removal: RemovalGrace;
  /** The container's death is in the journal: what next? */
  decide: () => void;
  complain: (what: string, error: unknown) => void;
}

export class Generations {
  readonly execs = new Execs();
  #current: Generation | null = null;
  #over: Promise<void> = Promise.resolve();
  #setOver: () => void = () => {};
  #health: Health | null = null;
  /** Held from a create to the end after which no restart comes. */
  readonly #ports = new Ports();

  constructor(private readonly o: GenerationsOptions) {}

  get current(): Generation | null {
    return this.#current;
  }

  /** Resolves when the present generation's end is told and cleared away. */
  get over(): Promise<void> {
    return this.#over;
  }

  /** What execs and health checks are run with. */
  get surroundings(): ExecSurroundings {
    const { run, reaper, journal, specFile } = this.o;
    const { spec, runtime } = specFile.definition;
    return { run, spec, runtime, reaper, journal };
  }

  /** The generation whose process runs. @throws Refused */
  up(): Generation {
    if (!this.o.phases.isUp || !this.#current) throw new Refused('conflict', `container ${this.o.id} is not running`);
    return this.#current;
  }

  /** Has the runtime make the next one; its init waits for start(). @throws Refused, and nothing of it is left */
  async create(operation: string, move: 'create' | 'recreate'): Promise<{ gen: number; pid: number }> {
    const { journal, id, phases, specFile, removal } = this.o;
    const { spec } = specFile.definition;
    phases.move(move);
    removal.cancel();
    const { gen } = journal.append({ type: 'creating', operation });
    try {
      this.#ports.hold(spec.ports, { id, name: spec.name });
      this.#live(await Generation.create(this.#making(gen)));
    } catch (error) {
      throw this.fail(operation, startFailure('create', error));
    }
    const { pid, startTime } = this.#current!.init;
    journal.append({ type: 'created', pid, startTime });
    phases.move('created');
    return { gen, pid };
  }

  /** Lets the container's process run. @throws Refused, and nothing of the generation is left */
  async start(operation: string): Promise<{ pid: number }> {
    const { journal, phases } = this.o;
    phases.move('start');
    const generation = this.#current!;
    try {
      await generation.start();
    } catch (error) {
      const failure = startFailure('start', error);
      await this.undo(operation, failure);
      throw new Refused('failed', failure.message, failure.code);
    }
    const { pid, startTime } = generation.init;
    journal.append({ type: 'started', pid, startTime, operation });
    phases.move('started');
    this.#watchHealth()?.start();
    return { pid };
  }

  /** The next one after a death; '' as operation where the restart policy wants it. */
  async again(operation: string): Promise<void> {
    await this.create(operation, 'recreate');
    await this.start(operation);
  }

  /**
   * Takes over the one whose shim died; its init may be dead by now. `justStarted`: of that shim's health checks
   * nothing is known.
   */
  adopt(
    known: { pid: number; startTime: string },
    { as, justStarted }: { as: 'running' | 'paused'; justStarted: boolean },
  ): void {
    const { journal, phases } = this.o;
    const { gen, execs } = journal.state;
    const { generation, ports } = Generation.takeOver(this.#making(gen), known);
    this.#ports.adopt(ports);
    phases.move(as === 'paused' ? 'adoptPaused' : 'adoptRunning');
    this.#live(generation);
    for (const [id, exec] of Object.entries(execs)) if (exec.running) this.execs.takeOver(this.surroundings, id, exec);
    const health = this.#watchHealth();
    if (justStarted) health?.start();
    else if (as === 'running' && !generation.init.dead) health?.resume();
  }

  async pause(): Promise<void> {
    const { phases, specFile, journal } = this.o;
    phases.check('pause');
    await refusedOnFailure(specFile.definition.runtime.pause());
    this.#health?.suspend();
    phases.move('pause');
    journal.append({ type: 'paused' });
  }

  async resume(): Promise<void> {
    const { phases, specFile, journal } = this.o;
    phases.check('resume');
    await refusedOnFailure(specFile.definition.runtime.resume());
    phases.move('resume');
    journal.append({ type: 'resumed' });
    this.#health?.resume();
  }

  /** A frozen process dies only when it is thawed. Takes its turn. */
  async thaw(): Promise<void> {
    await this.o.phases.inTurn(async () => {
      if (this.o.phases.current === 'paused') await this.resume();
    });
  }

  /** The daemon, or the host's end, makes nothing of a create. Takes its turn. */
  async abandon(operation: string, failure: StartFailure): Promise<void> {
    const { phases } = this.o;
    return phases.inTurn(async () => {
      if (phases.current === 'idle') return;
      phases.move('abandon');
      await this.undo(operation, failure);
    });
  }

  /** A create or start did not work out: nothing of it remains. Its phase is passing. */
  async undo(operation: string, failure: StartFailure): Promise<void> {
    const generation = this.#current!;
    generation.kill(SIGKILL);
    await generation.init.death;
    await generation.bury();
    this.fail(operation, failure);
    await this.o.journal.durable();
    this.#clearAway(generation);
  }

  /**
   * Says that a create or start did not work out, to all who wait; what remains to be said is returned, to be thrown.
   */
  fail(operation: string, { message, code }: StartFailure): Refused {
    const { journal, phases, sessions, waiters } = this.o;
    journal.append({ type: 'failed', error: message, code, operation });
    journal.append({ type: 'final', user: false });
    phases.move('fail');
    settleStops(journal);
    this.#ports.release();
    sessions.closeAll();
    waiters.all(code);
    return new Refused('failed', message, code);
  }

  /** Dead, and no restart will follow. */
  finish(): void {
    const { journal, phases, removal } = this.o;
    journal.append({ type: 'final', user: journal.state.stoppedByUser });
    phases.move('finish');
    this.#ports.release();
    removal.consider();
  }

  #making(gen: number): Making {
    const { run, reaper, specFile, complain } = this.o;
    return {
      gen,
      run,
      reaper,
      complain,
      ports: this.#ports.fds,
      onOom: (kills) => this.#oom(kills),
      ...specFile.definition,
    };
  }

  #live(generation: Generation): void {
    this.#current = generation;
    this.#over = new Promise((resolve) => (this.#setOver = resolve));
    this.o.sessions.bind(generation.stdio);
    void generation.init.death
      .then((death) => this.o.phases.inTurn(() => this.#ended(generation, death)))
      .catch((error: unknown) => this.o.complain(`the end of generation ${generation.gen}`, error));
  }

  async #ended(generation: Generation, death: Death): Promise<void> {
    // Undone, or told already.
    if (generation !== this.#current) return;
    const { journal, id, phases, waiters } = this.o;
    const wasStarted = phases.current !== 'created';
    phases.move('die');
    if (!wasStarted)
      return this.undo(journal.carried.operation, {
        message: `the init of container ${id} died before it was started`,
        code: 128,
      });
    this.#health?.suspend();
    this.#health = null;
    this.#oom(generation.oomKills(), death.at);
    const oomKilled = journal.carried.oomKills > 0;
    await Promise.all([generation.bury(), this.execs.end()]);
    const { code, signal, at, known } = death;
    const error = known ? {} : { error: 'the container ended while no shim watched it: its exit code is not known' };
    journal.append({ type: 'exited', code, signal, oomKilled, ...error }, at);
    this.o.decide();
    // On disk before anybody hears of it; and clients' streams end after the code is on record (api-wire.md 62).
    await journal.durable();
    this.#clearAway(generation);
    waiters.exited(code);
  }

  #oom(kills: number, at = now()): void {
    const { journal } = this.o;
    if (kills > journal.carried.oomKills) journal.append({ type: 'oom', kills }, at);
  }

  #clearAway(generation: Generation): void {
    this.#current = null;
    this.o.sessions.closeAll();
    generation.release();
    this.#setOver();
  }

  #watchHealth(): Health | null {
    const { health } = this.o.specFile.definition.spec;
    this.#health = health ? new Health(this.surroundings, health) : null;
    return this.#health;
  }
}

async function refusedOnFailure(command: Promise<void>): Promise<void> {
  try {
    await command;
  } catch (error) {
    throw new Refused('failed', error instanceof Error ? error.message : String(error));
  }
}
