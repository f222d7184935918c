/**
 * The shim's container and the operations on it. Each part of its life has one owner: the phase and the turns
 * (phase.ts), spec.json (spec-file.ts), its generations (generations.ts), what ends one (stops.ts), what follows a
 * death (restarts.ts), taking over from a dead shim (successor.ts).
 *
 * Each collaborator refers only to those constructed before it; `Generations.onDied` is the one event that goes up.
 * Operations that only reach into the running container (signal, stop, wait, exec, attach) never queue behind a turn.
 */
import type { AttachOptions, WaitCondition } from '../protocol/messages.ts';
import type { RestartPolicy } from '../protocol/records.ts';
import { execWhilePaused, isRestarting, notRunning } from '../protocol/refusals.ts';
import type { ExecSpec, ShimSpec } from '../protocol/spec.ts';
import type { Client } from './clients.ts';
import type { AttachedExec } from './exec.ts';
import type { StartFailure } from './failure.ts';
import { Generations } from './generations.ts';
import type { Journal } from './journal.ts';
import { Phases, type Phase } from './phase.ts';
import type { Reaper } from './reaper.ts';
import { Refused } from './refused.ts';
import { RemovalGrace } from './removal-grace.ts';
import { Restarts } from './restarts.ts';
import { Sessions } from './sessions.ts';
import type { LogError } from './shim-log.ts';
import { StartGrace } from './start-grace.ts';
import { SpecFile } from './spec-file.ts';
import { Stops } from './stops.ts';
import { Successor } from './successor.ts';
import { WaitClients } from './wait-clients.ts';

export interface ContainerDeps {
  id: string;
  /** The container's directory (data root). */
  dir: string;
  /** The container's run directory (exec root). */
  run: string;
  /** Boot id of the running kernel. */
  boot: string;
  journal: Journal;
  reaper: Reaper;
  /** A daemon runs, connected or not. */
  daemonLives: () => boolean;
  logError: LogError;
}

const DEFAULT_SLOW_CLIENT_MS = 60_000;

export class Container {
  readonly #id: string;
  readonly #journal: Journal;
  readonly #phases: Phases;
  readonly #specFile: SpecFile;
  readonly #sessions: Sessions;
  readonly #waitClients = new WaitClients();
  readonly #removal: RemovalGrace;
  readonly #startGrace: StartGrace;
  readonly #generations: Generations;
  readonly #stops: Stops;
  readonly #successor: Successor;

  constructor({ id, dir, run, boot, journal, reaper, daemonLives, logError }: ContainerDeps) {
    const waitClients = this.#waitClients;
    const phases = new Phases(id);
    const specFile = new SpecFile(dir, run, reaper);
    const sessions = sessionsOf(specFile, journal);
    const removal = new RemovalGrace({ dir, journal, phases, specFile, waitClients, daemonLives });
    const startGrace = new StartGrace({ journal, phases, sessions, waitClients });
    const lifecycle = { journal, phases, specFile, logError };
    const generations = new Generations({ ...lifecycle, id, run, reaper, sessions, waitClients, removal });
    const restarts = new Restarts({ ...lifecycle, id, generations, waitClients });
    const stops = new Stops({ ...lifecycle, generations, restarts });
    generations.onDied = () => restarts.decideAfterDeath();

    this.#id = id;
    this.#journal = journal;
    this.#phases = phases;
    this.#specFile = specFile;
    this.#sessions = sessions;
    this.#removal = removal;
    this.#startGrace = startGrace;
    this.#generations = generations;
    this.#stops = stops;
    this.#successor = new Successor({ ...lifecycle, run, boot, reaper, generations, restarts, stops, removal });
  }

  /** Whether the shim must stay: a generation, an attached client, a waiter or an exec is there. */
  get needed(): boolean {
    return (
      this.#phases.current !== 'idle' ||
      this.#sessions.count > 0 ||
      this.#waitClients.count > 0 ||
      this.#generations.execs.count > 0
    );
  }

  get phase(): Phase {
    return this.#phases.current;
  }

  /** For the process title and the shim's cgroup. null until the daemon has written spec.json. */
  get spec(): ShimSpec | null {
    return this.#specFile.spec;
  }

  /** Pids of the processes that only hold descriptors. */
  get keepers(): number[] {
    const pid = this.#generations.current?.keeperPid;
    return pid === undefined ? [] : [pid];
  }

  /** Continues where the previous shim stopped. Called once, before any operation. */
  takeOver(): Promise<void> {
    return this.#successor.takeOver();
  }

