/** Clients in `POST /containers/x/wait`, handed over by the daemon so that they survive its death. */
import type { Socket } from 'node:net';
import type { WaitCondition } from '../protocol/messages.ts';
import type { Client } from './clients.ts';

export class WaitClients {
  #waiting = new Map<Socket, WaitCondition>();

  get count(): number {
    return this.#waiting.size;
  }

  get clients(): Socket[] {
    return [...this.#waiting.keys()];
  }

  /** Writes the head and keeps the client until its condition is met or it disconnects. */
  add(client: Client, condition: WaitCondition): void {
    const socket = client.open();
    this.#waiting.set(socket, condition);
    const left = (): void => {
      this.#waiting.delete(socket);
      socket.destroy();
    };
    socket.on('error', left);
    socket.on('close', left);
    // No input is expected: it is discarded, and EOF means that the client has left.
    socket.on('end', left);
    socket.resume();
    if (client.head.length > 0) socket.write(client.head);
  }

  /** Answers the clients that wait for an exit; those that wait for the removal stay. */
  answerExit(code: number): void {
    this.#answer(code, (condition) => condition !== 'removed');
  }

  /** Answers every client: the container was removed, or did not start. */
  answerAll(code: number): void {
    this.#answer(code, () => true);
  }

  /** Closes some clients' connections without an answer, as the end of a daemon does. */
  drop(clients: readonly Socket[]): void {
    for (const socket of clients) if (this.#waiting.delete(socket)) socket.destroy();
  }

  #answer(code: number, concerns: (condition: WaitCondition) => boolean): void {
    for (const [socket, condition] of this.#waiting) {
      if (!concerns(condition)) continue;
      this.#waiting.delete(socket);
      socket.removeAllListeners('end');
      socket.end(body(code), () => socket.destroySoon());
      socket.on('end', () => socket.destroy());
    }
  }
}

/** Without `Error`: as in dockerd, only the start's own answer says why it failed. The CLI would print it twice. */
const body = (code: number): string => `${JSON.stringify({ StatusCode: code })}\n`;
