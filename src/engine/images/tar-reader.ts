/**
 * Reads tar, incrementally: ustar, pax (with binary values and global headers), GNU and star, old v7.
 * Whatever comes in comes out again, in order: `meta` (headers, padding, trailer) and `data` (bodies) together are the archive's bytes.
 */
import { BLOCK, checksums, FIELDS, padding, quote, TarError, XATTR_PREFIX, type TarEntry, type TarType } from './tar.ts';

export type TarEvent =
  | { kind: 'entry'; entry: TarEntry }
  /** Bytes of the last entry's body. */
  | { kind: 'data'; bytes: Buffer }
  /** The last entry's body is complete; comes for every entry, also one without a body. */
  | { kind: 'end' }
  /** Bytes of the archive that belong to no body. */
  | { kind: 'meta'; bytes: Buffer };

const TYPES: Record<string, TarType> = {
  '0': 'file', '\0': 'file', '7': 'file', '1': 'hardlink', '2': 'symlink', '3': 'character', '4': 'block', '5': 'directory', '6': 'fifo',
};
/** A pax header or a GNU long name beyond this is no name (Go's maxSpecialFileSize). */
const MAX_SPECIAL = 1 << 20;
const EMPTY = Buffer.alloc(0);
const ZEROS = Buffer.alloc(BLOCK);
const POSIX = Buffer.from('ustar\0');
const SLASH = Buffer.from('/');
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
  #missing = BLOCK;
  #specialType = '';
  #specialSize = 0;
  /** Bytes until the present body or padding ends. */
  #left = 0;
  #entry: TarEntry | undefined;
  #zeroBlocks = 0;
  #global: Pax = new Map();
  #pax: Pax | undefined;
  #longName: Buffer | undefined;
  #longLink: Buffer | undefined;

  /** Takes the next bytes. The events' buffers are views of it. @throws TarError */
  *push(chunk: Buffer): Generator<TarEvent> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === 'body' || this.#state === 'padding') {
        const bytes = chunk.subarray(at, at + Math.min(this.#left, chunk.length - at));
        at += bytes.length;
        this.#left -= bytes.length;
        yield { kind: this.#state === 'body' ? 'data' : 'meta', bytes };
        if (this.#left === 0) yield* this.#finish();
      } else if (this.#state === 'ended') {
        yield { kind: 'meta', bytes: chunk.subarray(at) };
        return;
      } else {
        const bytes = chunk.subarray(at, at + Math.min(this.#missing, chunk.length - at));
        at += bytes.length;
        this.#missing -= bytes.length;
        yield { kind: 'meta', bytes };
        // Copied: the chunk's memory may be used again before the rest comes.
        if (this.#missing > 0) this.#held.push(Buffer.from(bytes));
        else {
          const whole = this.#held.length === 0 ? bytes : Buffer.concat([...this.#held, bytes]);
          this.#held = [];
          if (this.#state === 'header') yield* this.#header(whole);
          else this.#special(whole);
        }
      }
    }
  }

  /** No more bytes will come. @throws TarError when the archive is cut off */
  end(): void {
    if (this.#state === 'ended') return;
    if (this.#state === 'header' && this.#missing === BLOCK && !this.#pax && !this.#longName && !this.#longLink) return;
    const where = this.#entry && this.#state === 'body' ? ` within ${quote(this.#entry.path)}: ${this.#left} of its ${this.#entry.size} bytes are missing` : '';
    throw new TarError(`unexpected EOF${where}`);
  }

  *#finish(): Generator<TarEvent> {
    if (this.#state === 'body') {
      yield { kind: 'end' };
      this.#left = padding(this.#entry!.size);
      this.#state = 'padding';
    }
    if (this.#left === 0) this.#expectHeader();
  }

  #expectHeader(): void {
    this.#state = 'header';
    this.#missing = BLOCK;
  }

  *#header(block: Buffer): Generator<TarEvent> {
    if (block.equals(ZEROS)) {
      if (++this.#zeroBlocks === 2) this.#state = 'ended';
      else this.#expectHeader();
      return;
    }
    if (this.#zeroBlocks > 0) throw new TarError('invalid tar header: an entry behind an end-of-archive block');
    const sum = octal(block, 'checksum');
    const { unsigned, signed } = checksums(block);
    if (sum !== unsigned && sum !== signed) throw new TarError('invalid tar header: wrong checksum');

    const flag = String.fromCharCode(block[FIELDS.type[0]]!);
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      const size = numeric(block, 'size');
      if (size < 0 || size > MAX_SPECIAL) throw new TarError(`a header of ${size} bytes is too long`);
      this.#specialType = flag;
      this.#specialSize = size;
      this.#state = 'special';
      // Its padding is read with it: it is small.
      this.#missing = size + padding(size);
      if (size === 0) this.#special(EMPTY);
      return;
    }
    const entry = this.#assemble(block, flag);
    this.#entry = entry;
    this.#pax = this.#longName = this.#longLink = undefined;
    yield { kind: 'entry', entry };
    if (entry.size > 0) {
      this.#state = 'body';
      this.#left = entry.size;
    } else {
      yield { kind: 'end' };
      this.#expectHeader();
    }
  }

  #special(bytes: Buffer): void {
    const body = bytes.subarray(0, this.#specialSize);
    this.#expectHeader();
    switch (this.#specialType) {
      case 'x': this.#pax = parsePax(body); return;
      case 'L': this.#longName = untilNul(Buffer.from(body)); return;
      case 'K': this.#longLink = untilNul(Buffer.from(body)); return;
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

    let path: Buffer = this.#longName ?? pax.get('path') ?? headerPath(block);
    if (flag === 'S' || (pax.size > 0 && [...pax.keys()].some((key) => key.startsWith('GNU.sparse.')))) {
      throw new TarError(`sparse file ${quote(pax.get('GNU.sparse.name') ?? path)}: sparse archives are not supported (make it without --sparse)`);
    }
    let type = TYPES[flag];
    if (!type) throw new TarError(`${quote(path)}: unknown entry type ${JSON.stringify(flag)}`);
    // Before there was a type for them, directories were files whose name ends in a slash.
    if (type === 'file' && flag !== '7' && path.at(-1) === 0x2f) type = 'directory';
    path = Buffer.from(path);
    const link = type === 'hardlink' || type === 'symlink' ? Buffer.from(this.#longLink ?? pax.get('linkpath') ?? text(block, 'link')) : EMPTY;
    if (path.includes(0) || link.includes(0)) throw new TarError(`${quote(path)}: a NUL in a name`);

    const isDevice = type === 'character' || type === 'block';
    const size = type === 'file' ? integer(said('size'), 'size') ?? numeric(block, 'size') : 0;
    if (size < 0) throw new TarError(`${quote(path)}: a size of ${size}`);
    const entry: TarEntry = {
      type, path, link,
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
    for (const [key, value] of pax) if (key.startsWith(XATTR_PREFIX)) entry.xattrs.set(key.slice(XATTR_PREFIX.length), Buffer.from(value));
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

const text = (block: Buffer, name: Field, length: number = FIELDS[name][1]): Buffer => untilNul(block.subarray(FIELDS[name][0], FIELDS[name][0] + length));

// Only POSIX has a prefix there; GNU keeps times in it, star its own fields behind a shorter one.
function headerPath(block: Buffer): Buffer {
  const STAR_PREFIX = 131;
  const name = text(block, 'name');
  if (block.compare(POSIX, 0, POSIX.length, FIELDS.magic[0], FIELDS.magic[0] + POSIX.length) !== 0) return name;
  if (block[FIELDS.prefix[0]] === 0) return name;
  const isStar = block.toString('latin1', 508, 512) === 'tar\0';
  return Buffer.concat([text(block, 'prefix', isStar ? STAR_PREFIX : FIELDS.prefix[1]), SLASH, name]);
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
  const words = block.toString('latin1', start, start + length).replace(/^[ \0]+/, '').replace(/[ \0].*$/s, '');
  if (words === '') return 0;
  if (!/^[0-7]+$/.test(words)) throw new TarError(`invalid tar header: ${name} ${JSON.stringify(words)} is no octal number`);
  return parseInt(words, 8);
}

function integer(words: string | undefined, what: string): number | undefined {
  if (words === undefined) return undefined;
  if (!/^-?\d{1,40}$/.test(words)) throw new TarError(`invalid pax header: ${what}=${JSON.stringify(words.slice(0, MAX_SHOWN))} is no number`);
  return safe(BigInt(words), what);
}

function safe(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER)) throw new TarError(`invalid tar header: a ${what} of ${value}`);
  return Number(value);
}

// The largest 32-bit number means "leave it" to chown(2).
function id(value: number, path: Buffer): number {
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
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at);
    const digits = space < 0 ? '' : body.toString('latin1', at, space);
    const end = at + Number(digits);
    const equals = body.indexOf(0x3d, space);
    if (!/^\d{1,7}$/.test(digits) || end > body.length || equals < 0 || equals >= end || body[end - 1] !== 0x0a || end <= space) {
      throw new TarError('invalid pax header');
    }
    const key = body.toString('utf8', space + 1, equals);
    if (key === '' || key.includes('\0')) throw new TarError('invalid pax header');
    records.set(key, Buffer.from(body.subarray(equals + 1, end - 1)));
    at = end;
  }
  return records;
}
