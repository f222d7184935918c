/** Further processes in the running container (`docker exec`), each with its own stdio and its own attached client. */
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AttachOptions } from '../protocol/messages.ts';
import { ociJson } from '../protocol/oci-json.ts';
import type { RunExec } from '../protocol/runstate.ts';
import type { ExecSpec, ShimSpec } from '../protocol/spec.ts';
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
import { Stdio } from './stdio.ts';

export interface ExecSurroundings {
  run: string;
  spec: ShimSpec;
  runtime: Runtime;
  reaper: Reaper;
  journal: Journal;
}

/** How long a descendant may hold the output open after the exec's death (dockerd waits as long). */
const DRAIN_CAP_MS = 2000;
/** Most execs are over sooner: only the others are worth a keeper. */
const KEEPER_AFTER_MS = 200;
/** Enough of an exec's id to tell those of one container apart, short enough for a socket's path. */
const KEY_DIGITS = 12;

interface Attached {
  client: Client;
  options: AttachOptions;
}

export class Execs {
  #execs = new Map<string, Exec>();

  get count(): number {
    return this.#execs.size;
  }

  /** Runs one; resolves when it runs. With a client a failure is told to that client, and the answer is pid 0.
   *  @throws Refused when it did not start */
  async start(o: ExecSurroundings, spec: ExecSpec, attached: Attached | null): Promise<number> {
    if (this.#execs.has(spec.id)) {
      if (attached) closeSync(attached.client.fd);
      throw new Refused('conflict', `exec command ${spec.id} is already running`);
    }
    const exec = new Exec(o, spec, attached);
    this.#execs.set(spec.id, exec);
    try {
      return await exec.start();
    } finally {
      void exec.over.then(() => this.#execs.delete(spec.id));
    }
  }

  /** Takes over one that a dead shim had started. */
  takeOver(o: ExecSurroundings, id: string, known: RunExec): void {
    const exec = Exec.takeOver(o, id, known);
    this.#execs.set(id, exec);
    void exec.over.then(() => this.#execs.delete(id));
  }

  async resize(id: string, height: number, width: number): Promise<void> {
    const exec = this.#execs.get(id);
    if (!exec) throw new Refused('notfound', `No such exec instance: ${id}`);
    await exec.resize(height, width);
  }

  /** The container's init is dead: in a pid namespace of its own the kernel has killed them already. */
  async end(): Promise<void> {
    const execs = [...this.#execs.values()];
    for (const exec of execs) exec.kill();
    await Promise.all(execs.map((exec) => exec.over));
  }
}

class Exec {
  /** Resolves when it has ended and everything is told and released, or has not started. */
  readonly over: Promise<void>;
  readonly #running: Promise<boolean>;
  #setOver!: () => void;
  #setRunning!: (running: boolean) => void;
  readonly #sessions: Sessions | null;
  #stdio: Stdio | null;
  #child: Child | null = null;
  #keeper: Keeper | null = null;

  constructor(
    private readonly o: ExecSurroundings,
    private readonly spec: ExecSpec,
    private readonly attached: Attached | null,
  ) {
    this.over = new Promise((resolve) => (this.#setOver = resolve));
    this.#running = new Promise((resolve) => (this.#setRunning = resolve));
    // Nobody reads a detached exec's output: /dev/null takes it, only a terminal has to be drained.
    this.#stdio = attached || spec.tty ? new Stdio(this.#stdioOptions()) : null;
    this.#sessions = attached
      ? new Sessions({
          logPath: () => null,
          slowClientMs: o.spec.slowClientMs,
          onDetach: () => void o.journal.append({ type: 'detached', exec: spec.id }),
        })
      : null;
  }

  static takeOver(o: ExecSurroundings, id: string, known: RunExec): Exec {
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
    const exec = new Exec(o, { ...spec, ...readNote(o.run, id) }, null);
    exec.#adopt(known);
    return exec;
  }

  async start(): Promise<number> {
    const { o, spec, attached } = this;
    // The success head goes out before the process exists: docker-py loses what comes in the same packet (api-wire.md
    // 61, 70).
    if (attached) this.#sessions!.add(attached.client, attached.options);
    const json = join(o.run, `${this.#key}.json`);
    try {
      writeFileSync(json, ociJson({ ...spec.process, terminal: spec.tty }), { mode: 0o600 });
      this.#stdio?.prepare();
      const stdio = this.#stdio?.childStdio() ?? ['ignore', 'ignore', 'ignore'];
      const pid = await o.runtime.exec(
        { stdio, consoleSocket: this.#stdio?.consoleSocket ?? '' },
        { key: this.#key, json },
      );
      this.#child = Child.born(pid, o.reaper, this.#files.exit);
      this.#stdio?.created(spec.consoleSize);
    } catch (error) {
      return this.#failed(error);
    } finally {
      removeFile(json);
    }
    this.#runs(this.#child);
    return this.#child.pid;
  }

  kill(): void {
    this.#child?.kill(SIGKILL);
  }

  async resize(height: number, width: number): Promise<void> {
    if (!(await this.#running)) throw new Refused('invalid', 'exec process is not started');
    this.#stdio?.resize(height, width);
    this.o.journal.append({ type: 'resized', exec: this.spec.id, height, width });
  }

  #runs(child: Child): void {
    const { journal } = this.o;
    journal.append({ type: 'exec-started', exec: this.spec.id, pid: child.pid, startTime: child.startTime });
    if (this.#stdio) {
      this.#sessions?.bind(this.#stdio);
      this.#stdio.onStdinEnd = () => this.#keeper?.renew();
      this.#stdio.start();
      setTimeout(() => this.#keep(), KEEPER_AFTER_MS).unref();
    }
    this.#setRunning(true);
    void child.death.then((death) => this.#died(death));
  }

  #adopt(known: RunExec): void {
    const inheritance = new Inheritance(this.#files.keeper);
    this.#child = Child.adopted(known, inheritance.takePidfd(), this.o.reaper, this.#files.exit);
    if (inheritance.stdio.fds.length > 0) {
      this.#stdio = Stdio.takeOver(this.#stdioOptions(), inheritance.stdio);
      this.#stdio.start();
      if (!this.#child.dead) this.#keep();
    }
    inheritance.release();
    this.#setRunning(true);
    void this.#child.death.then((death) => this.#died(death));
  }

  #keep(): void {
    const child = this.#child!;
    if (child.dead) return;
    // What the next shim must know of it beside the descriptors.
    const { tty, attachStdin } = this.spec;
    writeFileSync(noteFile(this.o.run, this.spec.id), JSON.stringify({ tty, attachStdin }), { mode: 0o600 });
    this.#keeper = new Keeper(this.#files.keeper, this.o.reaper, () => ({
      stdio: this.#stdio?.kept() ?? [],
      pidfd: child.pidfd,
      ports: [],
    }));
    this.#keeper.renew();
  }

  async #died({ code }: Death): Promise<void> {
    await this.#stdio?.finish(DRAIN_CAP_MS);
    this.#keeper?.end();
    // First the code, then the client's EOF: `docker exec` inspects right after it (api-wire.md 62).
    this.o.journal.append({ type: 'exec-exited', exec: this.spec.id, code });
    this.#release();
  }

  #failed(error: unknown): number {
    const { message, code } = startFailure('exec', error);
    this.#child?.kill(SIGKILL);
    this.o.journal.append({ type: 'exec-failed', exec: this.spec.id, error: message, code });
    this.#sessions?.say(`${message}\r\n`);
    this.#setRunning(false);
    this.#release();
    if (!this.attached) throw new Refused('failed', message, code);
    return 0;
  }

  #release(): void {
    this.#sessions?.closeAll();
    this.#stdio?.close();
    this.#child?.release();
    removeFile(noteFile(this.o.run, this.spec.id));
    this.#setOver();
  }

  get #key(): string {
    return keyOf(this.spec.id);
  }

  get #files(): { keeper: string; exit: string } {
    return { keeper: join(this.o.run, `${this.#key}.keeper`), exit: join(this.o.run, `${this.#key}.exit`) };
  }

  #stdioOptions(): ConstructorParameters<typeof Stdio>[0] {
    const { tty, attachStdin } = this.spec;
    return { run: this.o.run, key: this.#key, tty, stdin: attachStdin, stdinOnce: true, log: null };
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
