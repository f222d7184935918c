/**
 * Detection and decoding of compressed archives. zlib decodes gzip and (from Node 22.15 on) zstd; programs of the host
 * decode the rest.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Readable, type Duplex, type Writable } from 'node:stream';
import * as zlib from 'node:zlib';
import { InvalidParameter, SystemFault } from '../../model/errors.ts';

export type Compression = 'none' | 'gzip' | 'bzip2' | 'xz' | 'zstd';

/** The first bytes of each format. */
const MAGICS: [Compression, number[]][] = [
  ['gzip', [0x1f, 0x8b, 0x08]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
];
export const MAGIC_LENGTH = 6;

/** zlib's default of 16 KiB halves its throughput. */
const CHUNK = 256 * 1024;

const MAX_STDERR_CHARS = 500;

const PROGRAMS: Partial<Record<Compression, string[]>> = {
  bzip2: ['bzip2', '-dcq'],
  // The limit is necessary: an xz header may demand a dictionary of 4 GiB.
  xz: ['xz', '-dcq', '-M', '512MiB'],
  zstd: ['zstd', '-dcq'],
};

/** The format of an archive that begins with `head` (MAGIC_LENGTH bytes suffice). */
export function detectCompression(head: Buffer): Compression {
  const match = MAGICS.find(([, magic]) => magic.every((byte, i) => head[i] === byte));
  return match?.[0] ?? 'none';
}

/** Not in @types/node 20. */
interface ZstdZlib {
  createZstdDecompress?: (options: { chunkSize: number }) => Duplex;
}

/** A decoder stream of zlib; undefined if it does not support the format. */
export function decoder(compression: Compression): Duplex | undefined {
  if (compression === 'gzip') return zlib.createGunzip({ chunkSize: CHUNK });
  if (compression === 'zstd') return (zlib as ZstdZlib).createZstdDecompress?.({ chunkSize: CHUNK });
  return undefined;
}

/** Whether zlib decodes the format. */
export const decodesHere = (compression: Compression): boolean =>
  compression === 'gzip' || (compression === 'zstd' && 'createZstdDecompress' in zlib);

/**
 * Decompresses a stream.
 * @throws InvalidParameter when the data is broken, SystemFault when the host lacks the program
 */
export function decompress(source: AsyncIterable<Buffer>, compression: Compression): AsyncIterable<Buffer> {
  if (compression === 'none') return source;
  return decodesHere(compression) ? decodeHere(source, compression) : decodeByProgram(source, compression);
}

async function* decodeHere(source: AsyncIterable<Buffer>, compression: Compression): AsyncGenerator<Buffer> {
  const decoding = decoder(compression)!;
  feed(source, decoding).catch((error: unknown) => decoding.destroy(error as Error));
  try {
    for await (const chunk of decoding) yield chunk as Buffer;
  } catch (error) {
    throw isZlibError(error) ? broken(compression, error.message) : error;
  } finally {
    decoding.destroy();
  }
}

// zlib's error codes are Z_DATA_ERROR and the like, zstd's ZSTD_error_….
const isZlibError = (error: unknown): error is Error =>
  error instanceof Error && 'code' in error && String(error.code).startsWith('Z');

async function* decodeByProgram(source: AsyncIterable<Buffer>, compression: Compression): AsyncGenerator<Buffer> {
  const [program, ...args] = PROGRAMS[compression]!;
  const child = spawn(program!, args, { stdio: 'pipe', env: { PATH: process.env.PATH ?? '/usr/bin:/bin' } });
  const ended = once(child, 'exit').then(
    ([code]) => code as number | null,
    () => null,
  );
  try {
    await once(child, 'spawn');
  } catch {
    throw new SystemFault(
      `the archive is compressed with ${compression}: install the program "${program}" on this host to read it`,
    );
  }
  let stderrTail = '';
  child.stderr.on('data', (bytes: Buffer) => {
    stderrTail = (stderrTail + bytes.toString()).slice(-MAX_STDERR_CHARS);
  });
  let inputError: Error | undefined;
  feed(source, child.stdin).catch((error: unknown) => {
    inputError = error as Error;
    child.kill('SIGKILL');
  });
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer;
    const code = await ended;
    if (inputError) throw inputError;
    // A truncated archive merely ends the output early; only the exit code shows it.
    if (code !== 0) throw broken(compression, stderrTail.trim());
  } finally {
    child.kill('SIGKILL');
  }
}

const broken = (compression: Compression, why: string): InvalidParameter =>
  new InvalidParameter(`the archive's ${compression} data is broken: ${why || 'it ends early'}`);

/** Writes all of `source` to `sink` and ends it. If the sink closes early, the rest of the source is not read. */
export async function feed(source: AsyncIterable<Buffer>, sink: Writable): Promise<void> {
  sink.on('error', () => undefined);
  for await (const chunk of source) {
    if (sink.destroyed) return;
    if (!sink.write(chunk)) await drained(sink);
  }
  sink.end();
}

const drained = (sink: Writable): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      sink.off('drain', done).off('close', done);
      resolve();
    };
    sink.on('drain', done).on('close', done);
  });

export interface Peeked {
  head: Buffer;
  /** The whole stream; stopping early does not destroy it. */
  all: AsyncIterable<Buffer>;
  /** Drains what `all` did not yield: the sender may read its response only when it has sent everything. */
  discard: () => void;
}

/** Reads the first bytes of a stream. */
export async function peek(source: Readable): Promise<Peeked> {
  const chunks = source.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  const first: Buffer[] = [];
  let length = 0;
  while (length < MAGIC_LENGTH) {
    const next = await chunks.next();
    if (next.done) break;
    first.push(Buffer.from(next.value));
    length += next.value.length;
  }
  const head = Buffer.concat(first);
  const discard = (): void => {
    // While it iterates, the stream does not flow.
    const ended = chunks.return?.() ?? Promise.resolve();
    ended.catch(() => undefined).finally(() => source.resume());
  };
  return { head, all: concat(head, chunks), discard };
}

async function* concat(head: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  yield* rest;
}
