/** The body of an upgrade request, which Node leaves on the socket unread. */
import type { Socket } from 'node:net';

/** Length of the body in bytes, or chunks up to an empty one. */
export type BodyFraming = number | 'chunked';

/** A body, and the bytes received after it. */
export interface SplitBody {
  body: Buffer;
  rest: Buffer;
}

/**
 * Reads the body from `head` and then from the socket, which is left paused.
 * @throws when the body exceeds `limit` bytes, is malformed, or the client disconnects
 */
export async function readUpgradeBody(
  socket: Socket,
  head: Buffer,
  framing: BodyFraming,
  limit: number,
): Promise<SplitBody> {
  let received = head;
  for (;;) {
    const found = splitBody(received, framing);
    if (found) return found;
    if (received.length > limit) throw new Error('the body of the upgrade request is too long');
    received = Buffer.concat([received, await nextChunk(socket)]);
  }
}

function nextChunk(socket: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      socket.off('data', onData).off('close', onClose);
      socket.pause();
      resolve(chunk);
    };
    const onClose = (): void => reject(new Error('the client disconnected'));
    if (socket.destroyed) return onClose();
    socket.on('data', onData).on('close', onClose);
    socket.resume();
  });
}

/** undefined while the body is incomplete. @throws when its chunks are malformed */
function splitBody(bytes: Buffer, framing: BodyFraming): SplitBody | undefined {
  if (framing === 'chunked') return dechunk(bytes);
  if (bytes.length < framing) return undefined;
  return { body: bytes.subarray(0, framing), rest: bytes.subarray(framing) };
}

/** Decodes a chunked body (RFC 9112, 7.1); undefined while it is incomplete. @throws when it is malformed */
function dechunk(bytes: Buffer): SplitBody | undefined {
  const chunks: Buffer[] = [];
  for (let at = 0; ;) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    // Digits only: parseInt accepts a sign, and with a negative size `at` would move back, in an endless loop.
    const [digits] = /^[0-9a-fA-F]{1,8}(?=[ \t]*(?:;|$))/.exec(bytes.toString('latin1', at, lineEnd)) ?? [];
    if (digits === undefined) throw new Error('malformed chunked encoding');
    const size = parseInt(digits, 16);
    if (size === 0) {
      // Trailers, if any, end with an empty line.
      const end = bytes.indexOf('\r\n\r\n', lineEnd);
      return end < 0 ? undefined : { body: Buffer.concat(chunks), rest: bytes.subarray(end + 4) };
    }
    const from = lineEnd + 2;
    if (bytes.length < from + size + 2) return undefined;
    chunks.push(bytes.subarray(from, from + size));
    at = from + size + 2;
  }
}
