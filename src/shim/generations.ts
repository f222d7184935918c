/**
 * The container's generations, of which at most one exists at a time: create, start, pause, resume, death, undo. Each
 * intent is journalled before it is acted upon. What follows a death is decided by the listener of `onDied`.
 * The caller of create(), start(), restart(), undo(), pause(), resume() or fail() holds the turn (phase.ts).
 */
import { notRunning } from '../protocol/refusals.ts';
import { SIGKILL } from '../sys/process.ts';
import { Execs, type ExecDeps } from './exec.ts';
import { startFailure, type StartFailure } from './failure.ts';
import { Generation, type GenerationDeps } from './generation.ts';
import { Health } from './health.ts';
import { HeldPorts } from './held-ports.ts';
import { now, type Journal } from './journal.ts';
import type { Phases } from './phase.ts';
import type { Death, Reaper } from './reaper.ts';
import { Refused } from './refused.ts';
import type { RemovalGrace } from './removal-grace.ts';
import type { Sessions } from './sessions.ts';
import { settleStops } from './settle-stops.ts';
import type { LogError } from './shim-log.ts';
import type { SpecFile } from './spec-file.ts';
import type { WaitClients } from './wait-clients.ts';

export interface GenerationsDeps {
  id: string;
  /** The container's run directory. */
  run: string;
  journal: Journal;
  reaper: Reaper;
  phases: Phases;
  specFile: SpecFile;
  sessions: Sessions;
  waitClients: WaitClients;
  removal: RemovalGrace;
  logError: LogError;
}

export class Generations {
  readonly execs = new Execs();
  /** Called when a death is in the journal, before it is on disk; the phase is `ending`. */
  onDied: () => void = () => {};
  #current: Generation | null = null;
  #ended: Promise<void> = Promise.resolve();
  #resolveEnded: () => void = () => {};
  #health: Health | null = null;
  /** Bound from a create until `final`. */
  readonly #ports = new HeldPorts();

  constructor(private readonly deps: GenerationsDeps) {}

  get current(): Generation | null {
    return this.#current;
  }

  /** Resolves when the current generation's end is on disk and its resources are released. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** @throws Error when spec.json was never loaded */
  get execDeps(): ExecDeps {
    const { run, reaper, journal, specFile } = this.deps;
    const { spec, runtime } = specFile.definition;
    return { run, spec, runtime, reaper, journal };
  }

