/** Takes a client's connection out of HTTP, as a Client that the engine can hand over to a shim. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Client } from '../engine/client.ts';

/** Undocumented members of Node's sockets and parsers. Used in this file only; tests cover each Node.js version. */
interface Internals {
  parser?: { unconsume?(): void; remove?(): void } | null;
  _handle?: { fd: number; readStart(): void; readStop(): void; reading: boolean } | null;
}

/** The connection's descriptor; -1 once it is closed. */
export const descriptorOf = (socket: Socket & Internals): number => socket._handle?.fd ?? -1;

/** The events that Node's HTTP server listens to on a socket. */
const HTTP_EVENTS = ['data', 'end', 'close', 'drain', 'error', 'timeout'];

/** How long a client that keeps sending may take to read a response before the connection is closed. */
const LINGER_MS = 5_000;

/** Input that is buffered here for the shim; more than that stays in the socket. */
const MAX_EARLY_BYTES = 64 * 1024;

/** The connection's input belongs to the shim: it is read here only to notice that a watched client disconnects. */
export class HijackedClient implements Client {
  #head: Buffer;
  readonly #early: Buffer[];
  readonly #onGone: (() => void)[] = [];
  #watching = false;
  #headSent = false;

  constructor(
    private readonly socket: Socket & Internals,
    head: string,
    early: Buffer,
  ) {
    this.#head = Buffer.from(head, 'latin1');
    this.#early = [early];
    socket.on('error', () => socket.destroy());
  }

  /** The caller is about to pass the descriptor on, so reading stops. */
  get fd(): number {
    if (this.#watching) stopReading(this.socket);
    return descriptorOf(this.socket);
  }

  get early(): Buffer {
    return Buffer.concat(this.#early);
  }

  get head(): Buffer {
    return this.#head;
  }

  sendHead(): void {
    if (this.#head.length > 0) this.socket.write(this.#head);
    this.#head = Buffer.alloc(0);
    this.#headSent = true;
  }

  answer(body: string | Buffer): void {
    this.sendHead();
    this.#end(body);
  }

  /** close(2) without shutdown(2): the shim's copy of the descriptor keeps the connection open. */
  release(): void {
    this.socket.removeAllListeners();
    this.socket.on('error', () => undefined);
    this.socket.destroy();
  }

  onGone(gone: () => void): void {
    this.#onGone.push(gone);
    if (this.#watching) return;
    this.#watching = true;
    const notify = (): void => this.#onGone.splice(0).forEach((callback) => callback());
    let buffered = 0;
    this.socket.on('data', (chunk: Buffer) => {
      this.#early.push(chunk);
      buffered += chunk.length;
      if (buffered > MAX_EARLY_BYTES) stopReading(this.socket);
    });
    this.socket.once('end', () => {
      notify();
      this.socket.destroy();
    });
    this.socket.once('close', notify);
    startReading(this.socket); // Only a read reveals that the peer has closed.
  }

  /** Sends an error response instead of the success head, unless that is sent, and closes. */
  sendError(head: string, body: string): void {
    this.#end(this.#headSent ? '' : `${head}${body}`);
  }

  // Closing with unread input resets the connection (ECONNRESET, unix(7)) before the client has read the response:
  // drain the input until the client closes.
  #end(bytes: string | Buffer): void {
    const { socket } = this;
    const close = (): void => void socket.destroy();
    const deadline = setTimeout(close, LINGER_MS);
    socket.once('close', () => clearTimeout(deadline));
    socket.once('end', () => (socket.writableFinished ? close() : socket.once('finish', close)));
    socket.on('data', () => undefined);
    socket.end(bytes);
    startReading(socket);
  }
}

function startReading(socket: Socket & Internals): void {
  socket.resume();
  if (!socket._handle || socket._handle.reading) return;
  socket._handle.reading = true;
  socket._handle.readStart();
}

function stopReading(socket: Socket & Internals): void {
  socket.pause();
  if (!socket._handle) return;
  socket._handle.reading = false;
  socket._handle.readStop();
}

/** Each chunk has at most 64 KiB. */
const MAX_EARLY_CHUNKS = 64;

/**
 * Input that follows a request without `Upgrade`, for connections that will be hijacked. Node's parser takes it for the
 * next request and fails (`clientError`).
 */
const earlyInput = new WeakMap<Socket, Buffer[]>();

/** Announces that the connection will be hijacked. Call it in the same tick in which the request was parsed. */
export function expectEarlyInput(socket: Socket): void {
  if (!earlyInput.has(socket)) earlyInput.set(socket, []);
}

/**
 * Keeps the bytes that Node's parser rejected if the connection is to be hijacked, and returns whether it is. There is
 * no backpressure here, so a client that sends too much is disconnected.
 */
export function keepEarlyInput(socket: Socket, error: { rawPacket?: Buffer; bytesParsed?: number }): boolean {
  const kept = earlyInput.get(socket);
  if (!kept || !error.rawPacket) return false;
  const parsed = kept.length === 0 ? (error.bytesParsed ?? 0) : 0;
  if (kept.length >= MAX_EARLY_CHUNKS) socket.destroy();
  else kept.push(error.rawPacket.subarray(parsed));
  return true;
}

/** Detaches the connection of a request that Node has parsed, body included. */
export function takeOver(request: IncomingMessage, response: ServerResponse, head: string): HijackedClient {
  const socket = request.socket as Socket & Internals;
  socket.setTimeout(0);
  socket.parser?.unconsume?.();
  for (const event of HTTP_EVENTS) socket.removeAllListeners(event);
  response.detachSocket(socket);
  const { parser } = socket;
  socket.parser = null;
  parser?.remove?.();
  return hijacked(socket, head, Buffer.concat(earlyInput.get(socket) ?? []));
}

/** Takes the connection of an upgrade request, of which Node has parsed only the head; `rest` follows the body. */
export const takeUpgraded = (socket: Socket, head: string, rest: Buffer): HijackedClient =>
  hijacked(socket, head, rest);

function hijacked(socket: Socket & Internals, head: string, rest: Buffer): HijackedClient {
  stopReading(socket);
  const chunks = [rest];
  for (let chunk = socket.read() as Buffer | null; chunk; chunk = socket.read() as Buffer | null) chunks.push(chunk);
  return new HijackedClient(socket, head, Buffer.concat(chunks));
}
