/**
 * The shim's end of a process's stdin: a FIFO, or its terminal.
 *
 * The keeper holds a write end of the FIFO too, so that a killed shim causes no EOF. A real EOF therefore needs two
 * closes. `end` closes the shim's once everything written is in the FIFO, then calls `onEnd`. The listener starts a new
 * keeper, which does not get the write end (`writeEnd` is undefined then), and kills the old one: now the process reads
 * EOF. In the reverse order, no process would hold the other descriptors for a moment.
 */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { duplicate } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';

interface Write {
  accepted: () => void;
}

export class Stdin {
  /** The FIFO's write end; the stream has a duplicate. */
  #writeEnd: Fd | undefined;
  #stream: Socket | null = null;
  #started = false;
  /** No more input is accepted: end() was called, or stdin was lost with a dead keeper. */
  #ending = false;
  /** Writes that the kernel has not taken yet. */
  readonly #pending = new Set<Write>();
  /** Input received between the clients' binding and the start. */
  #typedAhead: { chunk: Buffer; write: Write }[] = [];

  constructor(private readonly onEnd: () => void) {}

  /** For the keeper; undefined unless there is an open FIFO. */
  get writeEnd(): Fd | undefined {
    return this.#writeEnd;
  }

  /** Sets the FIFO to write to once started. */
  open(writeEnd: Fd): void {
    this.#writeEnd = writeEnd;
  }

  /** Discards all input: no process held the FIFO's write end any more. */
  lost(): void {
    this.#ending = true;
  }

  /** The process runs: writes what was received so far. `terminal` is the stream of its terminal, if it has one. */
  start(terminal: Socket | null): void {
    this.#started = true;
    if (terminal) this.#stream = terminal;
    else if (this.#writeEnd !== undefined)
      this.#stream = new Socket({ fd: duplicate(this.#writeEnd), readable: false, writable: true });
    if (this.#stream) this.#watch(this.#stream);
    for (const { chunk, write } of this.#typedAhead.splice(0)) {
      if (this.#stream) this.#stream.write(chunk, () => this.#accepted(write));
      else this.#accepted(write);
    }
  }

  /** Calls `accepted` once the kernel has taken the chunk, or it is discarded. The chunk is not copied. */
  write(chunk: Buffer, accepted: () => void): void {
    const isOpen = !this.#started || this.#stream?.writable === true;
    if (!isOpen || this.#ending) return void setImmediate(accepted);
    const write = { accepted };
    this.#pending.add(write);
    if (this.#stream) this.#stream.write(chunk, () => this.#accepted(write));
    else this.#typedAhead.push({ chunk, write });
  }

  /** Sends EOF once everything written before is in the FIFO. No effect on a terminal, whose EOF is a character. */
  end(): void {
    if (this.#ending || this.#writeEnd === undefined) return;
    this.#ending = true;
    if (this.#pending.size === 0) this.#ended();
  }

  close(): void {
    this.#stream?.destroy();
    this.#stream = null;
    if (this.#writeEnd !== undefined) closeSync(this.#writeEnd);
    this.#writeEnd = undefined;
  }

  #watch(stream: Socket): void {
    // EPIPE: the process has closed its stdin. Further input is discarded.
    stream.on('error', () => {});
    stream.on('close', () => {
      for (const write of this.#pending) this.#accepted(write);
    });
  }

  #accepted(write: Write): void {
    if (!this.#pending.delete(write)) return;
    write.accepted();
    if (this.#ending && this.#pending.size === 0) this.#ended();
  }

  #ended(): void {
    if (this.#writeEnd === undefined) return;
    this.close();
    this.onEnd();
  }
}
