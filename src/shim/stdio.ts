/**
 * The stdio of one process: a container's init or an exec.
 *
 * stdout, stderr and stdin are FIFOs (fifo.ts), or there is a terminal (console.ts). A keeper process holds the
 * descriptors that must stay open when this shim is killed (`kept`), and the next shim continues to read (`takeOver`).
 * Output goes to the log and to `onOutput` in the tick in which it is read.
 */
import { closeSync } from 'node:fs';
import { Stream, type OutputStream } from '../protocol/frames.ts';
import { faultPoint } from '../sys/fault.ts';
import { growPipe, removeFile } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { pidfdGetfd } from '../sys/process.ts';
import { setWindowSize } from '../sys/tty.ts';
import { ConsoleSocket } from './console.ts';
import { makeInputFifo, makeOutputFifo, reopenOutput } from './fifo.ts';
import type { LogWriter, Mark } from './log/writer.ts';
import { OutputReaders } from './output-readers.ts';
import { Stdin } from './stdin.ts';

export interface StdioOptions {
  /** The container's run directory. */
  run: string;
  /** Generation number or exec id. */
  key: string;
  tty: boolean;
  /** Whether the process gets a stdin; else /dev/null. */
  stdin: boolean;
  /** The first client to leave ends stdin, unless it is a terminal. True for an exec. */
  stdinOnce: boolean;
  log: LogWriter | null;
}

/** A keeper's pidfd, and the numbers that the descriptors from `kept` have in it, in that order. */
export interface KeptStdio {
  pidfd: Fd;
  fds: number[];
}

export interface Output {
  stream: OutputStream;
  /** Valid during the call only. */
  chunk: Buffer;
  /** Where the log ended before this chunk; null when the log cannot be read back. */
  before: Mark | null;
  /** Whether the log contains this chunk byte for byte. */
  faithful: boolean;
}

/** Capacity of the FIFOs: what a process can write while no shim reads. The kernel may refuse it. */
const PIPE_BYTES = 1 << 20;

/** The process's end of one stream. */
type ChildEnd = Fd | 'ignore';

export class Stdio {
  onOutput: ((output: Output) => void) | null = null;
  /** Called when the shim's end of stdin is closed for good; stdin.ts says what the listener must do. */
  onStdinEnd: (() => void) | null = null;

  #console: ConsoleSocket | null = null;
  #childEnds: [ChildEnd, ChildEnd, ChildEnd] = ['ignore', 'ignore', 'ignore'];
  /** Read ends of stdout and stderr, or a terminal's master. The streams have duplicates; these close in `close`. */
  #held: Fd[] = [];
  readonly #readers = new OutputReaders((stream, chunk) => this.#output(stream, chunk));
  readonly #stdin = new Stdin(() => this.onStdinEnd?.());
  #started = false;
  #closed = false;

  constructor(private readonly options: StdioOptions) {}

  get tty(): boolean {
    return this.options.tty;
  }

  get stdinOnce(): boolean {
    return this.options.stdinOnce;
  }

  /** Whether the process was given a stdin. */
  get hasStdin(): boolean {
    return this.options.stdin;
  }

  get log(): LogWriter | null {
    return this.options.log;
  }

  /** Resolves at the end of all output. */
  get drained(): Promise<void> {
    return this.#readers.drained;
  }

  /** Path of the console socket; '' = no terminal. */
  get consoleSocket(): string {
    return this.options.tty ? this.#path('con') : '';
  }

  /** Creates the FIFOs, or the console socket. A repeated call replaces them. @throws Errno */
  prepare(): void {
    this.#closeAll();
    // An earlier generation's last, unterminated line must not be continued by this one.
    this.options.log?.flush();
    if (this.options.tty) {
      this.#console = new ConsoleSocket(this.consoleSocket);
      return;
    }
    try {
      this.#makeFifos();
    } catch (error) {
      this.#closeAll();
      throw error;
    }
  }

  /** The descriptors for the runtime's spawn(). */
  childStdio(): [ChildEnd, ChildEnd, ChildEnd] {
    return this.#childEnds;
  }

