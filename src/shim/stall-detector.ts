/** How long a client has accepted nothing of what it is sent. */
import type { Socket } from 'node:net';

export class Patience {
  #writesDone = 0;
  #progress = '';
  #stalledSince = 0;

  constructor(private readonly socket: Socket) {}

  /** A write was accepted as a whole. */
  wrote(): void {
    this.#writesDone++;
  }

  /** Whether it has accepted no byte for `patienceMs`, as far as was seen: this has to be asked now and then. */
  isExhausted(now: number, patienceMs: number): boolean {
    if (this.socket.writableLength === 0) {
      this.#stalledSince = 0;
      return false;
    }
    const progress = `${this.#writesDone} ${this.#queuedInKernelCall()}`;
    if (this.#stalledSince === 0 || progress !== this.#progress) {
      this.#progress = progress;
      this.#stalledSince = now;
      return false;
    }
    return now - this.#stalledSince >= patienceMs;
  }

  // Falls with every byte that the kernel accepts, also in the middle of a write.
  #queuedInKernelCall(): number {
    return (this.socket as unknown as { _handle: { writeQueueSize: number } | null })._handle?.writeQueueSize ?? 0;
  }
}
