/** A client whose bytes the daemon relays itself (WebSocket): the shim gets one end of a socket pair. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { socketPair } from '../../sys/socket.ts';
import type { Client } from '../client.ts';

/** Hands one end over and returns the other. @throws what the shim refused with */
export async function relay(handOver: (client: Client) => Promise<void>): Promise<Duplex> {
  const [near, far] = socketPair();
  const nothing = Buffer.alloc(0);
  try {
    await handOver({
      fd: far,
      early: nothing,
      head: nothing,
      sendHead: () => undefined,
      answer: () => undefined,
      onGone: () => undefined,
      release: () => undefined,
    });
  } catch (error) {
    closeSync(near);
    throw error;
  } finally {
    closeSync(far);
  }
  return new Socket({ fd: near, readable: true, writable: true, allowHalfOpen: true });
}
