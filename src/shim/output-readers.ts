/**
 * What reads a process's output: one stream for each FIFO, or one for its terminal. All of them can be made to wait.
 */
import { Socket, type OnReadOpts } from 'node:net';
import { Stream, type OutputStream } from '../protocol/frames.ts';
import { duplicate } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { drainTerminal, terminalStream } from './console.ts';

const READ_BYTES = 64 * 1024;
const FINISH_TICK_MS = 10;

// One for all streams of this process: a chunk is used up within the call it is read in.
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

export class OutputReaders {
  /** Resolves when all of them have come to their end. */
  readonly drained: Promise<void>;
  #setDrained!: () => void;
  readonly #readers = new Set<Socket>();
  /** Who wants the output to wait. */
  readonly #holders = new Set<object>();
  #bytesRead = 0;

  /** `take` gets each chunk, which is valid during the call only. */
  constructor(private readonly take: (stream: OutputStream, chunk: Buffer) => void) {
    this.drained = new Promise((resolve) => (this.#setDrained = resolve));
  }

  /** Reads a FIFO from now on, over a descriptor of its own. */
  readFifo(readEnd: Fd, stream: OutputStream): void {
    const options = { fd: duplicate(readEnd), readable: true, writable: false, onread: this.#onread(stream) };
    this.#watch(new Socket(options), () => {});
  }

  /** Reads a terminal from now on, over a descriptor of its own. The stream can be written to. */
  readTerminal(master: Fd): Socket {
    const terminal = terminalStream(duplicate(master), this.#onread(Stream.stdout));
    this.#watch(terminal, () => this.drainTerminal(master));
    return terminal;
  }

  /** Reads what is left in a terminal. */
  drainTerminal(master: Fd): void {
    drainTerminal(master, readBuffer, (bytes) => this.#took(Stream.stdout, bytes));
  }

  /** No more are to come; where there is none, nothing is left to be read. */
  started(): void {
    if (this.#readers.size === 0) this.#setDrained();
  }

  /** Stops reading until `release` is called for the same `who`. */
  hold(who: object): void {
    this.#holders.add(who);
    for (const reader of this.#readers) reader.pause();
  }

  release(who: object): void {
    if (!this.#holders.delete(who) || this.#holders.size > 0) return;
    for (const reader of this.#readers) reader.resume();
  }

  /**
   * Resolves when all is read, or when somebody has held the streams open for `capMs` in which the output was not held
   * back:
   * then with silence, or when more came than the pipes (`pipeBytes`) can have held.
   */
  async drainAtMost(capMs: number, pipeBytes: number): Promise<void> {
    const limit = this.#bytesRead + pipeBytes;
    let drained = false;
    void this.drained.then(() => (drained = true));
    for (let waitedMs = 0; !drained;) {
      const before = this.#bytesRead;
      const wasHeld = this.#isHeld;
      await this.#drainedOr(FINISH_TICK_MS);
      if (wasHeld || this.#isHeld) continue;
      waitedMs += FINISH_TICK_MS;
      const isSilent = this.#bytesRead === before;
      if (waitedMs >= capMs && (isSilent || this.#bytesRead > limit)) return;
    }
  }

  /** Reads no more. */
  close(): void {
    for (const reader of this.#readers) reader.destroy();
    this.#readers.clear();
  }

  /** There is nothing more to be read. */
  end(): void {
    this.close();
    this.#setDrained();
  }

  get #isHeld(): boolean {
    return this.#holders.size > 0;
  }

  async #drainedOr(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([this.drained, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
    clearTimeout(timer);
  }

  #onread = (stream: OutputStream): OnReadOpts => ({
    buffer: readBuffer,
    callback: (length: number) => {
      this.#took(stream, readBuffer.subarray(0, length));
      return !this.#isHeld;
    },
  });

  #took(stream: OutputStream, chunk: Buffer): void {
    this.#bytesRead += chunk.length;
    this.take(stream, chunk);
  }

  #watch(reader: Socket, ended: () => void): void {
    this.#readers.add(reader);
    reader.on('error', () => {}); // EIO is how a terminal ends
    reader.on('end', () => reader.destroy());
    reader.on('close', () => {
      if (!this.#readers.delete(reader)) return;
      ended();
      if (this.#readers.size === 0) this.#setDrained();
    });
    if (!this.#isHeld) reader.resume();
  }
}
