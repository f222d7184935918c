/** Takes a client's connection out of HTTP's hands, as a Client that the engine may hand over to a shim. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Client } from '../engine/client.ts';

/** The parts of Node's sockets and parsers that a take-over needs; kept in this file, tested for each Node. */
interface Internals {
  parser?: { unconsume?(): void; remove?(): void } | null;
  _handle?: { fd: number; readStart(): void; readStop(): void; reading: boolean } | null;
}

const LISTENED = ['data', 'end', 'close', 'drain', 'error', 'timeout'];

/** How long an answer may take to reach a client that goes on sending, before its connection is closed all the same. */
const LINGER_MS = 5_000;

/** What a client may send ahead, for the shim; beyond that it waits in the connection. */
const MAX_EARLY = 64 * 1024;

/** Nothing of the connection is read here but while a client is watched: what it sends belongs to the shim. */
export class HijackedClient implements Client {
  #head: Buffer;
  readonly #early: Buffer[];
  readonly #gone: (() => void)[] = [];
  #watching = false;

  constructor(
    private readonly socket: Socket & Internals,
    head: string,
    early: Buffer,
  ) {
    this.#head = Buffer.from(head, 'latin1');
    this.#early = [early];
    socket.on('error', () => socket.destroy());
  }

  /** Who asks for it is about to give it away: reading here ends. */
  get fd(): number {
    if (this.#watching) stopReading(this.socket);
    return this.socket._handle?.fd ?? -1;
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
  }

  answer(body: string | Buffer): void {
    this.sendHead();
    this.#end(body);
  }

  /** close(2) alone: the connection lives on in the shim's copy. */
  release(): void {
    this.socket.removeAllListeners();
    this.socket.on('error', () => undefined);
    this.socket.destroy();
  }

  onGone(gone: () => void): void {
    this.#gone.push(gone);
    if (this.#watching) return;
    this.#watching = true;
    const left = (): void => this.#gone.splice(0).forEach((f) => f());
    let kept = 0;
    this.socket.on('data', (chunk: Buffer) => {
      this.#early.push(chunk);
      if ((kept += chunk.length) > MAX_EARLY) stopReading(this.socket);
    });
    this.socket.once('end', () => {
      left();
      this.socket.destroy();
    });
    this.socket.once('close', left);
    startReading(this.socket); // A peer that closes is seen only by reading.
  }

  /** The engine refused: an ordinary answer on this connection. */
  refuse(head: string, body: string): void {
    this.#end(`${head}${body}`);
  }

  // Bytes of the client that nobody reads would turn its end of the answer into ECONNRESET (unix(7)): they are read
  // away.
  #end(bytes: string | Buffer): void {
    const { socket } = this;
    const close = (): void => void socket.destroy();
    const late = setTimeout(close, LINGER_MS);
    socket.once('close', () => clearTimeout(late));
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

/** Chunks, of up to 64 KiB each. */
const MAX_STRAYS = 64;

/** What came behind a plain request that will be taken over: Node's parser cannot read it (server.ts, clientError). */
const strays = new WeakMap<Socket, Buffer[]>();

/** Says that this request's connection will be taken over. To be called in the tick in which it came. */
export function expectStrays(socket: Socket): void {
  if (!strays.has(socket)) strays.set(socket, []);
}

/**
 * Keeps what the parser choked on, if it is a client's early input. It cannot wait in the connection, so there is a
 * limit to it.
 */
export function keepStray(socket: Socket, error: { rawPacket?: Buffer; bytesParsed?: number }): boolean {
  const kept = strays.get(socket);
  if (!kept || !error.rawPacket) return false;
  if (kept.length >= MAX_STRAYS) socket.destroy();
  else kept.push(error.rawPacket.subarray(kept.length === 0 ? (error.bytesParsed ?? 0) : 0));
  return true;
}

/** Detaches a request that Node has parsed (its body included) from HTTP. */
export function takeOver(request: IncomingMessage, response: ServerResponse, head: string): HijackedClient {
  const socket = request.socket as Socket & Internals;
  socket.setTimeout(0);
  socket.parser?.unconsume?.();
  for (const event of LISTENED) socket.removeAllListeners(event);
  response.detachSocket(socket);
  if (socket.parser) {
    const { parser } = socket;
    socket.parser = null;
    parser.remove?.();
  }
  return held(socket, head, Buffer.concat(strays.get(socket) ?? []));
}

/** An upgrade request: Node has read its head and nothing else on purpose; `rest` is what came along. */
export const takeUpgraded = (socket: Socket, head: string, rest: Buffer): HijackedClient => held(socket, head, rest);

function held(socket: Socket & Internals, head: string, rest: Buffer): HijackedClient {
  stopReading(socket);
  const chunks = [rest];
  for (let chunk = socket.read() as Buffer | null; chunk; chunk = socket.read() as Buffer | null) chunks.push(chunk);
  return new HijackedClient(socket, head, Buffer.concat(chunks));
}

/**
 * Reads an upgrade request's body (Node does not) from `head` and what follows; what comes behind it is `rest`. @throws
 * when it is too long or the client leaves
 */
export function readUpgradeBody(
  socket: Socket,
  head: Buffer,
  framing: BodyFraming,
  limit: number,
): Promise<{ body: Buffer; rest: Buffer }> {
  return new Promise((resolve, reject) => {
    let all = head;
    const finish = (how: () => void): void => {
      socket.off('data', more);
      socket.off('close', gone);
      socket.pause();
      how();
    };
    const look = (): void => {
      let found;
      try {
        found =
          framing === 'chunked'
            ? dechunk(all)
            : all.length >= framing
              ? { body: all.subarray(0, framing), rest: all.subarray(framing) }
              : undefined;
      } catch (error) {
        return finish(() => reject(error));
      }
      if (found) finish(() => resolve(found));
      else if (all.length > limit) finish(() => reject(new Error('the body of the upgrade request is too long')));
    };
    const more = (chunk: Buffer): void => {
      all = Buffer.concat([all, chunk]);
      look();
    };
    const gone = (): void => finish(() => reject(new Error('the client left')));
    socket.on('data', more);
    socket.on('close', gone);
    look();
    if (socket.listeners('data').includes(more)) socket.resume();
  });
}

/** Bytes to read, or chunks to their end. */
export type BodyFraming = number | 'chunked';

/** A chunked body (RFC 9112, 7.1) and what follows it; undefined while some of it is missing. */
export function dechunk(bytes: Buffer): { body: Buffer; rest: Buffer } | undefined {
  const chunks: Buffer[] = [];
  for (let at = 0; ;) {
    const line = bytes.indexOf('\r\n', at);
    if (line < 0) return undefined;
    // Hexadecimal digits and nothing else: a size with a sign would lead back and round for ever.
    const [digits] = /^[0-9a-fA-F]{1,8}(?=[ \t]*(?:;|$))/.exec(bytes.toString('latin1', at, line)) ?? [];
    if (digits === undefined) throw new Error('malformed chunked encoding');
    const size = parseInt(digits, 16);
    const from = line + 2;
    if (size === 0) {
      // Trailers, if any, end with an empty line.
      const end = bytes.indexOf('\r\n\r\n', line);
      return end < 0 ? undefined : { body: Buffer.concat(chunks), rest: bytes.subarray(end + 4) };
    }
    if (bytes.length < from + size + 2) return undefined;
    chunks.push(bytes.subarray(from, from + size));
    at = from + size + 2;
  }
}
