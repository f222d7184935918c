/**
 * Clients' connections that the daemon hands over: they wait on the socket `fd`, and are fetched when a command names
 * their token.
 */
import { closeSync } from 'node:fs';
import type { HandedClient } from '../protocol/messages.ts';
import type { Fd } from '../sys/libc.ts';
import { accept, peerOf, receiveFds } from '../sys/socket.ts';

/** One that is here: what is written first, what was read already, and the connection. */
export interface Client {
  fd: Fd;
  head: Buffer;
  early: Buffer;
}

export class Clients {
  #waiting = new Map<string, Fd>();
  /** Connections that nothing has come on yet. */
  readonly #arriving = new Set<Fd>();

  constructor(
    private readonly listener: Fd,
    private readonly trusted: (uid: number) => boolean,
  ) {}

  /** The connection that was handed over under the client's token; undefined when there is none. */
  claim({ token, head, early }: HandedClient): Client | undefined {
    this.#collect();
    const fd = this.#waiting.get(token);
    if (fd === undefined) return undefined;
    this.#waiting.delete(token);
    return { fd, head: Buffer.from(head, 'base64'), early: Buffer.from(early, 'base64') };
  }

  /** The daemon is gone: what it handed over and did not name belongs to nobody. */
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

  // The daemon connects, sends and closes before it writes its command, so whatever that names is queued already. What
  // it is
  // just about to send for its next command may be a connection still without anything in it: that one stays.
  #collect(): void {
    for (let connection; (connection = accept(this.listener)) !== undefined;) this.#arriving.add(connection);
    for (const connection of this.#arriving) if (this.#receive(connection)) this.#hangUp(connection);
  }

  /** False while its sender has connected and not yet sent. */
  #receive(connection: Fd): boolean {
    if (!this.trusted(peerOf(connection).uid)) return true;
    let received;
    try {
      received = receiveFds(connection);
    } catch {
      return true; // its sender is dead
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
    const former = this.#waiting.get(token);
    if (former !== undefined) closeSync(former);
    this.#waiting.set(token, fd);
  }
}
