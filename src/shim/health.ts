/** Health checks with Docker's semantics (moby daemon/health.go): probes run as execs, judged here, with no daemon. */
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { HealthProbe, HealthStatus } from '../protocol/records.ts';
import type { HealthSpec, ShimSpec } from '../protocol/spec.ts';
import { removeFile } from '../sys/file.ts';
import { wallClock } from '../sys/clock.ts';
import type { Fd } from '../sys/libc.ts';
import { SIGKILL } from '../sys/process.ts';
import { Child } from './child.ts';
import { makeOutputFifo } from './fifo.ts';
import { now, type Journal } from './journal.ts';
import type { Reaper } from './reaper.ts';
import type { Runtime } from './runtime.ts';

const DEFAULTS = { interval: 30_000, timeout: 30_000, startPeriod: 0, startInterval: 5_000, retries: 3 } as const;
const MAX_OUTPUT = 4096;
/** Output that a probe's own children hold open after its end is not waited for longer than this. */
const DRAIN_MS = 500;
const NOT_RUN = -1;

export interface HealthState {
  status: HealthStatus;
  streak: number;
}

/** A probe's result and what it means. Pure. */
export function judge(
  before: HealthState,
  exitCode: number,
  timing: { sinceStartMs: number; startPeriodMs: number; retries: number },
): HealthState {
  if (exitCode === 0) return { status: 'healthy', streak: 0 };
  if (before.status === 'starting' && timing.sinceStartMs < timing.startPeriodMs) return before;
  const streak = before.streak + 1;
  return { status: streak >= timing.retries ? 'unhealthy' : before.status, streak };
}

/** Milliseconds until the next probe. Pure. */
export function nextProbeIn(status: HealthStatus, sinceStartMs: number, spec: HealthSpec): number {
  const duringStart = status === 'starting' && sinceStartMs < (spec.startPeriod || DEFAULTS.startPeriod);
  return duringStart ? spec.startInterval || DEFAULTS.startInterval : spec.interval || DEFAULTS.interval;
}

export interface HealthSurroundings {
  spec: ShimSpec;
  run: string;
  runtime: Runtime;
  reaper: Reaper;
  journal: Journal;
}

export class Health {
  #timer: NodeJS.Timeout | undefined;
  /** The probe under way: a suspended or stopped check does not hear of it any more. */
  #probe: Child | null = null;
  #watching = 0;
  #running: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly o: HealthSurroundings,
    private readonly health: HealthSpec,
  ) {}

  /** The container has just started. */
  start(): void {
    this.o.journal.append({ type: 'health', status: 'starting', streak: 0 });
    this.resume();
  }

  /** The container runs (again): the next probe comes after an interval. */
  resume(): void {
    this.suspend();
    this.#schedule(++this.#watching);
  }

  /** Paused, or about to end: no probes. */
  suspend(): void {
    this.#watching++;
    clearTimeout(this.#timer);
    this.#probe?.kill(SIGKILL);
  }

  #schedule(watch: number): void {
    this.#timer = setTimeout(
      () => void this.#check(watch),
      nextProbeIn(this.#state().status, this.#sinceStartMs(), this.health),
    );
  }

  async #check(watch: number): Promise<void> {
    // One that was abandoned may still be dying.
    await this.#running;
    const sinceStartMs = this.#sinceStartMs();
    const running = this.#run(watch);
    this.#running = running;
    const probe = await running;
    if (watch !== this.#watching) return;
    const timing = {
      sinceStartMs,
      startPeriodMs: this.health.startPeriod || DEFAULTS.startPeriod,
      retries: this.health.retries || DEFAULTS.retries,
    };
    this.o.journal.append({ type: 'health', ...judge(this.#state(), probe.exitCode, timing), probe });
    this.#schedule(watch);
  }

  #state(): HealthState {
    const { health } = this.o.journal.state;
    return { status: health?.status ?? 'starting', streak: health?.streak ?? 0 };
  }

  #sinceStartMs(): number {
    const { startedMono } = this.o.journal.carried;
    return startedMono === '' ? 0 : Number((now().mono - BigInt(startedMono)) / 1_000_000n);
  }

  async #run(watch: number): Promise<HealthProbe> {
    const start = String(wallClock());
    const result = await this.#exec(watch).catch((error: unknown) => ({
      exitCode: NOT_RUN,
      output: error instanceof Error ? error.message : String(error),
    }));
    return { start, end: String(wallClock()), ...result };
  }

  async #exec(watch: number): Promise<Pick<HealthProbe, 'exitCode' | 'output' | 'killed'>> {
    const { run, runtime, reaper, spec } = this.o;
    const json = join(run, 'health.json');
    const exitNote = join(run, 'health.exit');
    writeFileSync(json, JSON.stringify(probeProcess(spec, this.health)), { mode: 0o600 });
    const pipe = new OutputPipe(join(run, 'health.out'));
    try {
      const pid = await runtime.exec(
        { stdio: ['ignore', pipe.writeEnd, pipe.writeEnd], consoleSocket: '' },
        { key: 'health', json },
      );
      pipe.started();
      const child = Child.born(pid, reaper, exitNote);
      this.#probe = child;
      if (watch !== this.#watching) child.kill(SIGKILL);
      const timeout = this.health.timeout || DEFAULTS.timeout;
      let expired = false;
      const timer = setTimeout(() => {
        expired = true;
        child.kill(SIGKILL);
      }, timeout);
      const { code } = await child.death;
      clearTimeout(timer);
      child.release();
      const output = await pipe.rest();
      if (!expired) return { exitCode: code, output };
      const complaint = `Health check exceeded timeout (${goDuration(timeout)})`;
      return { exitCode: NOT_RUN, killed: code, output: output === '' ? complaint : `${complaint}: ${output}` };
    } finally {
      this.#probe = null;
      pipe.close();
    }
  }
}

