/** Takes a client's connection out of HTTP's hands, as a Client that the engine may hand over to a shim. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Client } from '../engine/client.ts';

/** The parts of Node's sockets and parsers that a take-over needs; kept in this file, tested for each Node. */
interface Internals {
  parser?: { unconsume?(): void; remove?(): void } | null;
  _handle?: { fd: number; readStop(): void; reading: boolean } | null;
}

const LISTENED = ['data', 'end', 'close', 'drain', 'error', 'timeout'];

/** `early` is what the client sent behind its request and Node has read already. */
export class HijackedClient implements Client {
  #head: Buffer;
  #gone: (() => void)[] = [];
  #watching = false;

  constructor(private readonly socket: Socket, head: string, readonly early: Buffer) {
    this.#head = Buffer.from(head, 'latin1');
    socket.on('error', () => socket.destroy());
  }

  get fd(): number {
    return (this.socket as Socket & Internals)._handle?.fd ?? -1;
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
    this.socket.end(body);
    this.socket.resume();
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
    // A peer that closes is seen only by reading; a waiting client sends nothing else.
    const left = (): void => this.#gone.splice(0).forEach((f) => f());
    this.socket.once('end', () => {
      left();
      this.socket.destroy();
    });
    this.socket.once('close', left);
  }

  /** The engine refused: an ordinary answer on this connection. */
  refuse(head: string, body: string): void {
    this.socket.end(`${head}${body}`);
    this.socket.resume();
  }
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
  return held(socket, head, Buffer.alloc(0));
}

/** An upgrade request: Node has read its head and nothing else on purpose; `rest` is what came along. */
export const takeUpgraded = (socket: Socket, head: string, rest: Buffer): HijackedClient => held(socket, head, rest);

function held(socket: Socket & Internals, head: string, rest: Buffer): HijackedClient {
  socket.pause();
  socket._handle?.readStop();
  if (socket._handle) socket._handle.reading = false;
  const chunks = [rest];
  for (let chunk = socket.read() as Buffer | null; chunk; chunk = socket.read() as Buffer | null) chunks.push(chunk);
  return new HijackedClient(socket, head, Buffer.concat(chunks));
}

/** Reads an upgrade request's body (Node does not): `length` bytes of `head` and what follows; resolves with body and rest. */
export function readUpgradeBody(socket: Socket, head: Buffer, length: number): Promise<{ body: Buffer; rest: Buffer }> {
  return new Promise((resolve, reject) => {
    let all = head;
    const done = (): void => {
      socket.off('data', more);
      socket.off('close', gone);
      resolve({ body: all.subarray(0, length), rest: all.subarray(length) });
    };
    const more = (chunk: Buffer): void => {
      all = Buffer.concat([all, chunk]);
      if (all.length >= length) done();
    };
    const gone = (): void => reject(new Error('the client left'));
    if (all.length >= length) return done();
    socket.on('data', more);
    socket.on('close', gone);
    socket.resume();
  });
}
