/** DNS messages in a stream: each behind its length. RFC 1035 section 4.2.2. */

const LENGTH_SIZE = 2;

export function framed(message: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(LENGTH_SIZE + message.length);
  frame.writeUInt16BE(message.length);
  message.copy(frame, LENGTH_SIZE);
  return frame;
}

/** Holds less than one frame and one chunk. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The messages that a chunk completes. */
  push(chunk: Buffer): Buffer[] {
    const messages: Buffer[] = [];
    let bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    while (bytes.length >= LENGTH_SIZE) {
      const end = LENGTH_SIZE + bytes.readUInt16BE(0);
      if (bytes.length < end) break;
      messages.push(bytes.subarray(LENGTH_SIZE, end));
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes;
    return messages;
  }
}
