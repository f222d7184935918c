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
    throw new TarError(`unexpected end of the archive${where}`);
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
    const sum = octal(field(block, 'checksum'), 'checksum');
    const { unsigned, signed } = checksums(block);
    if (sum !== unsigned && sum !== signed) throw new TarError('invalid tar header: wrong checksum');

    const flag = String.fromCharCode(block[FIELDS.type[0]]!);
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      const size = numeric(field(block, 'size'), 'size');
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
    }
  }

  #assemble(block: Buffer, flag: string): TarEntry {
    const pax = this.#merged();
    const text = (key: string): string | undefined => pax.get(key)?.toString('latin1');

    let path: Buffer = this.#longName ?? pax.get('path') ?? headerPath(block);
    if (flag === 'S' || [...pax.keys()].some((key) => key.startsWith('GNU.sparse.'))) {
      throw new TarError(`sparse file ${quote(pax.get('GNU.sparse.name') ?? path)}: sparse archives are not supported (make it without --sparse)`);
    }
    let type = TYPES[flag];
    if (!type) throw new TarError(`${quote(path)}: unknown entry type ${JSON.stringify(flag)}`);
    // Before there was a type for them, directories were files whose name ends in a slash.
    if (type === 'file' && flag !== '7' && path.at(-1) === 0x2f) type = 'directory';
    path = Buffer.from(path);
    const link = Buffer.from(this.#longLink ?? pax.get('linkpath') ?? untilNul(field(block, 'link')));
    if (path.includes(0) || link.includes(0)) throw new TarError(`${quote(path)}: a NUL in a name`);

    const isDevice = type === 'character' || type === 'block';
    const size = type === 'file' ? integer(text('size'), 'size') ?? numeric(field(block, 'size'), 'size') : 0;
    if (size < 0) throw new TarError(`${quote(path)}: a size of ${size}`);
    const entry: TarEntry = {
      type, path, link: type === 'hardlink' || type === 'symlink' ? link : EMPTY,
      mode: numeric(field(block, 'mode'), 'mode') & 0o7777,
      uid: id(integer(text('uid'), 'uid') ?? numeric(field(block, 'uid'), 'uid'), path),
      gid: id(integer(text('gid'), 'gid') ?? numeric(field(block, 'gid'), 'gid'), path),
      size,
      mtime: time(text('mtime')) ?? BigInt(numeric(field(block, 'mtime'), 'mtime')) * 1_000_000_000n,
      major: isDevice ? numeric(field(block, 'major'), 'major') : 0,
      minor: isDevice ? numeric(field(block, 'minor'), 'minor') : 0,
      xattrs: new Map(),
    };
    const atime = time(text('atime'));
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

const field = (block: Buffer, name: keyof typeof FIELDS): Buffer => block.subarray(FIELDS[name][0], FIELDS[name][0] + FIELDS[name][1]);

function untilNul(bytes: Buffer): Buffer {
  const nul = bytes.indexOf(0);
  return nul < 0 ? bytes : bytes.subarray(0, nul);
}

// Only POSIX has a prefix there; GNU keeps times in it, star its own fields behind a shorter one.
function headerPath(block: Buffer): Buffer {
  const STAR_PREFIX = 131;
  const name = untilNul(field(block, 'name'));
  if (field(block, 'magic').toString('latin1', 0, 6) !== 'ustar\0') return name;
  const isStar = block.toString('latin1', 508, 512) === 'tar\0';
  const prefix = untilNul(isStar ? field(block, 'prefix').subarray(0, STAR_PREFIX) : field(block, 'prefix'));
  return prefix.length > 0 ? Buffer.concat([prefix, Buffer.from('/'), name]) : name;
}

// Octal text, or (GNU) big-endian two's complement with the first bit set.
function numeric(bytes: Buffer, what: string): number {
  if (!(bytes[0]! & 0x80)) return octal(bytes, what);
  const negative = (bytes[0]! & 0x40) !== 0;
  let value = negative ? -1n : 0n;
  bytes.forEach((byte, i) => {
    const bits = i === 0 ? (negative ? byte | 0x80 : byte & 0x7f) : byte;
    value = (value << 8n) | BigInt(bits);
  });
  return safe(value, what);
}

function octal(bytes: Buffer, what: string): number {
  // Nearly all: digits up to a NUL or a space.
  let value = 0;
  for (let i = 0; i < bytes.length; i++) {
    const digit = bytes[i]! - 0x30;
    if (digit >= 0 && digit < 8) value = value * 8 + digit;
    else if (i > 0 && (bytes[i] === 0 || bytes[i] === 0x20)) return value;
    else break;
  }
  const text = bytes.toString('latin1').replace(/^[ \0]+/, '').replace(/[ \0].*$/s, '');
  if (text === '') return 0;
  if (!/^[0-7]+$/.test(text)) throw new TarError(`invalid tar header: ${what} ${JSON.stringify(text)} is no octal number`);
  return parseInt(text, 8);
}

function integer(text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^-?\d+$/.test(text)) throw new TarError(`invalid pax header: ${what}=${JSON.stringify(text)} is no number`);
  return safe(BigInt(text), what);
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
function time(text: string | undefined): bigint | undefined {
  if (text === undefined) return undefined;
  const match = /^(-?)(\d{1,18})(?:\.(\d*))?$/.exec(text);
  if (!match) throw new TarError(`invalid pax header: time ${JSON.stringify(text)}`);
  const magnitude = BigInt(match[2]!) * 1_000_000_000n + BigInt((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  return match[1] ? -magnitude : magnitude;
}

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
