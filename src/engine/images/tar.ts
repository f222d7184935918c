/**
 * What a tar archive holds, in both directions. Names and values are bytes: a layer's paths need not be UTF-8, and a
 * capability's xattr never is.
 */

export type TarType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

export interface TarEntry {
  type: TarType;
  /** As in the archive: `./usr/bin/`, without a NUL; one character a byte (latin1). */
  path: string;
  /** Target of a hard or symbolic link; empty for others. */
  link: Buffer;
  /** The low twelve bits of st_mode. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of the body; 0 for all but files. */
  size: number;
  /** Nanoseconds since the epoch. */
  mtime: bigint;
  /** undefined unless the archive tells it. */
  atime?: bigint;
  /** Of a device. */
  major: number;
  minor: number;
  /** By full name (`security.capability`). */
  xattrs: Map<string, Buffer>;
}

export const BLOCK = 512;
export const XATTR_PREFIX = 'SCHILY.xattr.';

/** Bytes from a body's end to the next block. */
export const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

/** Where the fields of a ustar header lie. */
export const FIELDS = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  link: [157, 100],
  magic: [257, 8],
  major: [329, 8],
  minor: [337, 8],
  prefix: [345, 155],
} as const;

/** Sum of a header's bytes, the checksum field taken as spaces. Eight at a time: an archive has tens of thousands. */
export function checksum(header: Buffer): number {
  const [start, length] = FIELDS.checksum;
  let sum = length * 0x20;
  for (let i = 0; i < BLOCK; i += 8)
    sum +=
      header[i]! +
      header[i + 1]! +
      header[i + 2]! +
      header[i + 3]! +
      header[i + 4]! +
      header[i + 5]! +
      header[i + 6]! +
      header[i + 7]!;
  for (let i = start; i < start + length; i++) sum -= header[i]!;
  return sum;
}

/** The same of signed bytes: some old tars have that. */
export function signedChecksum(header: Buffer): number {
  const [start, length] = FIELDS.checksum;
  const negative = header
    .subarray(0, BLOCK)
    .filter((byte, i) => byte >= 0x80 && (i < start || i >= start + length)).length;
  return checksum(header) - 0x100 * negative;
}

/** An archive that is broken, hostile or of a kind that is not understood. */
export class TarError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TarError';
  }
}

/** A path for people: as UTF-8, quoted, not too long. A string has one character a byte. */
export function quote(path: Buffer | string): string {
  const MAX_SHOWN = 200;
  const text = Buffer.from(path as string, 'latin1').toString();
  return JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);
}
