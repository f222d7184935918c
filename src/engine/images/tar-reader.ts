/**
 * An incremental tar reader: ustar, pax (with binary values and global headers), GNU, star, and old v7. It is lossless:
 * the bytes passed to `meta` and `data`, in order, are the archive.
 */
import { GlobalPax, isSparse, parsePax, type Pax } from './pax.ts';
import { checkOwner, field, headerPath, numeric, octal, paxInteger, paxTime, untilNul } from './tar-fields.ts';
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

/** Receives an archive's contents in order. All bytes are views of the pushed chunk. */
export interface TarSink {
  entry(entry: TarEntry): void;
  /** Bytes of the last entry's body. */
  data(bytes: Buffer): void;
  /** The last entry's body is complete; called for every entry, including those without a body. */
  end(): void;
  /** Bytes outside of bodies: headers, padding, trailer. */
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
/** Limit for a pax header or GNU long name (maxSpecialFileSize in Go's archive/tar). */
const MAX_SPECIAL_BYTES = 1 << 20;
const NS_PER_S = 1_000_000_000n;
const EMPTY = Buffer.alloc(0);
const ZEROS = Buffer.alloc(BLOCK);

export class TarReader {
  #state: 'header' | 'special' | 'body' | 'padding' | 'ended' = 'header';
  /** The pieces of an incomplete header or special body. */
  #pieces: Buffer[] = [];
  #specialType = '';
  #specialSize = 0;
  /** Bytes until what the current state reads is complete. */
  #left = BLOCK;
  #entry: TarEntry | undefined;
  #zeroBlocks = 0;
  readonly #global = new GlobalPax();
  #pax: Pax | undefined;
  #longName: string | undefined;
  #longLink: Buffer | undefined;

  constructor(private readonly sink: TarSink) {}

  /** Takes the next bytes. @throws TarError */
  push(chunk: Buffer): void {
    let metaStart = 0;
    // One call for a file's padding and the next header together, not one for each.
    const flushMeta = (end: number): void => {
      if (end > metaStart) this.sink.meta(chunk.subarray(metaStart, end));
      metaStart = end;
    };
    for (let at = 0; at < chunk.length && this.#state !== 'ended';) {
      const start = at;
      at += Math.min(this.#left, chunk.length - at);
      this.#left -= at - start;
      if (this.#state === 'body') {
        flushMeta(start);
        this.sink.data(chunk.subarray(start, at));
        metaStart = at;
        if (this.#left === 0) this.#endBody();
      } else if (this.#state === 'padding') {
        if (this.#left === 0) this.#expectHeader();
      } else if (this.#left > 0) {
        // Copied: the caller may reuse the chunk's memory before the rest arrives.
        this.#pieces.push(Buffer.from(chunk.subarray(start, at)));
      } else {
        const complete = this.#join(chunk.subarray(start, at));
        if (this.#state === 'special') this.#readSpecial(complete);
        else {
          const entry = this.#readHeader(complete);
          if (entry) {
            flushMeta(at);
            this.#begin(entry);
          }
        }
      }
    }
    flushMeta(chunk.length);
  }

  /** Ends the input. @throws TarError when the archive is truncated */
  end(): void {
    if (this.#state === 'ended') return;
    const hasPendingHeaders = this.#pax !== undefined || Boolean(this.#longName) || this.#longLink !== undefined;
    const isBetweenEntries = this.#state === 'header' && this.#left === BLOCK;
    // Archives without end-of-archive blocks exist.
    if (isBetweenEntries && !hasPendingHeaders) return;
    const where =
      this.#entry && this.#state === 'body'
        ? ` within ${quote(this.#entry.path)}: ${this.#left} of its ${this.#entry.size} bytes are missing`
        : '';
    throw new TarError(`unexpected EOF${where}`);
  }

  #join(last: Buffer): Buffer {
    if (this.#pieces.length === 0) return last;
    const complete = Buffer.concat([...this.#pieces, last]);
    this.#pieces = [];
    return complete;
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

  // Returns the entry unless the header is a special one or ends the archive.
  #readHeader(block: Buffer): TarEntry | undefined {
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
      this.#expectSpecial(flag, numeric(block, 'size'));
      return undefined;
    }
    const entry = this.#assemble(block, flag);
    this.#pax = this.#longName = this.#longLink = undefined;
    return entry;
  }

  #expectSpecial(type: string, size: number): void {
    if (size < 0 || size > MAX_SPECIAL_BYTES) throw new TarError(`a header of ${size} bytes is too long`);
    this.#specialType = type;
    this.#specialSize = size;
    this.#state = 'special';
    // Read with its padding.
    this.#left = size + padding(size);
    if (size === 0) this.#readSpecial(EMPTY);
  }

  #readSpecial(bytes: Buffer): void {
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
        this.#global.update(body);
    }
  }

  #assemble(block: Buffer, flag: string): TarEntry {
    const pax = this.#global.with(this.#pax);
    const paxText = (key: string): string | undefined => pax.get(key)?.toString('latin1');

    const path = this.#longName ?? paxText('path') ?? headerPath(block);
    if (flag === 'S' || isSparse(pax)) {
      throw new TarError(
        `sparse file ${quote(paxText('GNU.sparse.name') ?? path)}: sparse archives are not supported (make it without --sparse)`,
      );
    }
    let type = TYPES[flag];
    if (!type) throw new TarError(`${quote(path)}: unknown entry type ${JSON.stringify(flag)}`);
    // In v7 archives a directory is a file whose name ends in a slash.
    if (type === 'file' && flag !== '7' && path.endsWith('/')) type = 'directory';
    const isLink = type === 'hardlink' || type === 'symlink';
    const link = isLink ? Buffer.from(this.#longLink ?? pax.get('linkpath') ?? untilNul(field(block, 'link'))) : EMPTY;
    if (path.includes('\0') || link.includes(0)) throw new TarError(`${quote(path)}: a NUL in a name`);

    const isDevice = type === 'character' || type === 'block';
    const size = type === 'file' ? (paxInteger(paxText('size'), 'size') ?? numeric(block, 'size')) : 0;
    if (size < 0) throw new TarError(`${quote(path)}: a size of ${size}`);
    const entry: TarEntry = {
      type,
      path,
      link,
      mode: numeric(block, 'mode') & 0o7777,
      uid: checkOwner(paxInteger(paxText('uid'), 'uid') ?? numeric(block, 'uid'), path),
      gid: checkOwner(paxInteger(paxText('gid'), 'gid') ?? numeric(block, 'gid'), path),
      size,
      mtime: paxTime(paxText('mtime')) ?? BigInt(numeric(block, 'mtime')) * NS_PER_S,
      major: isDevice ? numeric(block, 'major') : 0,
      minor: isDevice ? numeric(block, 'minor') : 0,
      xattrs: new Map(),
    };
    const atime = paxTime(paxText('atime'));
    if (atime !== undefined) entry.atime = atime;
    for (const [key, value] of pax)
      if (key.startsWith(XATTR_PREFIX)) entry.xattrs.set(key.slice(XATTR_PREFIX.length), Buffer.from(value));
    return entry;
  }
}
