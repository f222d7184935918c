/**
 * Encodes tar entries: ustar, preceded by a pax header for what ustar cannot hold (long or non-ASCII names, large
 * numbers, fractions of seconds, extended attributes).
 */
import { BLOCK, checksum, FIELDS, padding, TarError, XATTR_PREFIX, type TarEntry, type TarType } from './tar.ts';

const FLAGS: Record<TarType, string> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};
const NS_PER_S = 1_000_000_000n;
const ZEROS = Buffer.alloc(BLOCK);
const EMPTY = Buffer.alloc(0);

/** The end-of-archive blocks. */
export const TRAILER = Buffer.alloc(2 * BLOCK);

/** The zeros after a body of `size` bytes. */
export const bodyPadding = (size: number): Buffer => ZEROS.subarray(0, padding(size));

/** An entry with default values. A string path is text, not latin1. */
export function newEntry(
  type: TarType,
  path: string | Buffer,
  rest: Partial<Omit<TarEntry, 'type' | 'path'>> = {},
): TarEntry {
  const mode = type === 'directory' ? 0o755 : type === 'symlink' ? 0o777 : 0o644;
  return {
    type,
    path: Buffer.from(path as Buffer).toString('latin1'),
    link: EMPTY,
    mode,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: 0n,
    major: 0,
    minor: 0,
    xattrs: new Map(),
    ...rest,
  };
}

/** The header blocks of an entry. @throws TarError for a NUL in a name and device numbers out of range */
export function encodeHeader(entry: TarEntry): Buffer {
  const path = Buffer.from(
    entry.type === 'directory' && !entry.path.endsWith('/') ? `${entry.path}/` : entry.path,
    'latin1',
  );
  if (path.includes(0) || entry.link.includes(0)) throw new TarError('a NUL in a name');
  const records: [string, Buffer][] = [];
  const extend = (key: string, value: string | Buffer): void => void records.push([key, Buffer.from(value as Buffer)]);

  const header = Buffer.alloc(BLOCK);
  const split = splitPath(path);
  if (split) {
    putBytes(header, 'prefix', split.prefix);
    putBytes(header, 'name', split.name);
  } else {
    putBytes(header, 'name', path.subarray(0, FIELDS.name[1]));
    extend('path', path);
  }
  if (entry.link.length > FIELDS.link[1] || !isAscii(entry.link)) extend('linkpath', entry.link);
  putBytes(header, 'link', entry.link.subarray(0, FIELDS.link[1]));
  putOctal(header, 'mode', entry.mode & 0o7777);
  for (const key of ['uid', 'gid', 'size'] as const)
    if (!putOctal(header, key, entry[key])) extend(key, String(entry[key]));
  const seconds = floorSeconds(entry.mtime);
  if (!putOctal(header, 'mtime', seconds) || BigInt(seconds) * NS_PER_S !== entry.mtime)
    extend('mtime', timeText(entry.mtime));
  if (entry.atime !== undefined) extend('atime', timeText(entry.atime));
  if (!putOctal(header, 'major', entry.major) || !putOctal(header, 'minor', entry.minor))
    throw new TarError(`device number ${entry.major}:${entry.minor} is out of range`);
  for (const [name, value] of entry.xattrs) extend(XATTR_PREFIX + name, value);
  seal(header, FLAGS[entry.type]);
  return records.length === 0 ? header : Buffer.concat([...paxHeader(records), header]);
}

function paxHeader(records: [string, Buffer][]): Buffer[] {
  const body = Buffer.concat(records.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => paxRecord(key, value)));
  const header = Buffer.alloc(BLOCK);
  putBytes(header, 'name', Buffer.from('PaxHeaders/entry'));
  putOctal(header, 'mode', 0o644);
  for (const key of ['uid', 'gid', 'mtime', 'major', 'minor'] as const) putOctal(header, key, 0);
  putOctal(header, 'size', body.length);
  seal(header, 'x');
  return [header, body, bodyPadding(body.length)];
}

// `LENGTH KEY=VALUE\n`; the length includes its own digits.
function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.byteLength(key) + value.length + 3;
  let length = rest + String(rest).length;
  if (rest + String(length).length > length) length++;
  return Buffer.concat([Buffer.from(`${length} ${key}=`), value, Buffer.from('\n')]);
}

// Splits at a slash into at most 155 bytes of prefix and 100 of name; undefined if there is no such slash.
function splitPath(path: Buffer): { prefix: Buffer; name: Buffer } | undefined {
  if (!isAscii(path)) return undefined;
  if (path.length <= FIELDS.name[1]) return { prefix: EMPTY, name: path };
  const slash = path.subarray(0, FIELDS.prefix[1] + 1).lastIndexOf(0x2f, path.length - 2);
  if (slash <= 0 || path.length - slash - 1 > FIELDS.name[1]) return undefined;
  return { prefix: path.subarray(0, slash), name: path.subarray(slash + 1) };
}

const isAscii = (bytes: Buffer): boolean => bytes.every((byte) => byte < 0x80);

const putBytes = (header: Buffer, name: keyof typeof FIELDS, bytes: Buffer): void =>
  void bytes.copy(header, FIELDS[name][0]);

// Writes octal digits and a NUL. If the number does not fit, writes zero and returns false.
function putOctal(header: Buffer, name: keyof typeof FIELDS, value: number): boolean {
  const [start, length] = FIELDS[name];
  const fits = value >= 0 && value < 8 ** (length - 1);
  header.write(`${(fits ? value : 0).toString(8).padStart(length - 1, '0')}\0`, start, 'latin1');
  return fits;
}

function seal(header: Buffer, flag: string): void {
  header.write(flag, FIELDS.type[0], 'latin1');
  header.write('ustar\x0000', FIELDS.magic[0], 'latin1');
  header.write(`${checksum(header).toString(8).padStart(6, '0')}\0 `, FIELDS.checksum[0], 'latin1');
}

// BigInt division truncates; times before the epoch must be rounded down.
const floorSeconds = (ns: bigint): number => Number(ns >= 0n ? ns / NS_PER_S : -((-ns + NS_PER_S - 1n) / NS_PER_S));

function timeText(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  const fraction = String(magnitude % NS_PER_S)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${ns < 0n ? '-' : ''}${magnitude / NS_PER_S}${fraction ? `.${fraction}` : ''}`;
}
