/** Detects a client that accepts nothing of what it is sent. */
import type { Socket } from 'node:net';

export class StallDetector {
  #writesDone = 0;
  #progress = '';
  #stalledSince = 0;

  constructor(private readonly socket: Socket) {}

  /** A write was accepted completely. */
  onWritten(): void {
    this.#writesDone++;
  }

  /**
   * Whether the client has accepted no byte for `limitMs`. Compares with the previous calls, so it must be called
   * regularly. `now` is a performance.now().
   */
  isStalled(now: number, limitMs: number): boolean {
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
    return now - this.#stalledSince >= limitMs;
  }

  // libuv's queue: shrinks with every byte that the kernel accepts, also within one write.
  #queuedInKernelCall(): number {
    return (this.socket as unknown as { _handle: { writeQueueSize: number } | null })._handle?.writeQueueSize ?? 0;
  }
}
