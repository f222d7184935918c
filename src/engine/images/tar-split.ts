/**
 * A layer's recipe: how its archive is put together again, byte for byte, from its files. It keeps what is not a file's
 * body
 * (headers, padding, trailer), so that a layer that was unpacked can be saved or pushed under the same digest.
 *
 * On disk: gzip; records of a type byte, a length (u32, little-endian) and that many bytes. Type 0: bytes of the
 * archive.
 * Type 1: a size (u64) and a path without links: the file's body.
 *
 * A file that a later entry of the same archive replaced is not among the layer's files. Its body is in a second file,
 * `replaced`:
 * for each of them which record of type 1 it belongs to (u64, counted from 0), its size (u64) and its bytes.
 */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { gzip, type ZlibOptions } from 'node:zlib';

export const RECIPE = 'recipe.gz';
export const REPLACED = 'replaced';

const BYTES = 0;
const FILE = 1;
const HEAD = 5;
const U64 = 8;
const U32 = 2 ** 32;
const BLOCK = 256 * 1024;
const COPY_SIZE = 1 << 20;
/** Most of it is zeros: the fastest level does. */
const LEVEL = 1;
/** Blocks that wait to be packed. */
const MAX_WAITING = 4;

/** In the thread pool: the unpacker's own thread has other things to do. */
const pack = promisify<Buffer, ZlibOptions, Buffer>(gzip);

export class RecipeWriter {
  #block = Buffer.allocUnsafe(BLOCK);
  #filled = 0;
  /** Blocks that were packed. */
  readonly #spare: Buffer<ArrayBuffer>[] = [];
  /** Where the length of the present record of bytes is: what comes next is added to it. -1 when there is none. */
  #open = -1;
  /** Of the records of files, in order. */
  readonly #paths: string[] = [];
  /** The last record of each path, as far as they were looked at: most archives never need it. */
  readonly #records = new Map<string, number>();
  #lookedAt = 0;
  #packed = Promise.resolve();
  #waiting = 0;

  constructor(
    private readonly fd: number,
    private readonly replacedFd: number,
  ) {}

  bytes(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#open < 0) this.#begin(BYTES, 0, 1);
      const n = bytes.copy(this.#block, this.#filled, at);
      this.#filled += n;
      at += n;
      this.#block.writeUInt32LE(this.#filled - this.#open - 4, this.#open);
      if (this.#filled === BLOCK) this.#next();
    }
  }

  /** `path` has one character a byte, and no link in it. */
  file(path: string, size: number): void {
    const length = U64 + path.length;
    this.#begin(FILE, length, length);
    this.#open = -1;
    this.#block.writeUInt32LE(size % U32, this.#filled);
    this.#block.writeUInt32LE(Math.floor(size / U32), this.#filled + U64 / 2);
    this.#block.write(path, this.#filled + U64, 'latin1');
    this.#filled += length;
    this.#paths.push(path);
  }

  /** The file at `path` is about to be taken away: keeps its body, where an earlier record is of it. */
  keep(path: string): void {
    for (; this.#lookedAt < this.#paths.length; this.#lookedAt++)
      this.#records.set(this.#paths[this.#lookedAt]!, this.#lookedAt);
    const record = this.#records.get(path);
    if (record === undefined) return;
    this.#records.delete(path);
    const fd = openSync(Buffer.from(path, 'latin1'), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const head = Buffer.alloc(2 * U64);
      head.writeBigUInt64LE(BigInt(record));
      head.writeBigUInt64LE(BigInt(fstatSync(fd).size), U64);
      writeAll(this.replacedFd, head);
      const buffer = Buffer.allocUnsafe(COPY_SIZE);
      for (let n; (n = readSync(fd, buffer, 0, COPY_SIZE, null)) > 0;) writeAll(this.replacedFd, buffer.subarray(0, n));
    } finally {
      closeSync(fd);
    }
  }

  /** Returns when not too much waits to be packed. */
  async room(): Promise<void> {
    while (this.#waiting > MAX_WAITING) await this.#packed;
  }

  /** All of it is written. */
  async finish(): Promise<void> {
    this.#next();
    await this.#packed;
  }

  #begin(type: number, length: number, room: number): void {
    if (this.#filled + HEAD + room > BLOCK) this.#next();
    this.#block[this.#filled] = type;
    this.#block.writeUInt32LE(length, this.#filled + 1);
    this.#open = this.#filled + 1;
    this.#filled += HEAD;
  }

  #next(): void {
    const block = this.#block;
    const full = block.subarray(0, this.#filled);
    this.#block = this.#spare.pop() ?? Buffer.allocUnsafe(BLOCK);
    this.#filled = 0;
    this.#open = -1;
    this.#waiting++;
    this.#packed = Promise.all([pack(full, { level: LEVEL }), this.#packed]).then(([packed]) => {
      writeAll(this.fd, packed);
      this.#spare.push(block);
      this.#waiting--;
    });
    // It is `room` or `finish` that tells.
    this.#packed.catch(() => undefined);
  }
}

/** What a recipe says is to be written next. */
export type Step = { bytes: Buffer } | { path: string; size: number };

/** Reads a recipe. */
export async function* steps(packed: AsyncIterable<Buffer>): AsyncGenerator<Step> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of packed) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    for (let end; at + HEAD <= rest.length && (end = at + HEAD + rest.readUInt32LE(at + 1)) <= rest.length; at = end) {
      const body = rest.subarray(at + HEAD, end);
      yield rest[at] === BYTES
        ? { bytes: body }
        : { path: body.toString('latin1', U64), size: Number(body.readBigUInt64LE(0)) };
    }
    rest = Buffer.from(rest.subarray(at));
  }
  if (rest.length > 0) throw new Error('the recipe is cut off');
}

/** Where in the file of replaced bodies that of each record is. */
export function replacedBodies(fd: number): Map<number, number> {
  const offsets = new Map<number, number>();
  const head = Buffer.alloc(2 * U64);
  for (
    let at = 0;
    readSync(fd, head, 0, head.length, at) === head.length;
    at += head.length + Number(head.readBigUInt64LE(U64))
  ) {
    offsets.set(Number(head.readBigUInt64LE(0)), at + head.length);
  }
  return offsets;
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}
