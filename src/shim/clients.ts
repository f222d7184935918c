/** Clients' connections that the daemon hands over: queued on the `fd` socket until a command names their token. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { HandedClient } from '../protocol/messages.ts';
import type { Fd } from '../sys/libc.ts';
import { accept, peerOf, receiveFds } from '../sys/socket.ts';

/**
 * A handed-over client. The code that claims a client disposes it, also when the operation failed: that closes the
 * descriptor, unless open() has moved it into a socket.
 */
export class Client implements Disposable {
  #fd: Fd | null;

  constructor(
    fd: Fd,
    /** What the client must receive first. */
    readonly head: Buffer,
    /** What the daemon has already read from the client. */
    readonly early: Buffer,
  ) {
    this.#fd = fd;
  }

  /** A socket that owns the descriptor from now on. Call it once. @throws Error */
  open(): Socket {
    if (this.#fd === null) throw new Error('the client is open or closed already');
    const socket = new Socket({ fd: this.#fd, allowHalfOpen: true, readable: true, writable: true });
    this.#fd = null;
    return socket;
  }

  [Symbol.dispose](): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}

export class Clients {
  readonly #waiting = new Map<string, Fd>();
  /** Accepted connections whose sender has not sent yet. */
  readonly #arriving = new Set<Fd>();

  constructor(
    private readonly listener: Fd,
    private readonly trusted: (uid: number) => boolean,
  ) {}

  /** Takes the client that was handed over under the token; undefined when there is none. The caller disposes it. */
  claim({ token, head, early }: HandedClient): Client | undefined {
    const [headBytes, earlyBytes] = [Buffer.from(head, 'base64'), Buffer.from(early, 'base64')];
    this.#collect();
    const fd = this.#waiting.get(token);
    if (fd === undefined) return undefined;
    this.#waiting.delete(token);
    return new Client(fd, headBytes, earlyBytes);
  }

  /** Closes the connections that no command has claimed: the daemon that sent them is gone. */
  dropUnclaimed(): void {
    this.#collect();
    for (const fd of this.#waiting.values()) closeSync(fd);
    this.#waiting.clear();
  }

  close(): void {
    this.dropUnclaimed();
    for (const connection of this.#arriving) this.#hangUp(connection);
    closeSync(this.listener);
  }

  // The daemon connects, sends and closes before it writes its command, so what the command names is queued already. A
  // connection without data is one that the daemon is about to send on for its next command: it stays.
  #collect(): void {
    for (let connection = accept(this.listener); connection !== undefined; connection = accept(this.listener))
      this.#arriving.add(connection);
    for (const connection of this.#arriving) if (this.#receive(connection)) this.#hangUp(connection);
  }

  /** False when the sender has connected and not yet sent. */
  #receive(connection: Fd): boolean {
    if (!this.trusted(peerOf(connection).uid)) return true;
    let received;
    try {
      received = receiveFds(connection);
    } catch {
      return true; // The sender is dead.
    }
    if (!received) return false;
    const [fd, ...surplus] = received.fds;
    surplus.forEach((one) => closeSync(one));
    if (fd !== undefined) this.#keep(received.data.toString(), fd);
    return true;
  }

  #hangUp(connection: Fd): void {
    this.#arriving.delete(connection);
    closeSync(connection);
  }

  #keep(token: string, fd: Fd): void {
    const previous = this.#waiting.get(token);
    if (previous !== undefined) closeSync(previous);
    this.#waiting.set(token, fd);
  }
}