  /** Call it when the runtime has exited. `consoleSize` is [height, width] in characters. @throws Error */
  created(consoleSize: [number, number]): void {
    this.#closeChildEnds();
    if (!this.#console) return;
    this.#held = [this.#console.take()];
    this.#console = null;
    if (consoleSize[0] > 0 && consoleSize[1] > 0) this.resize(...consoleSize);
  }

  /** What the keeper must hold: [stdout, stderr, stdin's write end if open], or [the terminal's master]. */
  kept(): Fd[] {
    const { writeEnd } = this.#stdin;
    return writeEnd === undefined ? [...this.#held] : [...this.#held, writeEnd];
  }

  /** Starts to read. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    if (this.options.tty) {
      const [master] = this.#held;
      this.#stdin.start(master === undefined ? null : this.#readers.readTerminal(master));
    } else {
      this.#held.forEach((readEnd, i) => this.#readers.readFifo(readEnd, i === 0 ? Stream.stdout : Stream.stderr));
      this.#stdin.start(null);
    }
    this.#readers.started();
  }

  /**
   * The process is dead: reads its remaining output, then flushes the log. What the process wrote is in the pipes and
   * is read in any case, even if a client's backpressure makes that take longer than `capMs`. A descendant that keeps
   * the pipes open is waited for no longer than `capMs`.
   */
  async finish(capMs: number): Promise<void> {
    await this.#readers.drainAtMost(capMs, this.#held.length * PIPE_BYTES);
    const [master] = this.#held;
    if (this.options.tty && master !== undefined) this.#readers.drainTerminal(master);
    this.#readers.end();
    this.options.log?.flush();
  }

  /** Sets the terminal's size, in characters; no effect without a terminal. @throws Errno */
  resize(height: number, width: number): void {
    const [master] = this.#held;
    if (this.options.tty && master !== undefined) setWindowSize(master, height, width);
  }

  /** Closes every descriptor and removes the FIFOs. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closeAll();
    faultPoint('fifo.removed');
    this.#readers.end();
  }

  /** Stops reading until `resumeOutput` is called with the same `who`. */
  pauseOutput(who: object): void {
    this.#readers.pause(who);
  }

  resumeOutput(who: object): void {
    this.#readers.resume(who);
  }

  /** Calls `accepted` once the kernel has taken the chunk, or it is discarded. The chunk is not copied. */
  writeStdin(chunk: Buffer, accepted: () => void): void {
    if (!this.hasStdin || this.#closed) return void setImmediate(accepted);
    this.#stdin.write(chunk, accepted);
  }

  /** Sends EOF once everything written before is in the FIFO. No effect on a terminal, whose EOF is a character. */
  endStdin(): void {
    this.#stdin.end();
  }

  /**
   * Takes over from a dead shim; not started. If the keeper is dead too, the output FIFOs are reopened by path, but a
   * terminal or stdin is lost.
   */
  static takeOver(options: StdioOptions, kept: KeptStdio): Stdio {
    const stdio = new Stdio(options);
    if (options.tty) {
      stdio.#hold(take(kept, 0));
      return stdio;
    }
    stdio.#hold(take(kept, 0) ?? reopenOutput(stdio.#path('out')));
    stdio.#hold(take(kept, 1) ?? reopenOutput(stdio.#path('err')));
    if (!options.stdin) return stdio;
    const writeEnd = take(kept, 2);
    if (writeEnd === undefined) stdio.#stdin.lost();
    else stdio.#stdin.open(writeEnd);
    return stdio;
  }

  #path = (name: string): string => `${this.options.run}/${this.options.key}.${name}`;

  #hold(fd: Fd | undefined): void {
    if (fd !== undefined) this.#held.push(fd);
  }

  #makeFifos(): void {
    if (this.options.stdin) {
      const { readEnd, writeEnd } = makeInputFifo(this.#path('in'));
      this.#childEnds[0] = readEnd;
      this.#stdin.open(writeEnd);
    }
    this.#childEnds[1] = this.#outputFifo('out');
    this.#childEnds[2] = this.#outputFifo('err');
  }

  #outputFifo(name: string): Fd {
    const { readEnd, writeEnd } = makeOutputFifo(this.#path(name));
    this.#hold(readEnd);
    growPipe(readEnd, PIPE_BYTES);
    return writeEnd;
  }

  #output(stream: OutputStream, chunk: Buffer): void {
    const { log } = this.options;
    const before = log && this.onOutput ? log.mark() : null;
    log?.write(stream, chunk);
    this.onOutput?.({ stream, chunk, before, faithful: before !== null && log!.faithful });
  }

  #closeChildEnds(): void {
    for (const fd of new Set(this.#childEnds)) if (fd !== 'ignore') closeSync(fd);
    this.#childEnds = ['ignore', 'ignore', 'ignore'];
  }

  #closeAll(): void {
    this.#closeChildEnds();
    this.#console?.close();
    this.#console = null;
    this.#readers.close();
    this.#stdin.close();
    for (const fd of this.#held) closeSync(fd);
    this.#held = [];
    for (const name of ['in', 'out', 'err', 'con']) removeFile(this.#path(name));
  }
}

/** Duplicates the `i`-th descriptor that a keeper holds; undefined when it holds none, or is dead. */
function take({ pidfd, fds }: KeptStdio, i: number): Fd | undefined {
  const fd = fds[i];
  if (fd === undefined) return undefined;
  try {
    return pidfdGetfd(pidfd, fd);
  } catch {
    return undefined;
  }
}
