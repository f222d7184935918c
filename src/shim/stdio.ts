/**
 * The stdio of one process: a container's init or an exec.
 *
 * stdout, stderr and stdin are FIFOs, or there is a terminal. A keeper process holds what must not close when this
 * shim is killed (`kept`), and the next shim reads on (`takeOver`). Output goes to the log and to `onOutput` in the
 * tick it is read in.
 *
 * The end of stdin: the keeper holds a write end of the FIFO, so that a killed shim is no EOF. A true EOF therefore
 * needs two closes. `endStdin` closes ours, after everything written has gone into the FIFO; from then on `kept` no
 * longer names the write end, and `onStdinEnd` is called: the shim starts a keeper with what `kept` says now, then
 * kills the old one. With that the process reads EOF. (Order matters: the other way round nobody would hold the rest.)
 */
import { closeSync, constants, openSync, rmSync } from 'node:fs';
import { Socket, type OnReadOpts } from 'node:net';
import { Stream, type OutputStream } from '../protocol/frames.ts';
import { duplicate, growPipe, makeBlocking, mkfifo } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { pidfdGetfd } from '../sys/process.ts';
import { setWindowSize } from '../sys/tty.ts';
import { ConsoleSocket, drainTerminal, terminalStream } from './console.ts';
import type { LogWriter, Mark } from './log/writer.ts';

export interface StdioOptions {
  /** The container's run directory. */
  run: string;
  /** Generation number or exec id. */
  key: string;
  tty: boolean;
  /** Whether there is a stdin at all; else the process gets /dev/null. */
  stdin: boolean;
  /** The first client to leave ends stdin (not of a terminal). True for an exec. */
  stdinOnce: boolean;
  log: LogWriter | null;
}

/** A keeper and the numbers, in it, of the descriptors that `kept` gave to it, in that order. */
export interface Keeper {
  pidfd: Fd;
  fds: number[];
}

export interface Output {
  stream: OutputStream;
  /** Valid during the call only. */
  chunk: Buffer;
  /** Where the log ended before this chunk; null when there is none to read back. */
  before: Mark | null;
  /** Whether the log yields this chunk byte for byte. */
  faithful: boolean;
}

/** Capacity of the FIFOs: what a process may write while nobody reads (the kernel may refuse it). */
const PIPE_BYTES = 1 << 20;
const READ_BYTES = 64 * 1024;
const FINISH_TICK_MS = 10;

// One for all streams of this process: a chunk is used up within the call it is read in.
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

type Child = Fd | 'ignore';

interface StdinWrite {
  accepted: () => void;
}

export class Stdio {
  readonly drained: Promise<void>;
  onOutput: ((output: Output) => void) | null = null;
  /** Our end of stdin is closed for good; see the top of this file for what the shim has to do. */
  onStdinEnd: (() => void) | null = null;

  readonly #o: StdioOptions;
  #setDrained!: () => void;
  #console: ConsoleSocket | null = null;
  #child: [Child, Child, Child] = ['ignore', 'ignore', 'ignore'];
  /** Read ends of stdout and stderr; for a terminal, its master. Held until `close`, beside the streams' own. */
  #held: Fd[] = [];
  #stdinHeld: Fd = -1;
  #readers = new Set<Socket>();
  #stdin: Socket | null = null;
  #stdinPending = new Set<StdinWrite>();
  #stdinEnding = false;
  /** Input from between the clients' binding and the start. */
  #typedAhead: { chunk: Buffer; write: StdinWrite }[] = [];
  /** Who wants the output to wait. */
  #waiting = new Set<object>();
  #bytesRead = 0;
  #started = false;
  #closed = false;

