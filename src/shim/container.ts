/**
 * The shim's container, and what can be asked of it. The parts of its life have an owner each:
 * its phase and the turns (phase.ts), what it is made from (spec-file.ts), its generations (generations.ts), what ends
 * one
 * (stops.ts), what comes after the end (restarts.ts), a dead shim's inheritance (successor.ts). What merely reaches
 * into the
 * running container (signals, stops, waits, execs, attached clients) never queues behind a turn.
 */
import { closeSync } from 'node:fs';
import type { AttachOptions, WaitCondition } from '../protocol/messages.ts';
import type { RestartPolicy } from '../protocol/records.ts';
import type { ExecSpec, ShimSpec } from '../protocol/spec.ts';
import type { Client } from './clients.ts';
import type { StartFailure } from './failure.ts';
import { Generations } from './generations.ts';
import type { Journal } from './journal.ts';
import { Phases, type Phase } from './phase.ts';
import type { Reaper } from './reaper.ts';
import { Refused } from './refused.ts';
import { RemovalGrace } from './removal-grace.ts';
import { Restarts } from './restarts.ts';
import { Sessions } from './sessions.ts';
import { SpecFile } from './spec-file.ts';
import { Stops } from './stops.ts';
import { Successor } from './successor.ts';
import { Waiters } from './wait-clients.ts';

export interface ContainerOptions {
  id: string;
  /** The container's directory and its run directory. */
  dir: string;
  run: string;
  boot: string;
  journal: Journal;
  reaper: Reaper;
  /** A daemon is connected: it removes what is to be removed. */
  daemonConnected: () => boolean;
  /** Something did not go as it should, and nobody is there to be told. */
  complain: (what: string, error: unknown) => void;
}

const DEFAULT_SLOW_CLIENT_MS = 60_000;

export class Container {
  readonly #phases: Phases;
  readonly #specFile: SpecFile;
  readonly #sessions: Sessions;
  readonly #waiters = new Waiters();
  readonly #removal: RemovalGrace;
  readonly #generations: Generations;
  readonly #restarts: Restarts;
  readonly #stops: Stops;
  readonly #successor: Successor;

  constructor(private readonly o: ContainerOptions) {
    const { id, dir, run, boot, journal, reaper, daemonConnected, complain } = o;
    const phases = (this.#phases = new Phases(id));
    const specFile = (this.#specFile = new SpecFile(dir, run, reaper));
    const sessions = (this.#sessions = sessionsOf(specFile, journal));
    const waiters = this.#waiters;
    const removal = (this.#removal = new RemovalGrace({ dir, journal, phases, specFile, waiters, daemonConnected }));
    const decide = (): void => this.#restarts.decide();
    const generations = (this.#generations = new Generations({
      id,
      run,
      journal,
      reaper,
      phases,
      specFile,
      sessions,
      waiters,
      removal,
      decide,
      complain,
    }));
    const restarts = (this.#restarts = new Restarts({ id, journal, phases, specFile, generations, waiters, complain }));
    const stops = (this.#stops = new Stops({ journal, phases, specFile, generations, restarts, complain }));
    this.#successor = new Successor({
      run,
      boot,
      journal,
      phases,
      specFile,
      generations,
      restarts,
      stops,
      removal,
      complain,
    });
  }

  /** Whether the shim is needed: a generation, a client, a waiter, an exec. */
  get needed(): boolean {
    return (
      this.#phases.current !== 'idle' ||
      this.#sessions.count > 0 ||
      this.#waiters.count > 0 ||
      this.#generations.execs.count > 0
    );
  }

  get phase(): Phase {
    return this.#phases.current;
  }

  /** For the process title, and the shim's cgroup. null before the daemon has written it. */
  get spec(): ShimSpec | null {
    return this.#specFile.spec;
  }

  /** Pids of the processes that only hold descriptors. */
  get keepers(): number[] {
    const pid = this.#generations.current?.keeperPid;
    return pid === undefined ? [] : [pid];
  }

  /** A runtime command is under way. */
  get busy(): boolean {
    return this.#specFile.busy;
  }

  /** Goes on where the last shim stood. Called once, before anything else. */
  takeOver(): void {
    this.#successor.takeOver();
  }

  /** Makes the next generation; the daemon sets up its network before it asks for the start. */
  async create(operation: string): Promise<{ gen: number; pid: number }> {
    return this.#phases.inTurn(async () => {
      this.#phases.check('create');
      if (!this.o.journal.writable)
        throw new Refused('failed', 'no space left on device: the journal cannot be written', 128);
      this.#specFile.load();
      return this.#generations.create(operation, 'create');
    });
  }

