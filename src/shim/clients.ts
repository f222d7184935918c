/** Clients' connections that the daemon hands over: they wait on the socket `fd`, and are fetched when a command names their token. */
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

  constructor(private readonly listener: Fd, private readonly trusted: (uid: number) => boolean) {}

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
    closeSync(this.listener);
  }

  // The daemon connects, sends and closes before it writes its command, so whatever is to come is queued already.
  #collect(): void {
    for (let connection; (connection = accept(this.listener)) !== undefined; ) {
      try {
        const received = this.trusted(peerOf(connection).uid) ? receiveFds(connection) : undefined;
        const [fd, ...surplus] = received?.fds ?? [];
        surplus.forEach((one) => closeSync(one));
        if (received && fd !== undefined) this.#keep(received.data.toString(), fd);
      } finally {
        closeSync(connection);
      }
    }
  }

  #keep(token: string, fd: Fd): void {
    const former = this.#waiting.get(token);
    if (former !== undefined) closeSync(former);
    this.#waiting.set(token, fd);
  }
}
