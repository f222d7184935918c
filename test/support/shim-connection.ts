/** Connections of a test to a real shim: the daemon's end of `ctl`, and a client's end of a handed-over socket. */
import type { Socket } from 'node:net';
import type { Answers, Op, Refusal, Reply, Request } from '../../src/protocol/messages.ts';

export class RefusedByShim extends Error {
  constructor(readonly refusal: Refusal) {
    super(refusal.message);
  }
}

type RequestOf<O extends Op> = Extract<Request, { op: O }>;

/** A connection to `ctl`, as the daemon has one. */
export class ShimConnection {
  rings: number[] = [];
  readonly closed: Promise<void>;
  #pending = new Map<number, (reply: Reply) => void>();
  #next = 1;
  #rest = '';

  constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.#rest += chunk.toString();
      for (let end; (end = this.#rest.indexOf('\n')) >= 0; this.#rest = this.#rest.slice(end + 1))
        this.#take(JSON.parse(this.#rest.slice(0, end)) as Reply | { ring: number });
    });
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => socket.on('close', () => resolve()));
  }

  ask<O extends Op>(request: RequestOf<O>): Promise<Answers[O]> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, (reply) =>
        'error' in reply ? reject(new RefusedByShim(reply.error)) : resolve(reply.result as Answers[O]),
      );
      void this.closed.then(() => reject(new Error('the shim closed the connection')));
      this.socket.write(`${JSON.stringify({ id, ...request })}\n`);
    });
  }

  #take(message: Reply | { ring: number }): void {
    if ('ring' in message) return void this.rings.push(message.ring);
    this.#pending.get(message.id)?.(message);
    this.#pending.delete(message.id);
  }
}

/** The client's end of a connection that was handed over to the shim. */
export class TestClient {
  received = Buffer.alloc(0);
  ended = false;
  constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => (this.received = Buffer.concat([this.received, chunk])));
    socket.on('end', () => (this.ended = true));
    socket.on('error', () => (this.ended = true));
  }
  get text(): string {
    return this.received.toString();
  }
  /** The output without the HTTP head and the frame headers. */
  get unframed(): string {
    let text = '';
    for (let at = this.received.indexOf('\r\n\r\n') + 4; at + 8 <= this.received.length;) {
      const size = this.received.readUInt32BE(at + 4);
      text += this.received.subarray(at + 8, at + 8 + size).toString();
      at += 8 + size;
    }
    return text;
  }
}

export const HEAD = 'HTTP/1.1 101 UPGRADED\r\n\r\n';
