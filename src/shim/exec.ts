/** Execs: further processes in the running container (`docker exec`), each with its own stdio and client. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AttachOptions } from '../protocol/messages.ts';
import { ociJson } from '../protocol/oci-json.ts';
import type { RunExec } from '../protocol/runstate.ts';
import type { ExecSpec, ShimSpec } from '../protocol/spec.ts';
import { faultPoint } from '../sys/fault.ts';
import { removeFile } from '../sys/file.ts';
import { SIGKILL } from '../sys/process.ts';
import { Child } from './child.ts';
import type { Client } from './clients.ts';
import { startFailure } from './failure.ts';
import type { Journal } from './journal.ts';
import { Inheritance, Keeper } from './keeper.ts';
import type { Death, Reaper } from './reaper.ts';
import { Refused } from './refused.ts';
import type { Runtime } from './runtime.ts';
import { Sessions } from './sessions.ts';
import { Stdio, type StdioOptions } from './stdio.ts';

export interface ExecDeps {
  /** The container's run directory. */
  run: string;
  spec: ShimSpec;
  runtime: Runtime;
  reaper: Reaper;
  journal: Journal;
}

/** The client that an exec's streams go to. */
export interface AttachedExec {
  client: Client;
  options: AttachOptions;
}

/** How long after the exec's death a descendant may keep its output open (dockerd's value). */
const DRAIN_CAP_MS = 2000;
/** Most execs end sooner: only those that live longer get a keeper. */
const KEEPER_AFTER_MS = 200;
/** Digits of an exec's id in file names: unique within one container, short enough for a socket's path. */
const KEY_DIGITS = 12;

/** A pause waits this long for execs that are being started. */
const STARTS_TIMEOUT_MS = 10_000;

export class Execs {
  readonly #execs = new Map<string, Exec>();
  readonly #starts = new Set<Promise<unknown>>();

  get count(): number {
    return this.#execs.size;
  }

