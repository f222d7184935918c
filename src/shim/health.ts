/** Health checks with Docker's semantics (moby daemon/health.go). Probes run as execs, without a daemon. */
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { ociJson } from '../protocol/oci-json.ts';
import type { HealthProbe, HealthStatus } from '../protocol/records.ts';
import type { HealthSpec, ShimSpec } from '../protocol/spec.ts';
import { LONGEST_TIMER_MS, wallClock } from '../sys/clock.ts';
import { removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { SIGKILL } from '../sys/process.ts';
import { Child } from './child.ts';
import { makeOutputFifo } from './fifo.ts';
import { now, type Journal } from './journal.ts';
import type { Reaper } from './reaper.ts';
import type { Runtime } from './runtime.ts';

/** Milliseconds, except `retries`. */
const DEFAULTS = { interval: 30_000, timeout: 30_000, startPeriod: 0, startInterval: 5_000, retries: 3 } as const;
const MAX_OUTPUT_BYTES = 4096;
/** How long after a probe's death its descendants may keep its output open. */
const DRAIN_MS = 500;
const NOT_RUN = -1;

/** `streak` is the number of failed probes in a row. */
export interface HealthState {
  status: HealthStatus;
  streak: number;
}

/** The state after a probe that ended with `exitCode`. Pure. */
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

export interface HealthDeps {
  spec: ShimSpec;
  run: string;
  runtime: Runtime;
  reaper: Reaper;
  journal: Journal;
}

export class Health {
  #timer: NodeJS.Timeout | undefined;
  /** The probe under way. */
  #probe: Child | null = null;
  /** Changes at each resume and suspend: the result of a probe from before is dropped. */
  #epoch = 0;
  #running: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly deps: HealthDeps,
    private readonly health: HealthSpec,
  ) {}

  /** The container has just started. */
  start(): void {
    this.deps.journal.append({ type: 'health', status: 'starting', streak: 0 });
    this.resume();
  }

  /** The container runs, or runs again: schedules the next probe. */
  resume(): void {
    this.suspend();
    this.#schedule(++this.#epoch);
  }

  /** The container is paused or ends: no further probes. */
  suspend(): void {
    this.#epoch++;
    clearTimeout(this.#timer);
    this.#probe?.kill(SIGKILL);
  }

  #schedule(epoch: number): void {
    this.#timer = setTimeout(
      () => void this.#check(epoch),
      Math.min(nextProbeIn(this.#state().status, this.#sinceStartMs(), this.health), LONGEST_TIMER_MS),
    );
  }

  async #check(epoch: number): Promise<void> {
    // An abandoned probe may not be dead yet.
    await this.#running;
    const sinceStartMs = this.#sinceStartMs();
    const running = this.#run(epoch);
    this.#running = running;
    const probe = await running;
    if (epoch !== this.#epoch) return;
    const timing = {
      sinceStartMs,
      startPeriodMs: this.health.startPeriod || DEFAULTS.startPeriod,
      retries: this.health.retries || DEFAULTS.retries,
    };
    this.deps.journal.append({ type: 'health', ...judge(this.#state(), probe.exitCode, timing), probe });
    this.#schedule(epoch);
  }

  #state(): HealthState {
    const { health } = this.deps.journal.state;
    return { status: health?.status ?? 'starting', streak: health?.streak ?? 0 };
  }

  #sinceStartMs(): number {
    const { startedMono } = this.deps.journal.pending;
    return startedMono === '' ? 0 : Number((now().mono - BigInt(startedMono)) / 1_000_000n);
  }

  async #run(epoch: number): Promise<HealthProbe> {
    const start = String(wallClock());
    const result = await this.#exec(epoch).catch((error: unknown) => ({
      exitCode: NOT_RUN,
      output: error instanceof Error ? error.message : String(error),
    }));
    return { start, end: String(wallClock()), ...result };
  }

  async #exec(epoch: number): Promise<Pick<HealthProbe, 'exitCode' | 'output' | 'killed'>> {
    const { run, runtime, reaper, spec } = this.deps;
    const json = join(run, 'health.json');
    const exitNote = join(run, 'health.exit');
    writeFileSync(json, ociJson(probeProcess(spec, this.health)), { mode: 0o600 });
    const pipe = new OutputPipe(join(run, 'health.out'));
    try {
      const pid = await runtime.exec(
        { stdio: ['ignore', pipe.writeEnd, pipe.writeEnd], consoleSocket: '' },
        { key: 'health', json },
      );
      pipe.started();
      const child = Child.spawned(pid, reaper, exitNote);
      this.#probe = child;
      if (epoch !== this.#epoch) child.kill(SIGKILL);
      const timeout = this.health.timeout || DEFAULTS.timeout;
      const { code, expired } = await deathWithin(timeout, child);
      child.close();
      const output = await pipe.drain();
      if (!expired) return { exitCode: code, output };
      const reason = `Health check exceeded timeout (${goDuration(timeout)})`;
      return { exitCode: NOT_RUN, killed: code, output: output === '' ? reason : `${reason}: ${output}` };
    } finally {
      this.#probe = null;
      pipe.close();
    }
  }
}

/** Kills the probe after `timeout` ms; resolves with its exit code at its death. */
async function deathWithin(timeout: number, probe: Child): Promise<{ code: number; expired: boolean }> {
  let expired = false;
  const timer = setTimeout(
    () => {
      expired = true;
      probe.kill(SIGKILL);
    },
    Math.min(timeout, LONGEST_TIMER_MS),
  );
  const { code } = await probe.death;
  clearTimeout(timer);
  return { code, expired };
}

/** The OCI process of the container with the probe's arguments. */
function probeProcess(spec: ShimSpec, { argv }: HealthSpec): unknown {
  const config = JSON.parse(readFileSync(join(spec.bundle, 'config.json'), 'utf8')) as { process: object };
  return { ...config.process, args: argv, terminal: false, consoleSize: undefined };
}

/** A FIFO for a probe's output. Keeps the first MAX_OUTPUT_BYTES. */
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
      if (this.#length < MAX_OUTPUT_BYTES) this.#chunks.push(chunk.subarray(0, MAX_OUTPUT_BYTES - this.#length));
      this.#length += chunk.length;
    });
    this.#socket.on('error', () => {});
    this.#ended = new Promise((resolve) => this.#socket.on('close', () => resolve()));
  }

  /** The probe has inherited the write end: closes ours, so that the probe's death is EOF. */
  started(): void {
    this.#started = true;
    closeSync(this.writeEnd);
  }

  /** The output. Waits for EOF, at most DRAIN_MS. */
  async drain(): Promise<string> {
    await Promise.race([this.#ended, new Promise((resolve) => setTimeout(resolve, DRAIN_MS))]);
    const text = Buffer.concat(this.#chunks).toString();
    return this.#length > MAX_OUTPUT_BYTES ? `${text}...` : text;
  }

  close(): void {
    if (!this.#started) closeSync(this.writeEnd);
    this.#socket.destroy();
    removeFile(this.path);
  }
}

/** Formats milliseconds as Go prints a time.Duration: 30s, 1m30s, 500ms, 1.5s. */
export function goDuration(ms: number): string {
  if (ms < 1000) return ms === 0 ? '0s' : `${ms}ms`;
  const hours = Math.floor(ms / 3_600_000);
  const minutes = Math.floor((ms % 3_600_000) / 60_000);
  const seconds = `${(ms % 60_000) / 1000}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}
