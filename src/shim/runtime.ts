/** The OCI runtime's command line: every command is one process that ends soon, its errors come from its log file. */
import { spawn, type StdioOptions } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ShimSpec } from '../protocol/spec.ts';

export type ChildStdio = [number | 'ignore', number | 'ignore', number | 'ignore'];

/** A command of the runtime that failed; the message is the runtime's own. */
export class RuntimeFailure extends Error {}

export interface NewProcess {
  stdio: ChildStdio;
  /** '' unless it gets a terminal. */
  consoleSocket: string;
}

const CLEAN_ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
const NOTHING: ChildStdio = ['ignore', 'ignore', 'ignore'];
/** For commands that touch only a container that is there: one that hangs longer will never end. */
const SHORT_MS = 30_000;

export class Runtime {
  #running = 0;
  #commands = 0;

  constructor(private readonly spec: ShimSpec, private readonly run: string) {}

  /** A command is under way: there are children that are Node's to reap, and others may appear any moment. */
  get busy(): boolean {
    return this.#running > 0;
  }

  /** Makes the container; its init waits to be started. Returns the init's pid. */
  async create({ stdio, consoleSocket }: NewProcess, gen: number): Promise<number> {
    const pidFile = join(this.run, `${gen}.pid`);
    rmSync(pidFile, { force: true });
    await this.#command(['create', '--bundle', this.spec.bundle, '--pid-file', pidFile, ...terminal(consoleSocket), this.spec.id], { stdio });
    return readPid(pidFile);
  }

  // A later optimisation has its place here: opening the exec fifo ourselves saves the process (node-on-linux.md §7.1).
  async start(): Promise<void> {
    await this.#command(['start', this.spec.id]);
  }

  /** Runs one more process in the container. Returns its pid. */
  async exec({ stdio, consoleSocket }: NewProcess, process: { key: string; json: string }): Promise<number> {
    const pidFile = join(this.run, `${process.key}.pid`);
    try {
      await this.#command(['exec', '--detach', '--process', process.json, '--pid-file', pidFile, ...terminal(consoleSocket), this.spec.id], { stdio });
      return readPid(pidFile);
    } finally {
      rmSync(pidFile, { force: true });
    }
  }

  async pause(): Promise<void> {
    await this.#command(['pause', this.spec.id], { timeout: SHORT_MS });
  }

  async resume(): Promise<void> {
    await this.#command(['resume', this.spec.id], { timeout: SHORT_MS });
  }

  /** Removes what the runtime keeps of a dead container. */
  async delete(options: { force: boolean }): Promise<void> {
    await this.#command(['delete', ...(options.force ? ['--force'] : []), this.spec.id], { timeout: SHORT_MS });
  }

  /** The runtime's own word for the container's state (created, running, paused, stopped) and its init; undefined when it knows none. */
  async state(): Promise<{ status: string; pid: number } | undefined> {
    try {
      const { status, pid } = JSON.parse(await this.#command(['state', this.spec.id], { timeout: SHORT_MS, wantOutput: true })) as { status: string; pid: number };
      return { status, pid };
    } catch {
      return undefined;
    }
  }

  async #command(args: string[], options: { stdio?: ChildStdio; timeout?: number; wantOutput?: boolean } = {}): Promise<string> {
    const { runtime, bundle } = this.spec;
    const log = join(this.run, `log${++this.#commands}.json`);
    const stdio: StdioOptions = options.wantOutput ? ['ignore', 'pipe', 'ignore'] : options.stdio ?? NOTHING;
    const argv = [...runtime.args, '--root', runtime.root, '--log', log, '--log-format', 'json', ...(runtime.systemdCgroup ? ['--systemd-cgroup'] : []), ...args];
    this.#running++;
    try {
      return await new Promise<string>((resolve, reject) => {
        const child = spawn(runtime.path, argv, { stdio, cwd: bundle, env: CLEAN_ENV, timeout: options.timeout, killSignal: 'SIGKILL' });
        let output = '';
        child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
        child.on('error', (error) => reject(new RuntimeFailure(`${runtime.path}: ${error.message}`)));
        // 'exit', not 'close': the container inherits its stdio. With output asked for there is no container that could.
        child.on(options.wantOutput ? 'close' : 'exit', (code, signal) => {
          if (code === 0) resolve(output);
          else reject(new RuntimeFailure(lastError(log) ?? `${runtime.path} ${args[0]} ended with ${signal ?? code}`));
        });
      });
    } finally {
      this.#running--;
      rmSync(log, { force: true });
    }
  }
}

const terminal = (consoleSocket: string): string[] => (consoleSocket === '' ? [] : ['--console-socket', consoleSocket]);

const readPid = (file: string): number => Number(readFileSync(file, 'latin1'));

function lastError(log: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(log, 'utf8');
  } catch {
    return undefined;
  }
  return parseRuntimeLog(text);
}

/** The last error in a runtime's JSON log. */
export function parseRuntimeLog(text: string): string | undefined {
  for (const line of text.trim().split('\n').reverse()) {
    try {
      const { level, msg } = JSON.parse(line) as { level?: string; msg?: string };
      if (level === 'error' && msg) return msg;
    } catch {
      continue;
    }
  }
  return undefined;
}