  /**
   * Runs an exec; resolves with its pid when it runs. With a client, a failure is written to the client's stream and
   * the pid is 0.
   * @throws Refused when it did not start and has no client
   */
  async start(deps: ExecDeps, spec: ExecSpec, attached: AttachedExec | null): Promise<number> {
    if (this.#execs.has(spec.id)) throw new Refused('conflict', `exec command ${spec.id} is already running`);
    const exec = new Exec(deps, spec, attached);
    this.#execs.set(spec.id, exec);
    const started = exec.start();
    this.#starts.add(started);
    try {
      return await started;
    } finally {
      this.#starts.delete(started);
      void exec.ended.then(() => this.#execs.delete(spec.id));
    }
  }

  /** Resolves when no exec is being started any more, or after STARTS_TIMEOUT_MS. */
  async startsSettled(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise((resolve) => (timer = setTimeout(resolve, STARTS_TIMEOUT_MS)));
    await Promise.race([Promise.allSettled(this.#starts), timeout]);
    clearTimeout(timer);
  }

  /** Takes over an exec of a dead shim. */
  takeOver(deps: ExecDeps, id: string, known: RunExec): void {
    const exec = Exec.takeOver(deps, id, known);
    this.#execs.set(id, exec);
    void exec.ended.then(() => this.#execs.delete(id));
  }

  /** Sets the size of an exec's terminal, in characters. @throws Refused */
  async resize(id: string, height: number, width: number): Promise<void> {
    const exec = this.#execs.get(id);
    if (!exec) throw new Refused('notfound', `No such exec instance: ${id}`);
    await exec.resize(height, width);
  }

  /** Kills every exec and waits for its end. With a pid namespace of its own the container's death has killed them. */
  async end(): Promise<void> {
    const execs = [...this.#execs.values()];
    for (const exec of execs) exec.kill();
    await Promise.all(execs.map((exec) => exec.ended));
  }
}

class Exec {
  /** Resolves when its end is journalled and its resources are released, or it has not started. */
  readonly ended: Promise<void>;
  readonly #running: Promise<boolean>;
  #resolveEnded!: () => void;
  #resolveRunning!: (running: boolean) => void;
  readonly #sessions: Sessions | null;
  #stdio: Stdio | null;
  #child: Child | null = null;
  #keeper: Keeper | null = null;

  constructor(
    private readonly deps: ExecDeps,
    private readonly spec: ExecSpec,
    attached: AttachedExec | null,
  ) {
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    this.#running = new Promise((resolve) => (this.#resolveRunning = resolve));
    // A detached exec writes to /dev/null; only its terminal must be drained.
    this.#stdio = attached || spec.tty ? new Stdio(this.#stdioOptions()) : null;
    this.#sessions = attached ? this.#attach(attached) : null;
  }

  static takeOver(deps: ExecDeps, id: string, known: RunExec): Exec {
    const spec: ExecSpec = {
      id,
      tty: false,
      consoleSize: [0, 0],
      attachStdin: false,
      attachStdout: false,
      attachStderr: false,
      process: {},
      detachKeys: [],
    };
    const exec = new Exec(deps, { ...spec, ...readNote(deps.run, id) }, null);
    exec.#inherit(known);
    return exec;
  }

  async start(): Promise<number> {
    const { deps, spec } = this;
    const json = join(deps.run, `${this.#key}.json`);
    try {
      // The runtime sets the size before the process runs: one that is set from here comes too late for `stty size`.
      const [height, width] = spec.consoleSize;
      const consoleSize = spec.tty && height > 0 && width > 0 ? { height, width } : undefined;
      const process = { ...spec.process, terminal: spec.tty, consoleSize };
      writeFileSync(json, ociJson(process), { mode: 0o600 });
      faultPoint('exec.written');
      this.#stdio?.prepare();
      const stdio = this.#stdio?.childStdio() ?? ['ignore', 'ignore', 'ignore'];
      const pid = await deps.runtime.exec(
        { stdio, consoleSocket: this.#stdio?.consoleSocket ?? '' },
        { key: this.#key, json },
      );
      this.#child = Child.spawned(pid, deps.reaper, this.#files.exit);
      this.#stdio?.created(spec.consoleSize);
    } catch (error) {
      return this.#failed(error);
    } finally {
      removeFile(json);
    }
    this.#started(this.#child);
    return this.#child.pid;
  }

  kill(): void {
    this.#child?.kill(SIGKILL);
  }

  async resize(height: number, width: number): Promise<void> {
    if (!(await this.#running)) throw new Refused('invalid', 'exec process is not started');
    this.#stdio?.resize(height, width);
    this.deps.journal.append({ type: 'resized', exec: this.spec.id, height, width });
  }

  // Sends the head before the process exists: docker-py loses output that arrives in the same read as the head.
  #attach({ client, options }: AttachedExec): Sessions {
    const { spec, journal } = this.deps;
    const sessions = new Sessions({
      logPath: () => null,
      slowClientMs: spec.slowClientMs,
      onDetach: () => void journal.append({ type: 'detached', exec: this.spec.id }),
    });
    sessions.add(client, options);
    return sessions;
  }

  #started(child: Child): void {
    const { journal } = this.deps;
    journal.append({ type: 'exec-started', exec: this.spec.id, pid: child.pid, startTime: child.startTime });
    if (this.#stdio) {
      this.#sessions?.bind(this.#stdio);
      this.#stdio.onStdinEnd = () => this.#keeper?.renew();
      this.#stdio.start();
      setTimeout(() => this.#startKeeper(), KEEPER_AFTER_MS).unref();
    }
    this.#resolveRunning(true);
    void child.death.then((death) => this.#died(death));
  }

  #inherit(known: RunExec): void {
    const inheritance = new Inheritance(this.#files.keeper);
    this.#child = Child.inherited(known, inheritance.takePidfd(), this.deps.reaper, this.#files.exit);
    if (inheritance.stdio.fds.length > 0) {
      this.#stdio = Stdio.takeOver(this.#stdioOptions(), inheritance.stdio);
      this.#stdio.start();
      if (!this.#child.dead) this.#startKeeper();
    }
    inheritance.close();
    this.#resolveRunning(true);
    void this.#child.death.then((death) => this.#died(death));
  }

  #startKeeper(): void {
    const child = this.#child!;
    if (child.dead) return;
    // A successor needs these to take over the descriptors.
    const { tty, attachStdin } = this.spec;
    writeFileSync(noteFile(this.deps.run, this.spec.id), JSON.stringify({ tty, attachStdin }), { mode: 0o600 });
    faultPoint('exec.noted');
    this.#keeper = new Keeper(this.#files.keeper, this.deps.reaper, () => ({
      stdio: this.#stdio?.kept() ?? [],
      pidfd: child.pidfd,
      ports: [],
    }));
    this.#keeper.renew();
  }

  async #died({ code }: Death): Promise<void> {
    await this.#stdio?.finish(DRAIN_CAP_MS);
    this.#keeper?.end();
    // The code before the client's EOF: `docker exec` inspects the exec as soon as its stream ends.
    this.deps.journal.append({ type: 'exec-exited', exec: this.spec.id, code });
    this.#close();
  }

  #failed(error: unknown): number {
    const { message, code } = startFailure('exec', error);
    this.#child?.kill(SIGKILL);
    this.deps.journal.append({ type: 'exec-failed', exec: this.spec.id, error: message, code });
    this.#sessions?.say(`${message}\r\n`);
    this.#resolveRunning(false);
    this.#close();
    if (!this.#sessions) throw new Refused('failed', message, code);
    return 0;
  }

  #close(): void {
    this.#sessions?.closeAll();
    this.#stdio?.close();
    this.#child?.close();
    removeFile(noteFile(this.deps.run, this.spec.id));
    this.#resolveEnded();
  }

  get #key(): string {
    return keyOf(this.spec.id);
  }

  get #files(): { keeper: string; exit: string } {
    return { keeper: join(this.deps.run, `${this.#key}.keeper`), exit: join(this.deps.run, `${this.#key}.exit`) };
  }

  #stdioOptions(): StdioOptions {
    const { tty, attachStdin } = this.spec;
    return { run: this.deps.run, key: this.#key, tty, stdin: attachStdin, stdinOnce: true, log: null };
  }
}

const keyOf = (id: string): string => `e${id.slice(0, KEY_DIGITS)}`;
const noteFile = (run: string, id: string): string => join(run, `${keyOf(id)}.note`);

function readNote(run: string, id: string): Partial<ExecSpec> {
  try {
    return JSON.parse(readFileSync(noteFile(run, id), 'utf8')) as Partial<ExecSpec>;
  } catch {
    return {};
  }
}
