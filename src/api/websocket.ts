/** Relays a container's raw stream over a WebSocket: messages are input, output becomes messages. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket } from '@fastify/websocket';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { openWebSocket } from './routes/containers.ts';
import type { Call } from './call.ts';

/** The stream is paused while the WebSocket has this much to send. */
const MAX_BUFFERED_BYTES = 1024 * 1024;

/** Route options: the stream is opened before the handshake, so that an error is an ordinary HTTP response. */
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

/** Sends binary messages if `binary`, else text, as old clients expect. When one side ends, the other is closed. */
function relayWebSocket(socket: WebSocket, stream: Duplex, { binary }: { binary: boolean }): void {
  stream.on('data', (chunk: Buffer) => {
    socket.send(chunk, { binary }, () => {
      if (socket.bufferedAmount < MAX_BUFFERED_BYTES) stream.resume();
    });
    if (socket.bufferedAmount >= MAX_BUFFERED_BYTES) stream.pause();
  });
  stream.on('end', () => socket.close());
  stream.on('error', () => socket.terminate());
  stream.on('drain', () => socket.resume());
  socket.on('message', (data: Buffer | ArrayBuffer | Buffer[]) => {
    if (!stream.write(bytesOf(data))) socket.pause();
  });
  socket.on('error', () => stream.destroy());
  socket.on('close', () => stream.destroy());
}

function bytesOf(data: Buffer | ArrayBuffer | Buffer[]): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}