  /**
   * Creates the next generation. The daemon sets up its network before it asks for the start.
   * @throws Refused
   */
  async create(operation: string): Promise<{ gen: number; pid: number }> {
    return this.#phases.inTurn(async () => {
      this.#phases.check('create');
      this.#startGrace.cancel();
      if (!this.#journal.writable)
        throw new Refused('failed', 'no space left on device: the journal cannot be written', 128);
      this.#specFile.load();
      return this.#generations.create(operation, 'create');
    });
  }

  /** @throws Refused */
  async start(operation: string): Promise<{ pid: number }> {
    return this.#phases.inTurn(() => this.#generations.start(operation));
  }

  /** Undoes a create. Does nothing when there is none to undo. @throws Refused */
  async abandon(operation: string, failure: StartFailure): Promise<void> {
    return this.#generations.abandon(operation, failure);
  }

  /** @throws Refused */
  async signal(operation: string, signal: number, options: { asUser: boolean }): Promise<void> {
    return this.#stops.signal(operation, signal, options);
  }

  /** @throws Refused */
  async stop(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    return this.#stops.stop(operation, signal, timeoutSeconds);
  }

  /** @throws Refused */
  async restart(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    return this.#stops.restart(operation, signal, timeoutSeconds);
  }

  /** @throws Refused */
  async pause(): Promise<void> {
    return this.#phases.inTurn(() => this.#generations.pause());
  }

  /** @throws Refused */
  async resume(): Promise<void> {
    return this.#phases.inTurn(() => this.#generations.resume());
  }

  update(restart: RestartPolicy): void {
    this.#journal.append({ type: 'updated', restart });
  }

  /** Sets the terminal's size, in characters. @throws Refused */
  resize(height: number, width: number): void {
    this.#generations.requireRunning().stdio.resize(height, width);
    this.#journal.append({ type: 'resized', height, width });
  }

  attach(client: Client, options: AttachOptions): void {
    this.#sessions.add(client, options);
    this.#journal.append({ type: 'attached' });
  }

  wait(client: Client, condition: WaitCondition): void {
    this.#waitClients.add(client, condition);
    if (condition === 'not-running' && this.#phases.current === 'idle')
      this.#waitClients.answerExit(this.#journal.state.exitCode);
  }

  /** Runs a process in the container; see Execs.start() for the result. @throws Refused */
  async exec(spec: ExecSpec, attached: AttachedExec | null): Promise<number> {
    await this.#phases.settled();
    const refusal = execRefusal(this.#phases.current, this.#id);
    if (refusal !== undefined) throw new Refused('conflict', refusal);
    try {
      return await this.#generations.execs.start(this.#generations.execDeps, spec, attached);
    } catch (error) {
      const ended = await this.#generations.hasEnded();
      const end = ended ? notRunning(this.#id) : execRefusal(this.#phases.current, this.#id);
      throw end === undefined ? error : new Refused('conflict', end);
    }
  }

  /** Sets the size of an exec's terminal, in characters. @throws Refused */
  async resizeExec(exec: string, height: number, width: number): Promise<void> {
    return this.#generations.execs.resize(exec, height, width);
  }

  /** The daemon has removed the container. */
  removed(): void {
    this.#waitClients.answerAll(this.#journal.state.exitCode);
    this.#sessions.closeAll();
  }

  async hostGoesDown(): Promise<void> {
    return this.#stops.hostGoesDown();
  }

  /** A daemon has connected or disconnected. */
  setDaemonConnected(connected: boolean): void {
    this.#removal.setDaemonConnected(connected);
    this.#startGrace.setDaemonConnected(connected);
  }
}

/** The container's attached clients. */
function sessionsOf(specFile: SpecFile, journal: Journal): Sessions {
  return new Sessions({
    logPath: () => {
      const spec = specFile.spec;
      if (!spec) return undefined;
      const { log } = spec;
      return log.driver === 'json-file' ? log.path : null;
    },
    get slowClientMs() {
      return specFile.spec?.slowClientMs ?? DEFAULT_SLOW_CLIENT_MS;
    },
    onDetach: () => void journal.append({ type: 'detached' }),
  });
}

/** Why no exec can run in this phase. */
function execRefusal(phase: Phase, id: string): string | undefined {
  switch (phase) {
    case 'running':
      return undefined;
    case 'paused':
      return execWhilePaused(id);
    case 'backoff':
      return isRestarting(id);
    default:
      return notRunning(id);
  }
}
