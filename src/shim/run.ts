/**
 * The life of one container through all its generations: create, start, the end, the restart policy. Moves from phase to
 * phase (phase.ts) one at a time; what merely reaches into the running container (signals, stops, waits, execs, attached
 * clients) never queues behind them. Each intent is in the journal before it is acted upon.
 */
import { closeSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AttachOptions, WaitCondition } from '../protocol/messages.ts';
import { SPEC_FILE } from '../protocol/paths.ts';
import type { RestartPolicy } from '../protocol/records.ts';
import type { ExecSpec, ShimSpec } from '../protocol/spec.ts';
import type { StopIntent } from './carried.ts';
import type { Client } from './clients.ts';
import { Execs } from './exec.ts';
import { startFailure, type StartFailure } from './failure.ts';
import { clearLeftovers, Generation, type Making } from './generation.ts';
import { Health } from './health.ts';
import { now, type Journal } from './journal.ts';
import { LogWriter } from './log/writer.ts';
import { isPassing, isUp, next, type Move, type Phase } from './phase.ts';
import { Ports } from './ports.ts';
import type { Death, Reaper } from './reaper.ts';
import { Refused } from './refused.ts';
import { decide } from './restart.ts';
import { Runtime } from './runtime.ts';
import { Sessions } from './sessions.ts';
import { bringDown } from './stop.ts';
import { plan } from './takeover.ts';
import { Waiters } from './wait.ts';

export interface RunOptions {
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

const SPEC_VERSION = 1;
const DEFAULT_SLOW_CLIENT_MS = 60_000;
/** What `condition=removed` waiters of an auto-removed container wait for a daemon to come. */
const REMOVAL_GRACE_MS = 500;
const SIGKILL = 9;
const LOST = { code: 255, signal: 0, oomKilled: false } as const;

export class Run {
  readonly waiters = new Waiters();
  readonly execs = new Execs();
  #phase: Phase = 'idle';
  #settled: (() => void)[] = [];
  #tail: Promise<unknown> = Promise.resolve();
  #generation: Generation | null = null;
  /** Resolves when the generation's end is told and cleared away. */
  #over: Promise<void> = Promise.resolve();
  #setOver: () => void = () => {};
  #spec: ShimSpec | null = null;
  #runtime: Runtime | null = null;
  #log: LogWriter | null = null;
  #sessions: Sessions | null = null;
  #health: Health | null = null;
  readonly #ports = new Ports();
  #backoff: NodeJS.Timeout | undefined;
  #removal: NodeJS.Timeout | undefined;
  /** Restarts under way: the next end is not the last. */
  #restarts = new Set<string>();
  #shuttingDown = false;

  constructor(private readonly o: RunOptions) {}

  /** Whether the shim is needed: a generation, a client, a waiter, an exec. */
  get needed(): boolean {
    return this.#phase !== 'idle' || (this.#sessions?.count ?? 0) > 0 || this.waiters.count > 0 || this.execs.count > 0;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Of the container: for the process title, and the shim's cgroup. null before the daemon has written it. */
  get spec(): ShimSpec | null {
    return this.#spec ?? this.#readSpecIfThere();
  }

  /** Pids of the processes that only hold descriptors. */
  get keepers(): number[] {
    const pid = this.#generation?.keeperPid;
    return pid === undefined ? [] : [pid];
  }

  /** A runtime command is under way. */
  get busy(): boolean {
    return this.#runtime?.busy ?? false;
  }

  // -- what the daemon asks for --

  async create(operation: string): Promise<{ gen: number; pid: number }> {
    return this.#exclusive(async () => {
      next(this.#phase, 'create', this.o.id);
      if (!this.o.journal.writable) throw new Refused('failed', 'no space left on device: the journal cannot be written', 128);
      this.#loadSpec();
      return this.#create(operation, 'create');
    });
  }

  async start(operation: string): Promise<{ pid: number }> {
    return this.#exclusive(() => this.#start(operation));
  }

