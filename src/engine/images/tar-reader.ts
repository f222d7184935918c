/**
 * Reads tar, incrementally: ustar, pax (with binary values and global headers), GNU and star, old v7.
 * Whatever comes in comes out again, in order: `meta` and `data` together are the archive's bytes.
 */
import {
  BLOCK,
  checksum,
  FIELDS,
  padding,
  quote,
  signedChecksum,
  TarError,
  XATTR_PREFIX,
  type TarEntry,
  type TarType,
} from './tar.ts';

/** What an archive says, told in its order. Bytes are views of what was pushed. */
export interface TarSink {
  entry(entry: TarEntry): void;
  /** Bytes of the last entry's body. */
  data(bytes: Buffer): void;
  /** The last entry's body is complete; comes for every entry, also one without a body. */
  end(): void;
  /** Bytes of the archive that belong to no body: headers, padding, trailer. */
  meta(bytes: Buffer): void;
}

const TYPES: Record<string, TarType> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};
/** A pax header or a GNU long name beyond this is no name (Go's maxSpecialFileSize). */
const MAX_SPECIAL = 1 << 20;
const EMPTY = Buffer.alloc(0);
const ZEROS = Buffer.alloc(BLOCK);
const POSIX = 'ustar\0';
/** Values that hold for all that follows: nobody needs more, and each entry is read with all of them. */
const MAX_GLOBAL = 64 * 1024;
/** Of a value in an error. */
const MAX_SHOWN = 100;

type Pax = Map<string, Buffer>;
const NO_PAX: Pax = new Map();

export class TarReader {
  #state: 'header' | 'special' | 'body' | 'padding' | 'ended' = 'header';
  /** A header or special body that came in pieces. */
  #held: Buffer[] = [];
  #specialType = '';
  #specialSize = 0;
  /** Bytes until what the present state reads is complete. */
  #left = BLOCK;
  #entry: TarEntry | undefined;
  #zeroBlocks = 0;
  #global: Pax = new Map();
  #pax: Pax | undefined;
  #longName: string | undefined;
  #longLink: Buffer | undefined;

  constructor(private readonly sink: TarSink) {}