/** The container's own process, with the probe's arguments. */
function probeProcess(spec: ShimSpec, { argv }: HealthSpec): unknown {
  const config = JSON.parse(readFileSync(join(spec.bundle, 'config.json'), 'utf8')) as { process: object };
  return { ...config.process, args: argv, terminal: false, consoleSize: undefined };
}

/** A FIFO for a probe's output, of which the first 4 KiB are kept. */
class OutputPipe {
  readonly writeEnd: Fd;
  readonly #socket: Socket;
  readonly #ended: Promise<void>;
  #chunks: Buffer[] = [];
  #length = 0;
  #started = false;

  constructor(private readonly path: string) {
    const { readEnd, writeEnd } = makeOutputFifo(path);
    this.writeEnd = writeEnd;
    this.#socket = new Socket({ fd: readEnd, readable: true, writable: false });
    this.#socket.on('data', (chunk: Buffer) => {
      if (this.#length < MAX_OUTPUT) this.#chunks.push(chunk.subarray(0, MAX_OUTPUT - this.#length));
      this.#length += chunk.length;
    });
    this.#socket.on('error', () => {});
    this.#ended = new Promise((resolve) => this.#socket.on('close', () => resolve()));
  }

  /** The probe has its end: ours is closed, so that its end can be seen. */
  started(): void {
    this.#started = true;
    closeSync(this.writeEnd);
  }

  async rest(): Promise<string> {
    await Promise.race([this.#ended, new Promise((resolve) => setTimeout(resolve, DRAIN_MS))]);
    const text = Buffer.concat(this.#chunks).toString();
    return this.#length > MAX_OUTPUT ? `${text}...` : text;
  }

  close(): void {
    if (!this.#started) closeSync(this.writeEnd);
    this.#socket.destroy();
    removeFile(this.path);
  }
}

/** As Go prints a time.Duration: 30s, 1m30s, 500ms, 1.5s. */
export function goDuration(ms: number): string {
  if (ms < 1000) return ms === 0 ? '0s' : `${ms}ms`;
  const hours = Math.floor(ms / 3_600_000);
  const minutes = Math.floor((ms % 3_600_000) / 60_000);
  const seconds = `${(ms % 60_000) / 1000}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}
