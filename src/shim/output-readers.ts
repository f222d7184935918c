/** Reads a process's output: one stream per FIFO, or one for its terminal. They can be paused together. */
import { Socket, type OnReadOpts } from 'node:net';
import { Stream, type OutputStream } from '../protocol/frames.ts';
import { duplicate } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';
import { drainTerminal, terminalStream } from './console.ts';

const READ_BYTES = 64 * 1024;
const DRAIN_POLL_MS = 10;

// Shared by all streams of this process: a chunk is consumed within the call that reads it.
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

export class OutputReaders {
  /** Resolves at the end of all streams. */
  readonly drained: Promise<void>;
  #resolveDrained!: () => void;
  readonly #readers = new Set<Socket>();
  /** While it has members, no stream is read. */
  readonly #pausedBy = new Set<object>();
  #bytesRead = 0;

  /** `take` receives each chunk, which is valid during the call only. */
  constructor(private readonly take: (stream: OutputStream, chunk: Buffer) => void) {
    this.drained = new Promise((resolve) => (this.#resolveDrained = resolve));
  }

  /** Starts to read a FIFO, through a duplicate of `readEnd`. */
  readFifo(readEnd: Fd, stream: OutputStream): void {
    const options = { fd: duplicate(readEnd), readable: true, writable: false, onread: this.#onread(stream) };
    this.#watch(new Socket(options), () => {});
  }

  /** Starts to read a terminal, through a duplicate of `master`. The returned stream is writable. */
  readTerminal(master: Fd): Socket {
    const terminal = terminalStream(duplicate(master), this.#onread(Stream.stdout));
    this.#watch(terminal, () => this.drainTerminal(master));
    return terminal;
  }

  /** Reads what is left in a terminal, synchronously. */
  drainTerminal(master: Fd): void {
    drainTerminal(master, readBuffer, (bytes) => this.#took(Stream.stdout, bytes));
  }

  /** Call it after the last readFifo() or readTerminal(): without any stream, everything is drained. */
  started(): void {
    if (this.#readers.size === 0) this.#resolveDrained();
  }

  /** Stops reading until `resume` is called with the same `who`. */
  pause(who: object): void {
    this.#pausedBy.add(who);
    for (const reader of this.#readers) reader.pause();
  }

  resume(who: object): void {
    if (!this.#pausedBy.delete(who) || this.#pausedBy.size > 0) return;
    for (const reader of this.#readers) reader.resume();
  }

  /**
   * Resolves when all output is read. When a descendant keeps the streams open, resolves after `capMs` (paused time
   * does not count), once nothing is being written or more was read than the pipes can have contained (`pipeBytes`).
   */
  async drainAtMost(capMs: number, pipeBytes: number): Promise<void> {
    const limit = this.#bytesRead + pipeBytes;
    let waitedMs = 0;
    for (;;) {
      const before = this.#bytesRead;
      const wasPaused = this.#isPaused();
      const drained = await this.#drainedWithin(DRAIN_POLL_MS);
      if (drained) return;
      if (wasPaused || this.#isPaused()) continue;
      waitedMs += DRAIN_POLL_MS;
      const isSilent = this.#bytesRead === before;
      if (waitedMs >= capMs && (isSilent || this.#bytesRead > limit)) return;
    }
  }

  /** Stops reading for good. */
  close(): void {
    for (const reader of this.#readers) reader.destroy();
    this.#readers.clear();
  }

  /** Stops reading for good and resolves `drained`. */
  end(): void {
    this.close();
    this.#resolveDrained();
  }

  #isPaused = (): boolean => this.#pausedBy.size > 0;

  async #drainedWithin(ms: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const timedOut = new Promise<false>((resolve) => (timer = setTimeout(() => resolve(false), ms)));
    const drained = await Promise.race([this.drained.then(() => true), timedOut]);
    clearTimeout(timer);
    return drained;
  }

  #onread = (stream: OutputStream): OnReadOpts => ({
    buffer: readBuffer,
    callback: (length: number) => {
      this.#took(stream, readBuffer.subarray(0, length));
      return !this.#isPaused();
    },
  });

  #took(stream: OutputStream, chunk: Buffer): void {
    this.#bytesRead += chunk.length;
    this.take(stream, chunk);
  }

  #watch(reader: Socket, ended: () => void): void {
    this.#readers.add(reader);
    reader.on('error', () => {}); // A terminal ends with EIO.
    reader.on('end', () => reader.destroy());
    reader.on('close', () => {
      if (!this.#readers.delete(reader)) return;
      ended();
      if (this.#readers.size === 0) this.#resolveDrained();
    });
    if (!this.#isPaused()) reader.resume();
  }
}