  /** Takes the next bytes. @throws TarError */
  push(chunk: Buffer): void {
    let untold = 0;
    // A call for each file's padding and the next one's header, not one for each.
    const tellMeta = (end: number): void => {
      if (end > untold) this.sink.meta(chunk.subarray(untold, end));
      untold = end;
    };
    for (let at = 0; at < chunk.length && this.#state !== 'ended';) {
      const start = at;
      at += Math.min(this.#left, chunk.length - at);
      this.#left -= at - start;
      if (this.#state === 'body') {
        tellMeta(start);
        this.sink.data(chunk.subarray(start, at));
        untold = at;
        if (this.#left === 0) this.#endBody();
      } else if (this.#state === 'padding') {
        if (this.#left === 0) this.#expectHeader();
      } else if (this.#left > 0) {
        // Copied: the chunk's memory may be used again before the rest comes.
        this.#held.push(Buffer.from(chunk.subarray(start, at)));
      } else {
        const whole = this.#whole(chunk.subarray(start, at));
        if (this.#state === 'special') this.#special(whole);
        else {
          const entry = this.#header(whole);
          if (entry) {
            tellMeta(at);
            this.#begin(entry);
          }
        }
      }
    }
    tellMeta(chunk.length);
  }

  /** No more bytes will come. @throws TarError when the archive is cut off */
  end(): void {
    if (this.#state === 'ended') return;
    if (this.#state === 'header' && this.#left === BLOCK && !this.#pax && !this.#longName && !this.#longLink) return;
    const where =
      this.#entry && this.#state === 'body'
        ? ` within ${quote(this.#entry.path)}: ${this.#left} of its ${this.#entry.size} bytes are missing`
        : '';
    throw new TarError(`unexpected EOF${where}`);
  }

  #whole(bytes: Buffer): Buffer {
    if (this.#held.length === 0) return bytes;
    const whole = Buffer.concat([...this.#held, bytes]);
    this.#held = [];
    return whole;
  }

  #begin(entry: TarEntry): void {
    this.#entry = entry;
    this.sink.entry(entry);
    this.#state = 'body';
    this.#left = entry.size;
    if (entry.size === 0) this.#endBody();
  }

  #endBody(): void {
    this.sink.end();
    this.#state = 'padding';
    this.#left = padding(this.#entry!.size);
    if (this.#left === 0) this.#expectHeader();
  }

  #expectHeader(): void {
    this.#state = 'header';
    this.#left = BLOCK;
  }

  /** Returns the entry, once all of its headers were read. */
  #header(block: Buffer): TarEntry | undefined {
    if (block[0] === 0 && block.equals(ZEROS)) {
      if (++this.#zeroBlocks === 2) this.#state = 'ended';
      else this.#expectHeader();
      return undefined;
    }
    if (this.#zeroBlocks > 0) throw new TarError('invalid tar header: an entry behind an end-of-archive block');
    const sum = octal(block, 'checksum');
    if (sum !== checksum(block) && sum !== signedChecksum(block))
      throw new TarError('invalid tar header: wrong checksum');

    const flag = String.fromCharCode(block[FIELDS.type[0]]!);
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      const size = numeric(block, 'size');
      if (size < 0 || size > MAX_SPECIAL) throw new TarError(`a header of ${size} bytes is too long`);
      this.#specialType = flag;
      this.#specialSize = size;
      this.#state = 'special';
      // Its padding is read with it: it is small.
      this.#left = size + padding(size);
      if (size === 0) this.#special(EMPTY);
      return undefined;
    }
    const entry = this.#assemble(block, flag);
    this.#pax = this.#longName = this.#longLink = undefined;
    return entry;
  }

  #special(bytes: Buffer): void {
    const body = bytes.subarray(0, this.#specialSize);
    this.#expectHeader();
    switch (this.#specialType) {
      case 'x':
        this.#pax = parsePax(body);
        return;
      case 'L':
        this.#longName = untilNul(body).toString('latin1');
        return;
      case 'K':
        this.#longLink = untilNul(Buffer.from(body));
        return;
      default:
        // POSIX: global values hold until overridden; an empty one takes its key back.
        for (const [key, value] of parsePax(body)) {
          if (value.length > 0) this.#global.set(key, value);
          else this.#global.delete(key);
        }
        if (weight(this.#global) > MAX_GLOBAL) throw new TarError(`global headers of more than ${MAX_GLOBAL} bytes`);
    }
  }

  #assemble(block: Buffer, flag: string): TarEntry {
    const pax = this.#merged();
    const said = (key: string): string | undefined => pax.get(key)?.toString('latin1');

    const path = this.#longName ?? said('path') ?? headerPath(block);
    if (flag === 'S' || (pax.size > 0 && [...pax.keys()].some((key) => key.startsWith('GNU.sparse.')))) {
      throw new TarError(
        `sparse file ${quote(said('GNU.sparse.name') ?? path)}: sparse archives are not supported (make it without --sparse)`,
      );
    }
    let type = TYPES[flag];
    if (!type) throw new TarError(`${quote(path)}: unknown entry type ${JSON.stringify(flag)}`);
    // Before there was a type for them, directories were files whose name ends in a slash.
    if (type === 'file' && flag !== '7' && path.endsWith('/')) type = 'directory';
    const link =
      type === 'hardlink' || type === 'symlink'
        ? Buffer.from(this.#longLink ?? pax.get('linkpath') ?? untilNul(field(block, 'link')))
        : EMPTY;
    if (path.includes('\0') || link.includes(0)) throw new TarError(`${quote(path)}: a NUL in a name`);

    const isDevice = type === 'character' || type === 'block';
    const size = type === 'file' ? (integer(said('size'), 'size') ?? numeric(block, 'size')) : 0;
    if (size < 0) throw new TarError(`${quote(path)}: a size of ${size}`);
    const entry: TarEntry = {
      type,
      path,
      link,
      mode: numeric(block, 'mode') & 0o7777,
      uid: id(integer(said('uid'), 'uid') ?? numeric(block, 'uid'), path),
      gid: id(integer(said('gid'), 'gid') ?? numeric(block, 'gid'), path),
      size,
      mtime: time(said('mtime')) ?? BigInt(numeric(block, 'mtime')) * 1_000_000_000n,
      major: isDevice ? numeric(block, 'major') : 0,
      minor: isDevice ? numeric(block, 'minor') : 0,
      xattrs: new Map(),
    };
    const atime = time(said('atime'));
    if (atime !== undefined) entry.atime = atime;
    for (const [key, value] of pax)
      if (key.startsWith(XATTR_PREFIX)) entry.xattrs.set(key.slice(XATTR_PREFIX.length), Buffer.from(value));
    return entry;
  }

  // An empty value says: as in the plain header. An extended attribute's may be empty.
  #merged(): Pax {
    if (!this.#pax && this.#global.size === 0) return NO_PAX;
    const pax = new Map([...this.#global, ...(this.#pax ?? [])]);
    for (const [key, value] of pax) if (value.length === 0 && !key.startsWith(XATTR_PREFIX)) pax.delete(key);
    return pax;
  }
}

type Field = keyof typeof FIELDS;

function untilNul(bytes: Buffer): Buffer {
  const nul = bytes.indexOf(0);
  return nul < 0 ? bytes : bytes.subarray(0, nul);
}

const field = (block: Buffer, name: Field): Buffer =>
  block.subarray(FIELDS[name][0], FIELDS[name][0] + FIELDS[name][1]);

// One character a byte, up to a NUL.
function text(block: Buffer, name: Field, length: number = FIELDS[name][1]): string {
  const [start] = FIELDS[name];
  let end = start;
  while (end < start + length && block[end] !== 0) end++;
  return block.toString('latin1', start, end);
}

// Only POSIX has a prefix there; GNU keeps times in it, star its own fields behind a shorter one.
function headerPath(block: Buffer): string {
  const STAR_PREFIX = 131;
  const name = text(block, 'name');
  if (
    block[FIELDS.prefix[0]] === 0 ||
    block.toString('latin1', FIELDS.magic[0], FIELDS.magic[0] + POSIX.length) !== POSIX
  )
    return name;
  const isStar = block.toString('latin1', 508, 512) === 'tar\0';
  return `${text(block, 'prefix', isStar ? STAR_PREFIX : FIELDS.prefix[1])}/${name}`;
}

// Octal text, or (GNU) big-endian two's complement with the first bit set.
function numeric(block: Buffer, name: Field): number {
  const [start, length] = FIELDS[name];
  const first = block[start]!;
  if (!(first & 0x80)) return octal(block, name);
  const negative = (first & 0x40) !== 0;
  let value = BigInt(negative ? first - 0x100 : first & 0x7f);
  for (const byte of block.subarray(start + 1, start + length)) value = (value << 8n) | BigInt(byte);
  return safe(value, name);
}

function octal(block: Buffer, name: Field): number {
  const [start, length] = FIELDS[name];
  // Nearly all: digits up to a NUL or a space.
  let value = 0;
  for (let i = start; i < start + length; i++) {
    const digit = block[i]! - 0x30;
    if (digit >= 0 && digit < 8) value = value * 8 + digit;
    else if (i > start && (digit === -0x30 || digit === -0x10)) return value;
    else break;
  }
  const words = block
    .toString('latin1', start, start + length)
    .replace(/^[ \0]+/, '')
    .replace(/[ \0].*$/s, '');
  if (words === '') return 0;
  if (!/^[0-7]+$/.test(words))
    throw new TarError(`invalid tar header: ${name} ${JSON.stringify(words)} is no octal number`);
  return parseInt(words, 8);
}

function integer(words: string | undefined, what: string): number | undefined {
  if (words === undefined) return undefined;
  if (!/^-?\d{1,40}$/.test(words))
    throw new TarError(`invalid pax header: ${what}=${JSON.stringify(words.slice(0, MAX_SHOWN))} is no number`);
  return safe(BigInt(words), what);
}

function safe(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER))
    throw new TarError(`invalid tar header: a ${what} of ${value}`);
  return Number(value);
}

// The largest 32-bit number means "leave it" to chown(2).
function id(value: number, path: string): number {
  if (value < 0 || value >= 0xffffffff) throw new TarError(`${quote(path)}: owner ${value} is out of range`);
  return value;
}

// Seconds with an optional fraction, cut after nine digits.
function time(words: string | undefined): bigint | undefined {
  if (words === undefined) return undefined;
  const match = /^(-?)(\d{1,18})(?:\.(\d*))?$/.exec(words);
  if (!match) throw new TarError(`invalid pax header: time ${JSON.stringify(words.slice(0, MAX_SHOWN))}`);
  const magnitude = BigInt(match[2]!) * 1_000_000_000n + BigInt((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  return match[1] ? -magnitude : magnitude;
}

const weight = (pax: Pax): number => [...pax].reduce((sum, [key, value]) => sum + key.length + value.length, 0);

// Records of `length key=value\n`; the length counts the whole record.
function parsePax(body: Buffer): Pax {
  const records: Pax = new Map();
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(0x20, at);
    const digits = space < 0 ? '' : body.toString('latin1', at, space);
    const end = at + Number(digits);
    const equals = body.indexOf(0x3d, space);
    if (
      !/^\d{1,7}$/.test(digits) ||
      end > body.length ||
      equals < 0 ||
      equals >= end ||
      body[end - 1] !== 0x0a ||
      end <= space
    ) {
      throw new TarError('invalid pax header');
    }
    const key = body.toString('utf8', space + 1, equals);
    if (key === '' || key.includes('\0')) throw new TarError('invalid pax header');
    records.set(key, Buffer.from(body.subarray(equals + 1, end - 1)));
    at = end;
  }
  return records;
}
