/** Docker's stream frames: an 8-byte header before each chunk of output of a container without a terminal. */

/** A frame's first byte. Clients stop at an `error` frame and report its text (moby pkg/stdcopy). */
export const Stream = { stdin: 0, stdout: 1, stderr: 2, error: 3 } as const;

/** The two streams a process writes. */
export type OutputStream = typeof Stream.stdout | typeof Stream.stderr;

export const FRAME_HEADER_BYTES = 8;

/** A framed copy of `payload`, which must not be empty: clients take a frame of length 0 for EOF. */
export function frame(stream: number, payload: Buffer): Buffer {
  const framed = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  framed.writeUInt32BE((stream << 24) >>> 0, 0);
  framed.writeUInt32BE(payload.length, 4);
  payload.copy(framed, FRAME_HEADER_BYTES);
  return framed;
}
