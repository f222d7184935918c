/** A WebSocket carries a raw stream: what it sends is input, what the stream has becomes messages. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket } from '@fastify/websocket';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { openWebSocket } from './routes/containers.ts';
import type { Call } from './call.ts';

/** Bytes that may wait in the WebSocket before the stream is read on. */
const MOST_BUFFERED = 1024 * 1024;

/**
 * What a WebSocket's route is made of. Refused while it still is HTTP, so that a refusal is an ordinary answer; opened
 * only then.
 */
export function webSocketRoute(callOf: (request: FastifyRequest, reply: FastifyReply) => Call) {
  const opened = new WeakMap<IncomingMessage, { stream: Duplex; binary: boolean }>();
  return {
    preValidation: async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
      if (request.headers.upgrade?.toLowerCase() !== 'websocket') return;
      const call = callOf(request, reply);
      const stream = await openWebSocket(call);
      request.raw.socket.once('close', () => stream.destroy());
      opened.set(request.raw, { stream, binary: call.atLeast('1.28') });
    },
    wsHandler: (socket: WebSocket, request: FastifyRequest): void => {
      const { stream, binary } = opened.get(request.raw)!;
      relayWebSocket(socket, stream, { binary });
    },
  };
}

/** `binary`: messages of bytes; older clients want text. Ends with whichever side ends first. */
function relayWebSocket(socket: WebSocket, stream: Duplex, { binary }: { binary: boolean }): void {
  stream.on('data', (chunk: Buffer) => {
    socket.send(chunk, { binary }, () => {
      if (socket.bufferedAmount < MOST_BUFFERED) stream.resume();
    });
    if (socket.bufferedAmount >= MOST_BUFFERED) stream.pause();
  });
  stream.on('end', () => socket.close());
  stream.on('error', () => socket.terminate());
  stream.on('drain', () => socket.resume());
  socket.on('message', (data: Buffer | ArrayBuffer | Buffer[]) => {
    const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.isBuffer(data) ? data : Buffer.from(data);
    if (!stream.write(bytes)) socket.pause();
  });
  socket.on('error', () => stream.destroy());
  socket.on('close', () => stream.destroy());
}
