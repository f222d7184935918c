/** A daemon of the benchmark's own, in a scratch directory, so that it can be killed and started again. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, openSync, closeSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Engine, IMAGE } from './engine.ts';

const TICKS_PER_S = 100;
const POLL_MS = 2;

export interface Dump {
  memory: { rss: number; heapUsed: number };
  eventLoop: { mean: number; p99: number; max: number };
  descriptors: number;
  containers: { name: string; status: string; shim: { connected: boolean; watched: boolean } }[];
}

export class OwnDaemon {
  readonly directory = mkdtempSync('/tmp/hb-');
  readonly socket = join(this.directory, 'h.sock');
  engine = new Engine('holdfast', this.socket);
  #daemon: ChildProcess | undefined;

  constructor(private readonly flags: readonly string[]) {}

  get pid(): number {
    return this.#daemon!.pid!;
  }

  /** Executes the daemon; resolves at once. */
  exec(): void {
    const log = openSync(join(this.directory, 'log'), 'a');
    const roots = ['--data-root', join(this.directory, 'data'), '--exec-root', join(this.directory, 'run')];
    const args = ['--host', `unix://${this.socket}`, ...roots, ...this.flags];
    this.#daemon = spawn('./bin/holdfastd', args, { stdio: ['ignore', log, log] });
    closeSync(log);
    this.engine.close();
    this.engine = new Engine('holdfast', this.socket);
  }

  /** Resolves with the first answer for which `accept` holds, and the ms until then. */
  async first<T>(path: string, accept: (answer: T) => boolean): Promise<{ answer: T; ms: number }> {
    for (const begin = performance.now(); ;) {
      try {
        const answer = JSON.parse(await this.engine.call('GET', path)) as T;
        if (accept(answer)) return { answer, ms: performance.now() - begin };
      } catch {
        // It does not listen yet.
      }
      if (this.#daemon?.exitCode !== null) throw new Error(`the daemon has ended: ${join(this.directory, 'log')}`);
      await sleep(POLL_MS);
    }
  }

  async start(): Promise<void> {
    this.exec();
    await this.first('/info', () => true);
  }

  async importImage(): Promise<void> {
    const archive = execFileSync('scripts/busybox-image', { maxBuffer: 64 * 1024 * 1024 });
    await this.engine.call('POST', `/images/create?fromSrc=-&repo=${IMAGE.split(':')[0]}&tag=latest`, archive);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const daemon = this.#daemon!;
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill(signal);
    await ended;
  }

  dump = async (): Promise<Dump> => JSON.parse(await this.engine.call('GET', '/debug/dump')) as Dump;

  /** Seconds of CPU time until now. */
  cpu(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'latin1').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
  }

  /** Processes, mounts and cgroups that name the directory. */
  left(): string[] {
    const processes = readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
      .map((pid) => `process ${pid} ${textOf(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')}`);
    const mounts = textOf('/proc/self/mountinfo').split('\n');
    return [...processes, ...mounts].filter((line) => line.includes(`${this.directory}/`));
  }

  /** Deletes the directory. The daemon has ended. */
  delete(): void {
    this.engine.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** Runs `work` for each item, `width` at a time. */
export async function eachOf<T>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const rest = [...items];
  const worker = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