  constructor(options: StdioOptions) {
    this.#o = options;
    this.drained = new Promise((resolve) => (this.#setDrained = resolve));
  }

  get tty(): boolean {
    return this.#o.tty;
  }

  get stdinOnce(): boolean {
    return this.#o.stdinOnce;
  }

  /** Whether the process was given a stdin. */
  get hasStdin(): boolean {
    return this.#o.stdin;
  }

  get log(): LogWriter | null {
    return this.#o.log;
  }

  /** '' unless there is a terminal. */
  get consoleSocket(): string {
    return this.#o.tty ? this.#path('con') : '';
  }

  /** Makes the FIFOs, or the console socket. May be repeated: then everything is made anew. */
  prepare(): void {
    this.#release();
    // What an earlier generation wrote last is a line of its own.
    this.#o.log?.flush();
    if (this.#o.tty) {
      this.#console = new ConsoleSocket(this.consoleSocket);
      return;
    }
    try {
      if (this.#o.stdin) this.#inputFifo();
      this.#child[1] = this.#outputFifo('out');
      this.#child[2] = this.#outputFifo('err');
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** For spawn() of the runtime. */
  childStdio(): [Child, Child, Child] {
    return this.#child;
  }

  /** The runtime has exited. `consoleSize` is [height, width]. */
  created(consoleSize: [number, number]): void {
    this.#closeChild();
    if (!this.#console) return;
    this.#held = [this.#console.take()];
    this.#console = null;
    if (consoleSize[0] > 0 && consoleSize[1] > 0) this.resize(...consoleSize);
  }

  /** What the keeper must hold: [stdout, stderr, stdin's write end while it is open], or [the terminal's master]. */
  kept(): Fd[] {
    return this.#stdinHeld >= 0 ? [...this.#held, this.#stdinHeld] : [...this.#held];
  }

  /** Reads from now on. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    if (this.#o.tty) this.#readTerminal();
    else this.#held.forEach((fd, i) => this.#readFifo(duplicate(fd), i === 0 ? Stream.stdout : Stream.stderr));
    if (this.#stdinHeld >= 0) {
      this.#stdin = new Socket({ fd: duplicate(this.#stdinHeld), readable: false, writable: true });
      this.#watchStdin(this.#stdin);
    }
    for (const { chunk, write } of this.#typedAhead.splice(0)) {
      if (this.#stdin) this.#stdin.write(chunk, () => this.#stdinAccepted(write));
      else this.#stdinAccepted(write);
    }
    if (this.#readers.size === 0) this.#setDrained();
  }

  /**
   * The process is dead: reads what it left, then flushes the log. What it wrote itself is in the pipes already and is
   * read in any case, even if a client's back-pressure makes that take longer than `capMs`; a descendant that holds
   * the pipes open is waited for no longer than that.
   */
  async finish(capMs: number): Promise<void> {
    await this.#drainAtMost(capMs);
    for (const reader of this.#readers) reader.destroy();
    if (this.#o.tty) this.#drainTerminal();
    this.#readers.clear();
    this.#setDrained();
    this.#o.log?.flush();
  }

  /** @throws Errno */
  resize(height: number, width: number): void {
    const [master] = this.#held;
    if (this.#o.tty && master !== undefined) setWindowSize(master, height, width);
  }

  /** Releases everything and removes the FIFOs. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#release();
    this.#setDrained();
  }

  /** Stops reading until `release` is called for the same `who`. */
  hold(who: object): void {
    this.#waiting.add(who);
    for (const reader of this.#readers) reader.pause();
  }

  release(who: object): void {
    if (!this.#waiting.delete(who) || this.#waiting.size > 0) return;
    for (const reader of this.#readers) reader.resume();
  }

  /** `accepted` is called once the kernel has taken all of it (or nobody will ever read it). The chunk is not copied. */
  writeStdin(chunk: Buffer, accepted: () => void): void {
    const ready = this.#started ? this.#stdin?.writable === true : this.hasStdin;
    if (!ready || this.#stdinEnding || this.#closed) return void setImmediate(accepted);
    const write = { accepted };
    this.#stdinPending.add(write);
    if (this.#started) this.#stdin!.write(chunk, () => this.#stdinAccepted(write));
    else this.#typedAhead.push({ chunk, write });
  }

  /** EOF for the process, once what was written before has gone. Not of a terminal, whose EOF is a character. */
  endStdin(): void {
    if (this.#o.tty || this.#stdinEnding || this.#stdinHeld < 0) return;
    this.#stdinEnding = true;
    if (this.#stdinPending.size === 0) this.#stdinEnded();
  }

  /**
   * Goes on where a dead shim left off. Not started. Of a dead keeper the FIFOs can still be had by their paths, but a
   * terminal or stdin that nobody held any more is gone.
   */
  static takeOver(options: StdioOptions, keeper: Keeper): Stdio {
    const stdio = new Stdio(options);
    if (options.tty) {
      stdio.#held = take(keeper, 0);
      return stdio;
    }
    stdio.#held = ['out', 'err'].flatMap((name, i) => {
      const kept = take(keeper, i);
      return kept.length > 0 ? kept : reopen(stdio.#path(name));
    });
    stdio.#stdinHeld = options.stdin ? take(keeper, 2)[0] ?? -1 : -1;
    stdio.#stdinEnding = options.stdin && stdio.#stdinHeld < 0;
    return stdio;
  }

  #path = (name: string): string => `${this.#o.run}/${this.#o.key}.${name}`;

  // The read end first: without one, opening the write end would block.
  #outputFifo(name: string): Fd {
    const path = this.#makeFifo(name);
    const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    this.#held.push(read);
    growPipe(read, PIPE_BYTES);
    return openSync(path, constants.O_WRONLY);
  }

  // The process's end must not be able to write: it would never see EOF.
  #inputFifo(): void {
    const path = this.#makeFifo('in');
    const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    this.#child[0] = read;
    this.#stdinHeld = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    makeBlocking(read);
  }

  #makeFifo(name: string): string {
    const path = this.#path(name);
    rmSync(path, { force: true });
    mkfifo(path);
    return path;
  }

  #readFifo(fd: Fd, stream: OutputStream): void {
    const options = { fd, readable: true, writable: false, onread: this.#onread(stream) };
    this.#watchReader(new Socket(options as ConstructorParameters<typeof Socket>[0]), () => {});
  }

  #readTerminal(): void {
    const [master] = this.#held;
    if (master === undefined) return;
    const terminal = terminalStream(duplicate(master), this.#onread(Stream.stdout));
    this.#watchReader(terminal, () => this.#drainTerminal());
    this.#watchStdin(terminal);
    this.#stdin = terminal;
  }

  #onread = (stream: OutputStream): OnReadOpts => ({
    buffer: readBuffer,
    callback: (n: number) => {
      this.#output(stream, readBuffer.subarray(0, n));
      return this.#waiting.size === 0;
    },
  });

  #watchReader(reader: Socket, ended: () => void): void {
    this.#readers.add(reader);
    reader.on('error', () => {}); // EIO is how a terminal ends
    reader.on('end', () => reader.destroy());
    reader.on('close', () => {
      if (!this.#readers.delete(reader)) return;
      ended();
      if (this.#readers.size === 0) this.#setDrained();
    });
    if (this.#waiting.size === 0) reader.resume();
  }

  #output(stream: OutputStream, chunk: Buffer): void {
    this.#bytesRead += chunk.length;
    const { log } = this.#o;
    const before = log && this.onOutput ? log.mark() : null;
    log?.write(stream, chunk);
    this.onOutput?.({ stream, chunk, before, faithful: before !== null && log!.faithful });
  }

  #drainTerminal(): void {
    const [master] = this.#held;
    if (master !== undefined) drainTerminal(master, readBuffer, (bytes) => this.#output(Stream.stdout, bytes));
  }

  /** Time counts while nobody holds the output back; then it ends with silence, or when more came than the pipes can have held. */
  async #drainAtMost(capMs: number): Promise<void> {
    const limit = this.#bytesRead + this.#held.length * PIPE_BYTES;
    let drained = false;
    void this.drained.then(() => (drained = true));
    for (let waited = 0; !drained; ) {
      const before = this.#bytesRead;
      const held = this.#waiting.size > 0;
      let timer: NodeJS.Timeout | undefined;
      await Promise.race([this.drained, new Promise((resolve) => (timer = setTimeout(resolve, FINISH_TICK_MS)))]);
      clearTimeout(timer);
      if (held || this.#waiting.size > 0) continue;
      waited += FINISH_TICK_MS;
      if (waited >= capMs && (this.#bytesRead === before || this.#bytesRead > limit)) return;
    }
  }

  #watchStdin(stdin: Socket): void {
    // EPIPE: the process has closed its stdin. What clients send from now on goes nowhere.
    stdin.on('error', () => {});
    stdin.on('close', () => {
      for (const write of this.#stdinPending) this.#stdinAccepted(write);
    });
  }

  #stdinAccepted(write: StdinWrite): void {
    if (!this.#stdinPending.delete(write)) return;
    write.accepted();
    if (this.#stdinEnding && this.#stdinPending.size === 0) this.#stdinEnded();
  }

  #stdinEnded(): void {
    if (this.#stdinHeld < 0) return;
    this.#stdin?.destroy();
    this.#stdin = null;
    closeSync(this.#stdinHeld);
    this.#stdinHeld = -1;
    this.onStdinEnd?.();
  }

  #closeChild(): void {
    for (const fd of new Set(this.#child)) if (fd !== 'ignore') closeSync(fd);
    this.#child = ['ignore', 'ignore', 'ignore'];
  }

  #release(): void {
    this.#closeChild();
    this.#console?.close();
    this.#console = null;
    for (const reader of this.#readers) reader.destroy();
    this.#readers.clear();
    this.#stdin?.destroy();
    this.#stdin = null;
    for (const fd of this.kept()) closeSync(fd);
    this.#held = [];
    this.#stdinHeld = -1;
    for (const name of ['in', 'out', 'err', 'con']) rmSync(this.#path(name), { force: true });
  }
}

function take({ pidfd, fds }: Keeper, i: number): Fd[] {
  const fd = fds[i];
  if (fd === undefined) return [];
  try {
    return [pidfdGetfd(pidfd, fd)];
  } catch {
    return []; // the keeper is dead too
  }
}

function reopen(path: string): Fd[] {
  try {
    const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    // A FIFO tells a reader of its writers' end only if it has had one since that reader opened it. pipe_poll in fs/pipe.c
    closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
    return [read];
  } catch {
    return [];
  }
}
