/**
 * Our end of a process's stdin: a FIFO, or its terminal.
 *
 * A keeper holds a write end of the FIFO, so that a killed shim is no EOF. A true EOF therefore needs two closes. `end`
 * closes ours, after everything written has gone into the FIFO; from then on `writeEnd` is undefined, and `onEnd` is
 * called:
 * the shim starts a keeper that does not hold it, then kills the old one. With that the process reads EOF. (Order
 * matters:
 * the other way round nobody would hold the rest.)
 */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { duplicate } from '../sys/file.ts';
import type { Fd } from '../sys/libc.ts';

interface Write {
  accepted: () => void;
}

export class Stdin {
  /** Of the FIFO; the stream has a descriptor of its own. */
  #writeEnd: Fd | undefined;
  #stream: Socket | null = null;
  #started = false;
  /** No more is taken: its end was asked for, or there is none any more. */
  #ending = false;
  /** What the kernel has not taken yet. */
  #pending = new Set<Write>();
  /** Input from between the clients' binding and the start. */
  #typedAhead: { chunk: Buffer; write: Write }[] = [];

  constructor(private readonly onEnd: () => void) {}

  /** For the keeper; undefined unless there is a FIFO that is open. */
  get writeEnd(): Fd | undefined {
    return this.#writeEnd;
  }

  /** Writes go into this FIFO, once it is started. */
  open(writeEnd: Fd): void {
    this.#writeEnd = writeEnd;
  }

  /** There is none any more: what is written goes nowhere. */
  lost(): void {
    this.#ending = true;
  }

  /** The process runs: what was written goes to it. `terminal`: where it has one. */
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

  /**
   * `accepted` is called once the kernel has taken all of it (or nobody will ever read it). The chunk is not copied.
   */
  write(chunk: Buffer, accepted: () => void): void {
    const isOpen = !this.#started || this.#stream?.writable === true;
    if (!isOpen || this.#ending) return void setImmediate(accepted);
    const write = { accepted };
    this.#pending.add(write);
    if (this.#stream) this.#stream.write(chunk, () => this.#accepted(write));
    else this.#typedAhead.push({ chunk, write });
  }

  /** EOF for the process, once what was written before has gone. Nothing for a terminal, whose EOF is a character. */
  end(): void {
    if (this.#ending || this.#writeEnd === undefined) return;
    this.#ending = true;
    if (this.#pending.size === 0) this.#ended();
  }

  /** Lets go of everything. */
  release(): void {
    this.#stream?.destroy();
    this.#stream = null;
    if (this.#writeEnd !== undefined) closeSync(this.#writeEnd);
    this.#writeEnd = undefined;
  }

  #watch(stream: Socket): void {
    // EPIPE: the process has closed its stdin. What clients send from now on goes nowhere.
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
    this.release();
    this.onEnd();
  }
}
