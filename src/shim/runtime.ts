/** The OCI runtime's command line: every command is one process that ends soon, its errors come from its log file. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ShimSpec } from '../protocol/spec.ts';
import { removeFile } from '../sys/file.ts';
import { Errno } from '../sys/libc.ts';
import { kill, SIGKILL } from '../sys/process.ts';
import { spawn } from '../sys/spawn.ts';
import { letGo, noteLetGo, waitsAtFifo } from './exec-fifo.ts';
import type { Death, Reaper } from './reaper.ts';

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

  constructor(
    private readonly spec: ShimSpec,
    private readonly run: string,
    private readonly reaper: Reaper,
  ) {}

  /** A command is under way: its offspring may become our children any moment. */
  get busy(): boolean {
    return this.#running > 0;
  }

  /** Makes the container; its init waits to be started. Returns the init's pid. */
  async create({ stdio, consoleSocket }: NewProcess, gen: number): Promise<number> {
    const pidFile = join(this.run, `${gen}.pid`);
    removeFile(pidFile);
    await this.#command(
      ['create', '--bundle', this.spec.bundle, '--pid-file', pidFile, ...terminal(consoleSocket), this.spec.id],
      { stdio },
    );
    return readPid(pidFile);
  }

  /** Lets the container's process run. `dead` resolves when its init is. */
  async start(dead: Promise<unknown>): Promise<void> {
    if (!waitsAtFifo(this.#home)) return this.#command(['start', this.spec.id]);
    if (!(await letGo(this.#home, dead))) throw new RuntimeFailure('container process is already dead');
  }

  /** Runs one more process in the container. Returns its pid. */
  async exec({ stdio, consoleSocket }: NewProcess, process: { key: string; json: string }): Promise<number> {
    const pidFile = join(this.run, `${process.key}.pid`);
    try {
      await this.#command(
        [
          'exec',
          '--detach',
          '--process',
          process.json,
          '--pid-file',
          pidFile,
          ...terminal(consoleSocket),
          this.spec.id,
        ],
        { stdio },
      );
      return readPid(pidFile);
    } finally {
      removeFile(pidFile);
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

  /**
   * The runtime's own word for the container's state (created, running, paused, stopped) and its init; undefined when
   * it knows none.
   */
  async state(): Promise<{ status: string; pid: number } | undefined> {
    const answer = join(this.run, 'state.json');
    const fd = openSync(answer, 'w', 0o600);
    try {
      await this.#command(['state', this.spec.id], { timeout: SHORT_MS, stdio: ['ignore', fd, 'ignore'] });
      const { status, pid } = JSON.parse(readFileSync(answer, 'utf8')) as { status: string; pid: number };
      return status === 'created' && noteLetGo(this.#home, pid) ? { status: 'running', pid } : { status, pid };
    } catch {
      return undefined;
    } finally {
      closeSync(fd);
      removeFile(answer);
    }
  }

  /** Where the runtime keeps its state of the container. */
  get #home(): string {
    return join(this.spec.runtime.root, this.spec.id);
  }

  async #command(
    args: string[],
    { stdio = NOTHING, timeout }: { stdio?: ChildStdio; timeout?: number } = {},
  ): Promise<void> {
    const { runtime } = this.spec;
    const log = join(this.run, `log${++this.#commands}.json`);
    const argv = [
      ...runtime.args,
      '--root',
      runtime.root,
      '--log',
      log,
      '--log-format',
      'json',
      ...(runtime.systemdCgroup ? ['--systemd-cgroup'] : []),
      ...args,
    ];
    this.#running++;
    try {
      // Its end, not that of its streams: the container inherits them.
      const { code, signal } = await this.#end(this.#spawn(argv, stdio), timeout);
      if (code !== 0)
        throw new RuntimeFailure(
          lastError(log) ?? `${runtime.path} ${args[0]} ended with ${signal > 0 ? `signal ${signal}` : code}`,
        );
    } finally {
      this.#running--;
      removeFile(log);
    }
  }

  #spawn(args: string[], descriptors: ChildStdio): number {
    const { path: file } = this.spec.runtime;
    try {
      return spawn({ file, args, env: CLEAN_ENV, descriptors });
    } catch (error) {
      throw error instanceof Errno ? new RuntimeFailure(`${file}: spawn ${file} ${error.code}`) : error;
    }
  }

  async #end(pid: number, timeout: number | undefined): Promise<Death> {
    const timer = timeout === undefined ? undefined : setTimeout(() => kill(pid, SIGKILL), timeout);
    const death = await new Promise<Death>((resolve) => this.reaper.watch(pid, resolve));
    clearTimeout(timer);
    return death;
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
