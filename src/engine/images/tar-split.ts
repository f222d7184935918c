/**
 * tar-split metadata: what is needed besides a layer's files to rebuild its archive byte for byte, so that the layer
 * can be saved and pushed under its original digest (as github.com/vbatts/tar-split does for Docker).
 *
 * On disk (`recipe.gz`): gzip members of records; a record is a type byte, a length (u32, little-endian) and as many
 * bytes of content. Type 0: archive bytes that are not a file's body (headers, padding, trailer). Type 1: a size (u64)
 * and a path without symbolic links, standing for that file's body.
 *
 * A file that a later entry of the same archive replaces is not among the layer's files. Its body is kept in a second
 * file (`replaced`): for each such body the index of its type-1 record (u64, from 0), its size (u64) and its bytes.
 */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { gzip, type ZlibOptions } from 'node:zlib';

export const TAR_SPLIT_FILE = 'recipe.gz';
export const REPLACED_FILE = 'replaced';

const ARCHIVE_BYTES = 0;
const FILE_BODY = 1;
/** Type byte and length. */
const RECORD_HEAD = 5;
const U64 = 8;
const U32_VALUES = 2 ** 32;
/** Index and size before each replaced body. */
const REPLACED_HEAD = 2 * U64;
const BLOCK = 256 * 1024;
const COPY_SIZE = 1 << 20;
/** Most of it is zeros, which the fastest level compresses as well. */
const GZIP_LEVEL = 1;
const MAX_PENDING_BLOCKS = 4;

/** In libuv's thread pool: the unpacker's main thread is its bottleneck. */
const compress = promisify<Buffer, ZlibOptions, Buffer>(gzip);

export class TarSplitWriter {
  #block = Buffer.allocUnsafe(BLOCK);
  #filled = 0;
  /** Compressed blocks, for reuse. */
  readonly #spare: Buffer<ArrayBuffer>[] = [];
  /** Position of the current archive-bytes record's length; further bytes extend that record. -1 if there is none. */
  #openLength = -1;
  /** Paths of the file records, in order. */
  readonly #paths: string[] = [];
  /** The last record of each path, for the first `#indexed` paths. Filled on demand: most archives replace nothing. */
  readonly #recordOf = new Map<string, number>();
  #indexed = 0;
  #written = Promise.resolve();
  #pendingBlocks = 0;

  constructor(
    private readonly fd: number,
    private readonly replacedFd: number,
  ) {}

  /** Records archive bytes that are not a file's body. */
  archiveBytes(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#openLength < 0) this.#beginRecord(ARCHIVE_BYTES, 0, 1);
      const n = bytes.copy(this.#block, this.#filled, at);
      this.#filled += n;
      at += n;
      this.#block.writeUInt32LE(this.#filled - this.#openLength - 4, this.#openLength);
      if (this.#filled === BLOCK) this.#flushBlock();
    }
  }

  /** Records that a file's body follows. `path` is latin1 and has no symbolic link in it. */
  fileBody(path: string, size: number): void {
    const length = U64 + path.length;
    this.#beginRecord(FILE_BODY, length, length);
    this.#openLength = -1;
    this.#block.writeUInt32LE(size % U32_VALUES, this.#filled);
    this.#block.writeUInt32LE(Math.floor(size / U32_VALUES), this.#filled + U64 / 2);
    this.#block.write(path, this.#filled + U64, 'latin1');
    this.#filled += length;
    this.#paths.push(path);
  }

  /** Saves the body of a file that is about to be replaced, if a record refers to it. */
  keepReplaced(path: string): void {
    for (; this.#indexed < this.#paths.length; this.#indexed++)
      this.#recordOf.set(this.#paths[this.#indexed]!, this.#indexed);
    const record = this.#recordOf.get(path);
    if (record === undefined) return;
    this.#recordOf.delete(path);
    const fd = openSync(Buffer.from(path, 'latin1'), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const head = Buffer.alloc(REPLACED_HEAD);
      head.writeBigUInt64LE(BigInt(record));
      head.writeBigUInt64LE(BigInt(fstatSync(fd).size), U64);
      writeAll(this.replacedFd, head);
      copyAll(fd, this.replacedFd);
    } finally {
      closeSync(fd);
    }
  }

  /** Waits while too many blocks are being compressed. */
  async backpressure(): Promise<void> {
    while (this.#pendingBlocks > MAX_PENDING_BLOCKS) await this.#written;
  }

  /** Resolves when everything is written. */
  async finish(): Promise<void> {
    this.#flushBlock();
    await this.#written;
  }

  #beginRecord(type: number, length: number, room: number): void {
    if (this.#filled + RECORD_HEAD + room > BLOCK) this.#flushBlock();
    this.#block[this.#filled] = type;
    this.#block.writeUInt32LE(length, this.#filled + 1);
    this.#openLength = this.#filled + 1;
    this.#filled += RECORD_HEAD;
  }

  // Compresses blocks concurrently and writes them in order.
  #flushBlock(): void {
    const block = this.#block;
    const full = block.subarray(0, this.#filled);
    this.#block = this.#spare.pop() ?? Buffer.allocUnsafe(BLOCK);
    this.#filled = 0;
    this.#openLength = -1;
    this.#pendingBlocks++;
    this.#written = Promise.all([compress(full, { level: GZIP_LEVEL }), this.#written]).then(([member]) => {
      writeAll(this.fd, member);
      this.#spare.push(block);
      this.#pendingBlocks--;
    });
    // `backpressure` and `finish` report the failure.
    this.#written.catch(() => undefined);
  }
}

/** A piece of the archive: bytes of its own, or the body of a file. */
export type TarSplitRecord = { bytes: Buffer } | { path: string; size: number };

/** Parses decompressed tar-split metadata. `bytes` are valid until the next record. */
export async function* readTarSplit(chunks: AsyncIterable<Buffer>): AsyncGenerator<TarSplitRecord> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    while (at + RECORD_HEAD <= rest.length) {
      const end = at + RECORD_HEAD + rest.readUInt32LE(at + 1);
      if (end > rest.length) break;
      const body = rest.subarray(at + RECORD_HEAD, end);
      yield rest[at] === ARCHIVE_BYTES
        ? { bytes: body }
        : { path: body.toString('latin1', U64), size: Number(body.readBigUInt64LE(0)) };
      at = end;
    }
    rest = Buffer.from(rest.subarray(at));
  }
  if (rest.length > 0) throw new Error('the tar-split metadata is truncated');
}

/** Offsets of the bodies in the `replaced` file, by the index of their type-1 record. */
export function replacedBodies(fd: number): Map<number, number> {
  const offsets = new Map<number, number>();
  const head = Buffer.alloc(REPLACED_HEAD);
  let at = 0;
  while (readSync(fd, head, 0, REPLACED_HEAD, at) === REPLACED_HEAD) {
    const body = at + REPLACED_HEAD;
    offsets.set(Number(head.readBigUInt64LE(0)), body);
    at = body + Number(head.readBigUInt64LE(U64));
  }
  return offsets;
}

function copyAll(from: number, to: number): void {
  const buffer = Buffer.allocUnsafe(COPY_SIZE);
  let n = readSync(from, buffer, 0, COPY_SIZE, null);
  while (n > 0) {
    writeAll(to, buffer.subarray(0, n));
    n = readSync(from, buffer, 0, COPY_SIZE, null);
  }
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}
