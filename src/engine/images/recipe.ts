/**
 * A layer's recipe: how its archive is put together again, byte for byte, from its files. It keeps what is not a file's body
 * (headers, padding, trailer), so that a layer that was unpacked can be saved or pushed under the same digest.
 *
 * On disk: gzip; records of a type byte, a length (u32, little-endian) and that many bytes. Type 0: bytes of the archive.
 * Type 1: a size (u64) and a path: the file's body, read in a jail again, since the path may lead through the layer's own links.
 */
import { writeSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

export const RECIPE_BYTES = 0;
export const RECIPE_FILE = 1;
export const RECIPE_HEAD = 5;
const FLUSH_AT = 256 * 1024;
/** Most of it is zeros: the fastest level does. */
const LEVEL = 1;

export class RecipeWriter {
  #pending: Buffer[] = [];
  #length = 0;

  constructor(private readonly fd: number) {}

  bytes(bytes: Buffer): void {
    // Copied: the caller's memory is used again.
    this.#record(RECIPE_BYTES, Buffer.from(bytes));
  }

  /** `path` has one character a byte. */
  file(path: string, size: number): void {
    const head = Buffer.alloc(8);
    head.writeBigUInt64LE(BigInt(size));
    this.#record(RECIPE_FILE, Buffer.concat([head, Buffer.from(path, 'latin1')]));
  }

  finish(): void {
    this.#flush();
  }

  #record(type: number, body: Buffer): void {
    const head = Buffer.alloc(RECIPE_HEAD);
    head[0] = type;
    head.writeUInt32LE(body.length, 1);
    this.#pending.push(head, body);
    this.#length += RECIPE_HEAD + body.length;
    if (this.#length >= FLUSH_AT) this.#flush();
  }

  #flush(): void {
    const packed = gzipSync(Buffer.concat(this.#pending), { level: LEVEL });
    for (let at = 0; at < packed.length; ) at += writeSync(this.fd, packed, at);
    this.#pending = [];
    this.#length = 0;
  }
}
