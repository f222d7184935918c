/**
 * Clients that wait for the container (`POST /containers/x/wait`), handed over by the daemon so that they outlive it.
 */
import { Socket } from 'node:net';
import type { WaitCondition } from '../protocol/messages.ts';
import type { Client } from './clients.ts';

export class Waiters {
  #waiting = new Map<Socket, WaitCondition>();

  get count(): number {
    return this.#waiting.size;
  }

  has(condition: WaitCondition): boolean {
    return [...this.#waiting.values()].includes(condition);
  }

  /** Writes the head and keeps the client until its condition is met. */
  add(client: Client, condition: WaitCondition): void {
    const socket = new Socket({ fd: client.fd, readable: true, writable: true, allowHalfOpen: true });
    this.#waiting.set(socket, condition);
    const left = (): void => {
      this.#waiting.delete(socket);
      socket.destroy();
    };
    socket.on('error', left);
    socket.on('close', left);
    // Nothing is expected from it: what it sends is passed over, its end means that it has left.
    socket.on('end', left);
    socket.resume();
    if (client.head.length > 0) socket.write(client.head);
  }

  /** The container is dead: whoever waits for that, or for anything, hears it; who waits for its removal waits on. */
  exited(code: number): void {
    this.#answer(code, (condition) => condition !== 'removed');
  }

  /** The container is gone, or did not start: nobody waits on. */
  all(code: number): void {
    this.#answer(code, () => true);
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

/** Why a container did not start is told by the start's answer alone, as in dockerd: the CLI would print it twice. */
const body = (code: number): string => `${JSON.stringify({ StatusCode: code })}\n`;