  /** The generation whose process runs. @throws Refused */
  requireRunning(): Generation {
    if (!this.deps.phases.isUp || !this.#current) throw new Refused('conflict', notRunning(this.deps.id));
    return this.#current;
  }

  /** Creates the next generation; its init waits for start(). @throws Refused after everything is undone */
  async create(operation: string, move: 'create' | 'recreate'): Promise<{ gen: number; pid: number }> {
    const { journal, id, phases, specFile, removal } = this.deps;
    const { spec } = specFile.definition;
    phases.move(move);
    removal.cancel();
    const { gen } = journal.append({ type: 'creating', operation });
    let generation: Generation;
    try {
      this.#ports.bind(spec.ports, { id, name: spec.name });
      generation = await Generation.create(this.#generationDeps(gen));
      this.#setCurrent(generation);
    } catch (error) {
      throw this.fail(operation, startFailure('create', error));
    }
    const { pid, startTime } = generation.init;
    journal.append({ type: 'created', pid, startTime });
    phases.move('created');
    return { gen, pid };
  }

  /** Lets the container's process run. @throws Refused after everything is undone */
  async start(operation: string): Promise<{ pid: number }> {
    const { journal, phases } = this.deps;
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
    this.#newHealth()?.start();
    return { pid };
  }

  /** Creates and starts the next generation after a death; `operation` is '' for one by policy. @throws Refused */
  async restart(operation: string): Promise<void> {
    await this.create(operation, 'recreate');
    await this.start(operation);
  }

  /**
   * Takes over the generation of a dead shim; its init may be dead by now. `justStarted`: that shim did not journal the
   * start, so it has run no health check.
   */
  adopt(
    known: { pid: number; startTime: string },
    { as, justStarted }: { as: 'running' | 'paused'; justStarted: boolean },
  ): void {
    const { journal, phases } = this.deps;
    const { gen, execs } = journal.state;
    const { generation, ports } = Generation.takeOver(this.#generationDeps(gen), known);
    this.#ports.inherit(ports);
    phases.move(as === 'paused' ? 'adoptPaused' : 'adoptRunning');
    this.#setCurrent(generation);
    for (const [id, exec] of Object.entries(execs)) if (exec.running) this.execs.takeOver(this.execDeps, id, exec);
    const health = this.#newHealth();
    if (justStarted) health?.start();
    else if (as === 'running' && !generation.init.dead) health?.resume();
  }

  /** Whether the container's end is the reason why the runtime refused a command. */
  async hasEnded(): Promise<boolean> {
    const isAsked = this.deps.journal.pending.intents.length > 0;
    return (await this.#current?.hasEnded({ isAsked })) ?? true;
  }

  /** @throws Refused */
  async pause(): Promise<void> {
    const { phases, specFile, journal } = this.deps;
    // From here on new execs wait for the outcome. An exec that is being started would be frozen half made, and its
    // start not answered until the resume.
    phases.move('pause');
    try {
      await this.execs.startsSettled();
      await refusedOnFailure(specFile.definition.runtime.pause());
    } catch (error) {
      phases.move('pauseFailed');
      if (await this.hasEnded()) throw new Refused('conflict', notRunning(this.deps.id));
      throw error;
    }
    phases.move('paused');
    this.#health?.suspend();
    journal.append({ type: 'paused' });
  }

  /** @throws Refused */
  async resume(): Promise<void> {
    const { phases, specFile, journal } = this.deps;
    phases.check('resume');
    await refusedOnFailure(specFile.definition.runtime.resume());
    phases.move('resume');
    journal.append({ type: 'resumed' });
    this.#health?.resume();
  }

  /** A frozen process does not die of a signal until it is resumed. Takes a turn. @throws Refused */
  async resumeIfPaused(): Promise<void> {
    await this.deps.phases.inTurn(async () => {
      if (this.deps.phases.current === 'paused') await this.resume();
    });
  }

  /** Undoes a create that no start will follow. Takes a turn. @throws Refused */
  async abandon(operation: string, failure: StartFailure): Promise<void> {
    const { phases } = this.deps;
    return phases.inTurn(async () => {
      if (phases.current === 'idle') return;
      phases.move('abandon');
      await this.undo(operation, failure);
    });
  }

  /** Removes every trace of a failed create or start. The phase is a transient one. */
  async undo(operation: string, failure: StartFailure): Promise<void> {
    const generation = this.#current!;
    generation.kill(SIGKILL);
    await generation.init.death;
    await generation.reapAndDelete();
    this.fail(operation, failure);
    await this.deps.journal.durable();
    this.#clearAway(generation);
  }

  /** Journals a failed create or start and answers every client. Returns the refusal for the caller to throw. */
  fail(operation: string, { message, code }: StartFailure): Refused {
    const { journal, phases, sessions, waitClients } = this.deps;
    journal.append({ type: 'failed', error: message, code, operation });
    journal.append({ type: 'final', user: false });
    phases.move('fail');
    settleStops(journal);
    this.#ports.close();
    sessions.closeAll();
    waitClients.answerAll(code);
    return new Refused('failed', message, code);
  }

  /** The container is dead and no restart will follow. */
  finish(): void {
    const { journal, phases, removal } = this.deps;
    journal.append({ type: 'final', user: journal.state.stoppedByUser });
    phases.move('finish');
    this.#ports.close();
    removal.update();
  }

  #generationDeps(gen: number): GenerationDeps {
    const { run, reaper, specFile, logError } = this.deps;
    const onOom = (kills: number): void => this.#recordOom(kills);
    return { gen, run, reaper, logError, ports: this.#ports.fds, onOom, ...specFile.definition };
  }

  #setCurrent(generation: Generation): void {
    this.#current = generation;
    this.#ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    this.deps.sessions.bind(generation.stdio);
    void generation.init.death
      .then((death) => this.deps.phases.inTurn(() => this.#onInitDeath(generation, death)))
      .catch((error: unknown) => this.deps.logError(`the end of generation ${generation.gen}`, error));
  }

  async #onInitDeath(generation: Generation, death: Death): Promise<void> {
    const wasUndone = generation !== this.#current;
    if (wasUndone) return;
    const { journal, id, phases, waitClients } = this.deps;
    const wasStarted = phases.current !== 'created';
    phases.move('die');
    if (!wasStarted)
      return this.undo(journal.pending.operation, {
        message: `the init of container ${id} died before it was started`,
        code: 128,
      });
    this.#health?.suspend();
    this.#health = null;
    this.#recordOom(generation.oomKills(), death.at);
    const oomKilled = journal.pending.oomKills > 0;
    await Promise.all([generation.reapAndDelete(), this.execs.end()]);
    const { code, signal, at, known } = death;
    const error = known ? {} : { error: 'the container ended while no shim watched it: its exit code is not known' };
    journal.append({ type: 'exited', code, signal, oomKilled, ...error }, at);
    this.onDied();
    // The exit is on disk before any client sees it: `docker run` inspects the exit code as soon as its stream ends.
    await journal.durable();
    this.#clearAway(generation);
    waitClients.answerExit(code);
  }

  #recordOom(kills: number, at = now()): void {
    const { journal } = this.deps;
    if (kills > journal.pending.oomKills) journal.append({ type: 'oom', kills }, at);
  }

  #clearAway(generation: Generation): void {
    this.#current = null;
    this.deps.sessions.closeAll();
    generation.close();
    this.#resolveEnded();
  }

  #newHealth(): Health | null {
    const { health } = this.deps.specFile.definition.spec;
    this.#health = health ? new Health(this.execDeps, health) : null;
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
