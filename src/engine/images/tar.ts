/**
 * Tar entries and the ustar header layout, for reading and writing. Names and values are bytes: paths need not be
 * UTF-8, and binary attributes such as capabilities are not.
 */

export type TarType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

export interface TarEntry {
  type: TarType;
  /** As in the archive (`./usr/bin/`), in latin1; without a NUL. */
  path: string;
  /** Target of a hard or symbolic link; empty for others. */
  link: Buffer;
  /** The low twelve bits of st_mode. */
  mode: number;
  uid: number;
  gid: number;
  /** Length of the body in bytes; 0 for all but regular files. */
  size: number;
  /** Nanoseconds since the epoch. */
  mtime: bigint;
  /** Nanoseconds since the epoch, if the archive has it. */
  atime?: bigint;
  /** Device number; 0 for other types. */
  major: number;
  minor: number;
  /** By full name (`security.capability`). */
  xattrs: Map<string, Buffer>;
}

export const BLOCK = 512;
export const XATTR_PREFIX = 'SCHILY.xattr.';

/** Bytes between a body's end and the next block. */
export const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

/** Offsets and lengths of a ustar header's fields (POSIX pax, "ustar Interchange Format"). */
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

/** Sum of a header's bytes, the checksum field counted as spaces. Unrolled: it runs once per entry of an archive. */
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

/** The same sum of signed bytes, as some old implementations computed it. */
export function signedChecksum(header: Buffer): number {
  const [start, length] = FIELDS.checksum;
  const negative = header
    .subarray(0, BLOCK)
    .filter((byte, i) => byte >= 0x80 && (i < start || i >= start + length)).length;
  return checksum(header) - 0x100 * negative;
}

/** The archive is broken, hostile or in an unsupported format. */
export class TarError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TarError';
  }
}

/** Formats a path for messages: decoded as UTF-8, quoted, truncated. A string is taken as latin1. */
export function quote(path: Buffer | string): string {
  const MAX_SHOWN = 200;
  const text = Buffer.from(path as string, 'latin1').toString();
  return JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);
}
