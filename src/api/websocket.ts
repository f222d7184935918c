/** A WebSocket carries a raw stream: what it sends is input, what the stream has becomes messages. */
import type { Duplex } from 'node:stream';
import type { WebSocket } from '@fastify/websocket';

/** Bytes that may wait in the WebSocket before the stream is read on. */
const MOST_BUFFERED = 1024 * 1024;

/** `binary`: messages of bytes; older clients want text. Ends with whichever side ends first. */
export function relayWebSocket(socket: WebSocket, stream: Duplex, { binary }: { binary: boolean }): void {
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
