import { FRAME_HEADER_BYTES } from '../../src/protocol/frames.ts';

/** Splits a framed stream as a docker client does. `rest`: number of bytes of an unfinished frame at the end. */
export function unframeBytes(bytes: Buffer): { 1: Buffer; 2: Buffer; rest: number } {
  const out: Record<number, Buffer[]> = { 1: [], 2: [] };
  let at = 0;
  while (at + FRAME_HEADER_BYTES <= bytes.length) {
    const length = bytes.readUInt32BE(at + 4);
    if (length === 0) throw new Error('an empty frame');
    if (at + FRAME_HEADER_BYTES + length > bytes.length) break;
    out[bytes[at]!]!.push(bytes.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length));
    at += FRAME_HEADER_BYTES + length;
  }
  return { 1: Buffer.concat(out[1]!), 2: Buffer.concat(out[2]!), rest: bytes.length - at };
}

export function unframe(bytes: Buffer): { 1: string; 2: string; rest: number } {
  const parts = unframeBytes(bytes);
  return { 1: parts[1].toString(), 2: parts[2].toString(), rest: parts.rest };
}