  async start(operation: string): Promise<{ pid: number }> {
    return this.#phases.inTurn(() => this.#generations.start(operation));
  }

  async abandon(operation: string, failure: StartFailure): Promise<void> {
    return this.#generations.abandon(operation, failure);
  }

  async signal(operation: string, signal: number, options: { asUser: boolean }): Promise<void> {
    return this.#stops.signal(operation, signal, options);
  }

  async stop(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    return this.#stops.stop(operation, signal, timeoutSeconds);
  }

  async restart(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    return this.#stops.restart(operation, signal, timeoutSeconds);
  }

  async pause(): Promise<void> {
    return this.#phases.inTurn(() => this.#generations.pause());
  }

  async resume(): Promise<void> {
    return this.#phases.inTurn(() => this.#generations.resume());
  }

  update(restart: RestartPolicy): void {
    this.o.journal.append({ type: 'updated', restart });
  }

  resize(height: number, width: number): void {
    this.#generations.up().stdio.resize(height, width);
    this.o.journal.append({ type: 'resized', height, width });
  }

  attach(client: Client, options: AttachOptions): void {
    this.#sessions.add(client, options);
    this.o.journal.append({ type: 'attached' });
  }

  wait(client: Client, condition: WaitCondition): void {
    this.#waiters.add(client, condition);
    if (condition === 'not-running' && this.#phases.current === 'idle')
      this.#waiters.exited(this.o.journal.state.exitCode);
  }

  /** Runs a process in it. Owns the client's connection. @throws Refused */
  async exec(spec: ExecSpec, attached: { client: Client; options: AttachOptions } | null): Promise<number> {
    await this.#phases.settled();
    const refusal = execRefusal(this.#phases.current, this.o.id);
    if (refusal !== undefined) {
      if (attached) closeSync(attached.client.fd);
      throw new Refused('conflict', refusal);
    }
    return this.#generations.execs.start(this.#generations.surroundings, spec, attached);
  }

  async resizeExec(exec: string, height: number, width: number): Promise<void> {
    return this.#generations.execs.resize(exec, height, width);
  }

  /** The daemon has removed it. */
  removed(): void {
    this.#waiters.all(this.o.journal.state.exitCode);
    this.#sessions.closeAll();
  }

  async hostGoesDown(): Promise<void> {
    return this.#stops.hostGoesDown();
  }

  /** A daemon has come or gone. */
  daemonChanged(): void {
    this.#removal.consider();
  }
}

/** Its attached clients. */
function sessionsOf(specFile: SpecFile, journal: Journal): Sessions {
  return new Sessions({
    logPath: () => {
      const log = specFile.spec?.log;
      return log?.driver === 'json-file' ? log.path : null;
    },
    get slowClientMs() {
      return specFile.spec?.slowClientMs ?? DEFAULT_SLOW_CLIENT_MS;
    },
    onDetach: () => void journal.append({ type: 'detached' }),
  });
}

/** Why no exec can run in this phase, in moby's words. */
function execRefusal(phase: Phase, id: string): string | undefined {
  switch (phase) {
    case 'running':
      return undefined;
    case 'paused':
      return `Container ${id} is paused, unpause the container before exec`;
    case 'backoff':
      return `Container ${id} is restarting, wait until the container is running`;
    default:
      return `container ${id} is not running`;
  }
}
