/**
 * The stdio of one process: a container's init or an exec.
 *
 * stdout, stderr and stdin are FIFOs (fifo.ts), or there is a terminal (console.ts). A keeper process holds what must
 * not
 * close when this shim is killed (`kept`), and the next shim reads on (`takeOver`). Output goes to the log and to
 * `onOutput`
 * in the tick it is read in.
 */
import { closeSync } from 'node:fs';
import { Stream, type OutputStream } from '../protocol/frames.ts';
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
  /** Whether there is a stdin at all; else the process gets /dev/null. */
  stdin: boolean;
  /** The first client to leave ends stdin (not of a terminal). True for an exec. */
  stdinOnce: boolean;
  log: LogWriter | null;
}

/** A keeper and the numbers, in it, of the descriptors that `kept` gave to it, in that order. */
export interface KeptStdio {
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

/** The process's end of one stream. */
type ChildEnd = Fd | 'ignore';

export class Stdio {
  onOutput: ((output: Output) => void) | null = null;
  /** Our end of stdin is closed for good; see stdin.ts for what the shim has to do. */
  onStdinEnd: (() => void) | null = null;

  #console: ConsoleSocket | null = null;
  #childEnds: [ChildEnd, ChildEnd, ChildEnd] = ['ignore', 'ignore', 'ignore'];
  /** Read ends of stdout and stderr; for a terminal, its master. Held until `close`, beside the streams' own. */
  #held: Fd[] = [];
  readonly #readers = new OutputReaders((stream, chunk) => this.#output(stream, chunk));
  readonly #stdin = new Stdin(() => this.onStdinEnd?.());
  #started = false;
  #closed = false;

  constructor(private readonly o: StdioOptions) {}

  get tty(): boolean {
    return this.o.tty;
  }

  get stdinOnce(): boolean {
    return this.o.stdinOnce;
  }

  /** Whether the process was given a stdin. */
  get hasStdin(): boolean {
    return this.o.stdin;
  }

  get log(): LogWriter | null {
    return this.o.log;
  }

  /** Resolves when all output is read. */
  get drained(): Promise<void> {
    return this.#readers.drained;
  }

  /** '' unless there is a terminal. */
  get consoleSocket(): string {
    return this.o.tty ? this.#path('con') : '';
  }

  /** Makes the FIFOs, or the console socket. May be repeated: then everything is made anew. */
  prepare(): void {
    this.#release();
    // What an earlier generation wrote last is a line of its own.
    this.o.log?.flush();
    if (this.o.tty) {
      this.#console = new ConsoleSocket(this.consoleSocket);
      return;
    }
    try {
      this.#makeFifos();
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** For spawn() of the runtime. */
  childStdio(): [ChildEnd, ChildEnd, ChildEnd] {
    return this.#childEnds;
  }

  /** The runtime has exited. `consoleSize` is [height, width]. */
  created(consoleSize: [number, number]): void {
    this.#closeChildEnds();
    if (!this.#console) return;
    this.#held = [this.#console.take()];
    this.#console = null;
    if (consoleSize[0] > 0 && consoleSize[1] > 0) this.resize(...consoleSize);
  }

  /** What the keeper must hold: [stdout, stderr, stdin's write end while it is open], or [the terminal's master]. */
  kept(): Fd[] {
    const { writeEnd } = this.#stdin;
    return writeEnd === undefined ? [...this.#held] : [...this.#held, writeEnd];
  }

  /** Reads from now on. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    if (this.o.tty) {
      const [master] = this.#held;
      this.#stdin.start(master === undefined ? null : this.#readers.readTerminal(master));
    } else {
      this.#held.forEach((readEnd, i) => this.#readers.readFifo(readEnd, i === 0 ? Stream.stdout : Stream.stderr));
      this.#stdin.start(null);
    }
    this.#readers.started();
  }

  /**
   * The process is dead: reads what it left, then flushes the log. What it wrote itself is in the pipes already and is
   * read in any case, even if a client's back-pressure makes that take longer than `capMs`; a descendant that holds
   * the pipes open is waited for no longer than that.
   */
  async finish(capMs: number): Promise<void> {
    await this.#readers.drainAtMost(capMs, this.#held.length * PIPE_BYTES);
    const [master] = this.#held;
    if (this.o.tty && master !== undefined) this.#readers.drainTerminal(master);
    this.#readers.end();
    this.o.log?.flush();
  }

  /** @throws Errno */
  resize(height: number, width: number): void {
    const [master] = this.#held;
    if (this.o.tty && master !== undefined) setWindowSize(master, height, width);
  }

  /** Releases everything and removes the FIFOs. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#release();
    this.#readers.end();
  }

  /** Stops reading until `release` is called for the same `who`. */
  hold(who: object): void {
    this.#readers.hold(who);
  }

  release(who: object): void {
    this.#readers.release(who);
  }

  /**
   * `accepted` is called once the kernel has taken all of it (or nobody will ever read it). The chunk is not copied.
   */
  writeStdin(chunk: Buffer, accepted: () => void): void {
    if (!this.hasStdin || this.#closed) return void setImmediate(accepted);
    this.#stdin.write(chunk, accepted);
  }

  /** EOF for the process, once what was written before has gone. Not of a terminal, whose EOF is a character. */
  endStdin(): void {
    this.#stdin.end();
  }

  /**
   * Goes on where a dead shim left off. Not started. Of a dead keeper the FIFOs can still be had by their paths, but a
   * terminal or stdin that nobody held any more is gone.
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

  #path = (name: string): string => `${this.o.run}/${this.o.key}.${name}`;

  #hold(fd: Fd | undefined): void {
    if (fd !== undefined) this.#held.push(fd);
  }

  #makeFifos(): void {
    if (this.o.stdin) {
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
    const { log } = this.o;
    const before = log && this.onOutput ? log.mark() : null;
    log?.write(stream, chunk);
    this.onOutput?.({ stream, chunk, before, faithful: before !== null && log!.faithful });
  }

  #closeChildEnds(): void {
    for (const fd of new Set(this.#childEnds)) if (fd !== 'ignore') closeSync(fd);
    this.#childEnds = ['ignore', 'ignore', 'ignore'];
  }

  #release(): void {
    this.#closeChildEnds();
    this.#console?.close();
    this.#console = null;
    this.#readers.close();
    this.#stdin.release();
    for (const fd of this.#held) closeSync(fd);
    this.#held = [];
    for (const name of ['in', 'out', 'err', 'con']) removeFile(this.#path(name));
  }
}

/** Descriptor number `i` of those that a keeper holds; undefined when it does not, or is dead too. */
function take({ pidfd, fds }: KeptStdio, i: number): Fd | undefined {
  const fd = fds[i];
  if (fd === undefined) return undefined;
  try {
    return pidfdGetfd(pidfd, fd);
  } catch {
    return undefined;
  }
}
