/** The server's sides of UDP and TCP: they take questions from bound sockets and send the answers. */
import { createSocket } from 'node:dgram';
import { createServer, isIPv6, type Socket } from 'node:net';
import { FrameReader, framed } from './frames.ts';
import { knownAddress } from './known-address.ts';

export interface Listener {
  /** Takes no more questions; answers to earlier ones over TCP are still sent. The bound socket lives on elsewhere. */
  close(): void;
}

/** A client that has sent nothing for so long is dropped. */
const IDLE_MS = 10_000;
const MAX_CONNECTIONS = 512;
const MAX_CONNECTIONS_EACH = 64;
/** Answers that a client does not read. */
const MAX_UNREAD_BYTES = 1 << 20;

/** undefined for what is no question. */
export type Answer = (message: Buffer | undefined) => void;

export interface DatagramListener extends Listener {
  send(message: Buffer, port: number, address: string): void;
}

/** @param fd a bound socket, which the listener closes */
export function listenForDatagrams(
  fd: number,
  address: string,
  onQuery: (packet: Buffer, from: { address: string; port: number }) => void,
): DatagramListener {
  const socket = createSocket({
    type: isIPv6(address) ? 'udp6' : 'udp4',
    lookup: knownAddress,
  });
  let open = true;
  socket.on('error', () => undefined);
  socket.on('message', (packet, from) => onQuery(packet, from));
  socket.bind({ fd });
  return {
    send: (message, port, to) => {
      if (open) socket.send(message, port, to, () => undefined);
    },
    close: () => {
      open = false;
      socket.close();
    },
  };
}

/** The connections of all stream listeners. */
export class Connections {
  readonly #open = new Set<Socket>();
  readonly #byAddress = new Map<string, number>();

  get count(): number {
    return this.#open.size;
  }

  /** @returns false when there are too many, and the connection was dropped */
  admit(socket: Socket): boolean {
    const address = socket.remoteAddress ?? '';
    const ofClient = this.#byAddress.get(address) ?? 0;
    if (this.#open.size >= MAX_CONNECTIONS || ofClient >= MAX_CONNECTIONS_EACH) {
      socket.destroy();
      return false;
    }
    this.#open.add(socket);
    this.#byAddress.set(address, ofClient + 1);
    socket.once('close', () => {
      this.#open.delete(socket);
      const left = this.#byAddress.get(address)! - 1;
      if (left > 0) this.#byAddress.set(address, left);
      else this.#byAddress.delete(address);
    });
    return true;
  }
}

/** @param fd a bound socket, which the listener closes */
export function listenForStreams(
  fd: number,
  connections: Connections,
  onQuery: (packet: Buffer, from: string, answer: Answer) => void,
): Listener {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    if (connections.admit(socket)) serveStream(socket, onQuery);
  });
  server.on('error', () => undefined);
  server.listen({ fd });
  return { close: () => void server.close() };
}

function serveStream(socket: Socket, onQuery: (packet: Buffer, from: string, answer: Answer) => void): void {
  const from = socket.remoteAddress ?? '';
  const frames = new FrameReader();
  let unanswered = 0;
  let ended = false;
  const answered: Answer = (message) => {
    unanswered--;
    if (socket.destroyed) return;
    if (message) socket.write(framed(message));
    if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy();
    else if (ended && unanswered === 0) socket.end();
  };
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  socket.on('data', (chunk) => {
    for (const packet of frames.push(chunk)) {
      unanswered++;
      onQuery(packet, from, answered);
    }
  });
  socket.on('end', () => {
    ended = true;
    if (unanswered === 0) socket.end();
  });
}