  async abandon(operation: string, failure: StartFailure): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#phase === 'idle') return;
      this.#move('abandon');
      await this.#undo(operation, failure);
    });
  }

  async signal(operation: string, signal: number, options: { asUser: boolean }): Promise<void> {
    await this.#untilSettled();
    const { journal } = this.o;
    if (this.#phase === 'backoff' && options.asUser) {
      journal.append({ type: 'stopping', operation, signal, deadlineMs: -1, restart: false, kill: true });
      return this.#cancelRestart();
    }
    const generation = this.#up();
    if (options.asUser) journal.append({ type: 'stopping', operation, signal, deadlineMs: -1, restart: false, kill: true });
    if (generation.kill(signal)) journal.append({ type: 'killed', signal });
    if (options.asUser || signal === SIGKILL) await this.#thaw();
  }

  async stop(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    await this.#untilSettled();
    const { journal } = this.o;
    const deadlineMs = timeoutSeconds < 0 ? -1 : timeoutSeconds * 1000;
    if (this.#phase !== 'backoff') this.#up();
    journal.append({ type: 'stopping', operation, signal, deadlineMs, restart: false });
    if (this.#phase === 'backoff') await this.#cancelRestart();
    else await this.#bringDown(signal, deadlineMs, { sent: false });
    journal.append({ type: 'stopped', operation });
  }

  async restart(operation: string, signal: number, timeoutSeconds: number): Promise<void> {
    await this.#untilSettled();
    if (this.#phase !== 'backoff') this.#up();
    const deadlineMs = timeoutSeconds < 0 ? -1 : timeoutSeconds * 1000;
    this.#restarts.add(operation);
    try {
      this.o.journal.append({ type: 'stopping', operation, signal, deadlineMs, restart: true });
      if (this.#phase !== 'backoff') await this.#bringDown(signal, deadlineMs, { sent: false });
      await this.#startAgain(operation);
    } finally {
      this.#restarts.delete(operation);
    }
  }

  async pause(): Promise<void> {
    return this.#exclusive(async () => {
      next(this.#phase, 'pause', this.o.id);
      await this.#tell(this.#runtime!.pause());
      this.#health?.suspend();
      this.#move('pause');
      this.o.journal.append({ type: 'paused' });
    });
  }

  async resume(): Promise<void> {
    return this.#exclusive(() => this.#resume());
  }

  update(restart: RestartPolicy): void {
    this.o.journal.append({ type: 'updated', restart });
  }

  resize(height: number, width: number): void {
    this.#up().stdio.resize(height, width);
    this.o.journal.append({ type: 'resized', height, width });
  }

  attach(client: Client, options: AttachOptions): void {
    this.#attached().add(client, options);
    this.o.journal.append({ type: 'attached' });
  }

  wait(client: Client, condition: WaitCondition): void {
    this.waiters.add(client, condition);
    if (condition === 'not-running' && this.#phase === 'idle') this.waiters.exited(this.o.journal.state.exitCode);
  }

  async exec(spec: ExecSpec, attached: { client: Client; options: AttachOptions } | null): Promise<number> {
    await this.#untilSettled();
    const refused = this.#phase === 'paused' ? `Container ${this.o.id} is paused, unpause the container before exec`
      : this.#phase === 'backoff' ? `Container ${this.o.id} is restarting, wait until the container is running`
      : this.#phase !== 'running' ? `container ${this.o.id} is not running` : '';
    if (refused !== '') {
      if (attached) closeSync(attached.client.fd);
      throw new Refused('conflict', refused);
    }
    return this.execs.start(this.#surroundings(), spec, attached);
  }

  /** The container is gone. */
  removed(): void {
    this.waiters.all(this.o.journal.state.exitCode);
    this.#sessions?.closeAll();
  }

  /** The host goes down: the container is stopped within its own time, and is not a user's stop. */
  async shutdown(): Promise<void> {
    this.#shuttingDown = true;
    this.o.journal.append({ type: 'shutdown' });
    if (this.#phase === 'created') await this.abandon('', { message: 'the host is shutting down', code: 128 });
    await this.#untilSettled();
    if (this.#phase === 'backoff') await this.#cancelRestart();
    const spec = this.spec;
    if (isUp(this.#phase) && spec) await this.#bringDown(spec.stopSignal, spec.stopTimeout < 0 ? -1 : spec.stopTimeout * 1000, { sent: false });
    await this.o.journal.durable();
  }

  /** A daemon has come or gone: it removes auto-removed containers, without one their waiters are not kept. */
  daemonChanged(): void {
    this.#considerRemoval();
  }

  // -- a dead shim's inheritance --

  /** Goes on where the journal says that the last shim stood. Called once, before anything else. */
  takeOver(): void {
    const { journal, boot } = this.o;
    const { state, carried } = journal;
    const step = plan({ state, carried, boot });
    if (step.do !== 'rest') this.#loadSpec();
    switch (step.do) {
      case 'rest':
        this.#settleIntents();
        return;
      case 'adopt':
        return this.#adopt();
      case 'lost':
        journal.append({ type: 'exited', ...LOST, error: 'the host went down while the container was running' });
        return this.#finish();
      case 'fail':
        journal.append({ type: 'failed', operation: carried.operation, code: 128, error: 'the host went down while the container was being started' });
        return this.#finish();
      case 'finish':
        return this.#finish();
      case 'clear':
        this.#move('clear');
        void this.#exclusive(() => this.#clear(step.then)).catch((error: unknown) => this.o.complain('clearing away a half-made container', error));
        return;
      case 'decide':
        this.#move('clear');
        this.#decide();
        return this.#settleIntents();
      case 'await-restart':
        if (step.by === 'policy') {
          this.#move('adoptBackoff');
          return this.#scheduleRestart(Math.max(0, Number((BigInt(carried.restartAt) - now().mono) / 1_000_000n)));
        }
        this.#move('adoptBetween');
        return this.#resumeIntents();
    }
  }

  // -- generations --

  #making(gen: number): Making {
    return { gen, spec: this.#spec!, run: this.o.run, runtime: this.#runtime!, reaper: this.o.reaper, log: this.#log!, ports: this.#ports.fds };
  }

  #surroundings() {
    return { run: this.o.run, spec: this.#spec!, runtime: this.#runtime!, reaper: this.o.reaper, journal: this.o.journal };
  }

  async #create(operation: string, move: 'create' | 'recreate'): Promise<{ gen: number; pid: number }> {
    const { journal, id } = this.o;
    const spec = this.#spec!;
    this.#move(move);
    clearTimeout(this.#removal);
    const { gen } = journal.append({ type: 'creating', operation });
    try {
      this.#ports.hold(spec.ports, { id, name: spec.name });
      this.#live(await Generation.create(this.#making(gen)));
    } catch (error) {
      throw this.#failed(operation, startFailure('create', error));
    }
    const { pid, startTime } = this.#generation!.init;
    journal.append({ type: 'created', pid, startTime });
    this.#move('created');
    return { gen, pid };
  }

  async #start(operation: string): Promise<{ pid: number }> {
    const { journal } = this.o;
    this.#move('start');
    const generation = this.#generation!;
    try {
      await generation.start();
    } catch (error) {
      const failure = startFailure('start', error);
      await this.#undo(operation, failure);
      throw new Refused('failed', failure.message, failure.code);
    }
    const { pid, startTime } = generation.init;
    journal.append({ type: 'started', pid, startTime, operation });
    this.#move('started');
    this.#watchHealth()?.start();
    return { pid };
  }

  #live(generation: Generation): void {
    this.#generation = generation;
    this.#over = new Promise((resolve) => (this.#setOver = resolve));
    this.#attached().bind(generation.stdio);
    void generation.init.death.then((death) => this.#exclusive(() => this.#ended(generation, death)))
      .catch((error: unknown) => this.o.complain(`the end of generation ${generation.gen}`, error));
  }

  async #ended(generation: Generation, death: Death): Promise<void> {
    // Undone, or told already.
    if (generation !== this.#generation) return;
    const { journal, id } = this.o;
    if (this.#phase === 'created') {
      this.#move('die');
      return this.#undo(journal.carried.operation, { message: `the init of container ${id} died before it was started`, code: 128 });
    }
    this.#move('die');
    this.#health?.suspend();
    this.#health = null;
    const oomKilled = generation.oomKills() > 0;
    if (oomKilled) journal.append({ type: 'oom' }, death.at);
    await Promise.all([generation.bury(), this.execs.end()]);
    const { code, signal, at, known } = death;
    const error = known ? {} : { error: 'the container ended while no shim watched it: its exit code is not known' };
    journal.append({ type: 'exited', code, signal, oomKilled, ...error }, at);
    this.#decide();
    // On disk before anybody hears of it; and clients' streams end after the code is on record (api-wire.md 62).
    await journal.durable();
    this.#clearAway(generation);
    this.waiters.exited(code);
  }

  /** The container is dead: what next? */
  #decide(): void {
    const { journal } = this.o;
    const { state, carried } = journal;
    if (this.#restarts.size > 0 && !this.#shuttingDown) return this.#move('await');
    const ranMs = state.startedAt === '' ? 0 : Number((BigInt(state.finishedAt) - BigInt(state.startedAt)) / 1_000_000n);
    const decision = decide(this.#policy(), {
      code: state.exitCode, ranMs, stoppedByUser: state.stoppedByUser, shutdown: this.#shuttingDown || carried.shutdown,
      restartCount: state.restartCount, backoffMs: carried.backoffMs,
    });
    if (!decision.restart) {
      journal.append({ type: 'final', user: state.stoppedByUser });
      return this.#rest();
    }
    const at = now();
    journal.append({ type: 'restarting', count: decision.count, at: String(at.wall + BigInt(decision.delayMs) * 1_000_000n) }, at);
    this.#move('retry');
    this.#scheduleRestart(decision.delayMs);
  }

  #policy = (): RestartPolicy => this.o.journal.state.restart ?? this.#spec!.restart;

  #scheduleRestart(delayMs: number): void {
    this.#backoff = setTimeout(() => {
      void this.#exclusive(async () => {
        // A client may have asked for its end while this waited for its turn.
        if (this.#phase !== 'backoff' || this.o.journal.state.stoppedByUser || this.#shuttingDown) return;
        await this.#create('', 'recreate');
        await this.#start('');
      }).catch((error: unknown) => {
        if (!(error instanceof Refused)) this.o.complain('restarting by policy', error);
      });
    }, delayMs);
  }

  /** A client wants the dead container to stay dead. */
  async #cancelRestart(): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#phase !== 'backoff') return;
      clearTimeout(this.#backoff);
      const { journal } = this.o;
      journal.append({ type: 'final', user: journal.state.stoppedByUser });
      this.#rest();
      await journal.durable();
      this.waiters.exited(journal.state.exitCode);
    });
  }

  /** The second half of a client's restart. */
  async #startAgain(operation: string): Promise<void> {
    await this.#exclusive(async () => {
      clearTimeout(this.#backoff);
      // Somebody else's restart may have been quicker.
      if (isUp(this.#phase)) return;
      if (this.#phase !== 'between' && this.#phase !== 'backoff') throw new Refused('failed', `container ${this.o.id} was stopped meanwhile`);
      await this.#create(operation, 'recreate');
      await this.#start(operation);
    });
    this.o.journal.append({ type: 'restarted', operation });
  }

  async #bringDown(signal: number, remainingMs: number, { sent }: { sent: boolean }): Promise<void> {
    const generation = this.#up();
    const over = this.#over;
    await bringDown(generation, this.o.journal, { signal, remainingMs, sent, thaw: () => this.#thaw() });
    await over;
  }

  /** A create or start that did not work out: nothing of it remains. Its phase is passing. */
  async #undo(operation: string, failure: StartFailure): Promise<void> {
    const generation = this.#generation!;
    generation.kill(SIGKILL);
    await generation.init.death;
    await generation.bury();
    this.#failed(operation, failure);
    await this.o.journal.durable();
    this.#clearAway(generation);
  }

  #failed(operation: string, { message, code }: StartFailure): Refused {
    const { journal } = this.o;
    journal.append({ type: 'failed', error: message, code, operation });
    journal.append({ type: 'final', user: false });
    this.#move('fail');
    this.#settleIntents();
    this.#ports.release();
    this.#sessions?.closeAll();
    this.waiters.all(code);
    return new Refused('failed', message, code);
  }

  #clearAway(generation: Generation): void {
    this.#generation = null;
    this.#sessions?.closeAll();
    generation.release();
    this.#setOver();
  }

  /** Final: whoever waits for the removal of an auto-removed container is not kept when no daemon is there to do it. */
  #rest(): void {
    this.#move('finish');
    this.#ports.release();
    this.#considerRemoval();
  }

  #considerRemoval(): void {
    clearTimeout(this.#removal);
    if (this.#phase !== 'idle' || !this.o.journal.state.final || !this.#spec?.autoRemove || this.o.daemonConnected()) return;
    this.#removal = setTimeout(() => this.waiters.all(this.o.journal.state.exitCode), REMOVAL_GRACE_MS);
  }

  async #resume(): Promise<void> {
    next(this.#phase, 'resume', this.o.id);
    await this.#tell(this.#runtime!.resume());
    this.#move('resume');
    this.o.journal.append({ type: 'resumed' });
    this.#health?.resume();
  }

  async #thaw(): Promise<void> {
    await this.#exclusive(async () => {
      if (this.#phase === 'paused') await this.#resume();
    });
  }

  // -- taking over --

  #adopt(): void {
    const { journal } = this.o;
    const { state } = journal;
    const { generation, ports } = Generation.takeOver(this.#making(state.gen), { pid: state.pid, startTime: state.pidStartTime });
    this.#ports.adopt(ports);
    this.#move(state.status === 'paused' ? 'adoptPaused' : 'adoptRunning');
    this.#live(generation);
    for (const [id, exec] of Object.entries(state.execs)) if (exec.running) this.execs.takeOver(this.#surroundings(), id, exec);
    if (!generation.init.dead && state.status === 'running') this.#watchHealth()?.resume();
    else this.#watchHealth();
    this.#resumeIntents();
  }

  async #clear(then: 'fail' | 'retry'): Promise<void> {
    const { journal } = this.o;
    const { state, carried } = journal;
    const known = state.pid > 0 ? { pid: state.pid, startTime: state.pidStartTime } : undefined;
    if (known && (await this.#runtime!.state())?.status === 'running') {
      // It had been let go, only the record is missing.
      journal.append({ type: 'started', ...known, operation: carried.operation });
      return this.#adoptStarted(known);
    }
    await clearLeftovers(this.#runtime!, this.o.run, { gen: state.gen, pid: state.pid, startTime: state.pidStartTime });
    if (then === 'fail') {
      this.#failed(carried.operation, { message: 'the start was interrupted: the container\'s shim died', code: 128 });
      return;
    }
    if (carried.intents.some((intent) => intent.restart)) {
      this.#move('adoptBetween');
      return this.#resumeIntents();
    }
    this.#move('adoptBackoff');
    this.#scheduleRestart(0);
  }

  #adoptStarted(known: { pid: number; startTime: string }): void {
    const { generation, ports } = Generation.takeOver(this.#making(this.o.journal.state.gen), known);
    this.#ports.adopt(ports);
    this.#move('adoptRunning');
    this.#live(generation);
    this.#watchHealth()?.start();
    this.#resumeIntents();
  }

  /** Stops and restarts that the dead shim had not finished. */
  #resumeIntents(): void {
    for (const intent of this.o.journal.carried.intents) {
      void this.#resumeIntent(intent).catch((error: unknown) => this.o.complain(`going on with ${intent.operation}`, error));
    }
  }

  async #resumeIntent({ operation, signal, deadlineMs, restart, kill, since, sent }: StopIntent): Promise<void> {
    const { journal } = this.o;
    if (kill) {
      if (!sent && isUp(this.#phase) && this.#up().kill(signal)) journal.append({ type: 'killed', signal });
      return;
    }
    if (restart) this.#restarts.add(operation);
    try {
      const elapsedMs = Number((now().mono - BigInt(since)) / 1_000_000n);
      if (isUp(this.#phase)) await this.#bringDown(signal, deadlineMs < 0 ? -1 : Math.max(1, deadlineMs - elapsedMs), { sent });
      if (restart) await this.#startAgain(operation);
      else journal.append({ type: 'stopped', operation });
    } finally {
      this.#restarts.delete(operation);
    }
  }

  /** Dead already: what stops still owe is their record. */
  #settleIntents(): void {
    for (const { operation, restart, kill } of this.o.journal.carried.intents) {
      if (!restart && !kill) this.o.journal.append({ type: 'stopped', operation });
    }
  }

  #finish(): void {
    const { journal } = this.o;
    journal.append({ type: 'final', user: journal.state.stoppedByUser });
    this.#settleIntents();
    this.#considerRemoval();
  }

  // -- small parts --

  #move(move: Move): void {
    this.#phase = next(this.#phase, move, this.o.id);
    if (isPassing(this.#phase)) return;
    for (const settled of this.#settled.splice(0)) settled();
  }

  async #untilSettled(): Promise<void> {
    while (isPassing(this.#phase)) await new Promise<void>((resolve) => this.#settled.push(resolve));
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }

  /** The generation whose process runs. @throws Refused */
  #up(): Generation {
    if (!isUp(this.#phase) || !this.#generation) throw new Refused('conflict', `container ${this.o.id} is not running`);
    return this.#generation;
  }

  async #tell(command: Promise<void>): Promise<void> {
    try {
      await command;
    } catch (error) {
      throw new Refused('failed', error instanceof Error ? error.message : String(error));
    }
  }

  #watchHealth(): Health | null {
    const { health } = this.#spec!;
    this.#health = health ? new Health(this.#surroundings(), health) : null;
    return this.#health;
  }

  #attached(): Sessions {
    this.#sessions ??= new Sessions({
      logPath: () => (this.spec?.log.driver === 'json-file' ? this.spec.log.path : null),
      slowClientMs: this.spec?.slowClientMs ?? DEFAULT_SLOW_CLIENT_MS,
      onDetach: () => void this.o.journal.append({ type: 'detached' }),
    });
    return this.#sessions;
  }

  /** Anew for each create: the daemon may have changed it. */
  #loadSpec(): void {
    const spec = this.#readSpecIfThere();
    if (!spec) throw new Refused('failed', `${join(this.o.dir, SPEC_FILE)} cannot be read`, 128);
    if (spec.version > SPEC_VERSION) throw new Refused('failed', `${SPEC_FILE} has version ${spec.version}, this shim knows ${SPEC_VERSION}`, 128);
    const former = this.#spec;
    this.#spec = spec;
    this.#runtime = new Runtime(spec, this.o.run);
    if (this.#log && JSON.stringify(former?.log) === JSON.stringify(spec.log)) return;
    this.#log?.close();
    this.#log = new LogWriter(spec.log);
  }

  #readSpecIfThere(): ShimSpec | null {
    try {
      return JSON.parse(readFileSync(join(this.o.dir, SPEC_FILE), 'utf8')) as ShimSpec;
    } catch {
      return null;
    }
  }
}
