/** The OCI runtime's command line: each command is a short-lived process; its error text is in its log file. */
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ShimSpec } from '../protocol/spec.ts';
import { removeFile } from '../sys/file.ts';
import { Errno } from '../sys/libc.ts';
import { kill, SIGKILL } from '../sys/process.ts';
import { spawn } from '../sys/spawn.ts';
import { startInit, removeStaleFifo, waitsAtFifo } from './exec-fifo.ts';
import type { Death, Reaper } from './reaper.ts';

export type ChildStdio = [number | 'ignore', number | 'ignore', number | 'ignore'];

/** A runtime command failed; the message is the runtime's own. */
export class RuntimeFailure extends Error {}

export interface NewProcess {
  stdio: ChildStdio;
  /** Path of the console socket; '' = no terminal. */
  consoleSocket: string;
}

const CLEAN_ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
const NO_STDIO: ChildStdio = ['ignore', 'ignore', 'ignore'];
/** For commands that only touch an existing container: after this long they are stuck. */
const SHORT_MS = 30_000;

export class Runtime {
  #commands = 0;

  constructor(
    private readonly spec: ShimSpec,
    private readonly run: string,
    private readonly reaper: Reaper,
  ) {}

  /** Creates the container and returns its init's pid. The init waits for start(). @throws RuntimeFailure */
  async create({ stdio, consoleSocket }: NewProcess, gen: number): Promise<number> {
    // Left by a run whose deletion failed, because the runtime was missing for a while. What runs is not deleted.
    if (existsSync(this.#stateDir)) await this.delete({ force: false }).catch(() => undefined);
    const pidFile = join(this.run, `${gen}.pid`);
    removeFile(pidFile);
    await this.#command(
      ['create', '--bundle', this.spec.bundle, '--pid-file', pidFile, ...terminal(consoleSocket), this.spec.id],
      { stdio },
    );
    return readPid(pidFile);
  }

  /** Lets the container's process run. `dead` resolves when its init dies. @throws RuntimeFailure */
  async start(dead: Promise<unknown>): Promise<void> {
    if (!waitsAtFifo(this.#stateDir)) return this.#command(['start', this.spec.id]);
    const started = await startInit(this.#stateDir, dead);
    if (!started) throw new RuntimeFailure('container process is already dead');
  }

  /** Runs a process in the container and returns its pid. @throws RuntimeFailure */
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

  /** @throws RuntimeFailure */
  async pause(): Promise<void> {
    await this.#command(['pause', this.spec.id], { timeout: SHORT_MS });
  }

  /** @throws RuntimeFailure */
  async resume(): Promise<void> {
    await this.#command(['resume', this.spec.id], { timeout: SHORT_MS });
  }

  /** Deletes a dead container from the runtime; with `force`, a living one too. @throws RuntimeFailure */
  async delete(options: { force: boolean }): Promise<void> {
    await this.#command(['delete', ...(options.force ? ['--force'] : []), this.spec.id], { timeout: SHORT_MS });
  }

  /**
   * The container's status as the runtime reports it (created, running, paused, stopped) and its init's pid; undefined
   * when the runtime does not know the container.
   */
  async state(): Promise<{ status: string; pid: number } | undefined> {
    const answer = join(this.run, 'state.json');
    const fd = openSync(answer, 'w', 0o600);
    try {
      await this.#command(['state', this.spec.id], { timeout: SHORT_MS, stdio: ['ignore', fd, 'ignore'] });
      const { status, pid } = JSON.parse(readFileSync(answer, 'utf8')) as { status: string; pid: number };
      return status === 'created' && removeStaleFifo(this.#stateDir, pid)
        ? { status: 'running', pid }
        : { status, pid };
    } catch {
      return undefined;
    } finally {
      closeSync(fd);
      removeFile(answer);
    }
  }

  /** The runtime's state directory of the container. */
  get #stateDir(): string {
    return join(this.spec.runtime.root, this.spec.id);
  }

  async #command(
    args: string[],
    { stdio = NO_STDIO, timeout }: { stdio?: ChildStdio; timeout?: number } = {},
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
    using _ = this.reaper.expectChildren();
    try {
      // Wait for the process, not for the end of its streams: the container inherits them.
      const { code, signal } = await this.#exit(this.#spawn(argv, stdio), timeout);
      if (code === 0) return;
      const reason = signal > 0 ? `signal ${signal}` : `exit code ${code}`;
      throw new RuntimeFailure(lastError(log) ?? `${runtime.path} ${args[0]} ended with ${reason}`);
    } finally {
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

  async #exit(pid: number, timeout: number | undefined): Promise<Death> {
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

/** The message of the last error in a runtime's JSON log. */
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
