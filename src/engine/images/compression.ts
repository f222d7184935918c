/**
 * Compressed archives, by their first bytes. gzip and (Node 22 and later) zstd are decoded here, the others by the
 * host's programs.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Readable, type Duplex, type Writable } from 'node:stream';
import * as zlib from 'node:zlib';
import { InvalidParameter, SystemFault } from '../../model/errors.ts';

export type Compression = 'none' | 'gzip' | 'bzip2' | 'xz' | 'zstd';

const MAGICS: [Compression, number[]][] = [
  ['gzip', [0x1f, 0x8b, 0x08]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
];
export const MAGIC_LENGTH = 6;

/** node:zlib's own 16 KiB halve its speed (parts.md #7). */
const CHUNK = 256 * 1024;

const PROGRAMS: Partial<Record<Compression, string[]>> = {
  bzip2: ['bzip2', '-dcq'],
  // An archive may ask for 4 GiB of dictionary.
  xz: ['xz', '-dcq', '-M', '512MiB'],
  zstd: ['zstd', '-dcq'],
};

export function detectCompression(head: Buffer): Compression {
  return (
    MAGICS.find(([, magic]) => magic.length <= head.length && magic.every((byte, i) => head[i] === byte))?.[0] ?? 'none'
  );
}

interface ZstdZlib {
  createZstdDecompress?: (options: { chunkSize: number }) => Duplex;
}

/** A decoder within this process; undefined where Node has none. */
export function decoder(compression: Compression): Duplex | undefined {
  if (compression === 'gzip') return zlib.createGunzip({ chunkSize: CHUNK });
  if (compression === 'zstd') return (zlib as ZstdZlib).createZstdDecompress?.({ chunkSize: CHUNK });
  return undefined;
}

/** Whether `decoder` has one. */
export const decodesHere = (compression: Compression): boolean =>
  compression === 'gzip' || (compression === 'zstd' && 'createZstdDecompress' in zlib);

/**
 * The bytes that `source` holds compressed. @throws InvalidParameter when they are broken, SystemFault when the host
 * lacks the program
 */
export function decompress(source: AsyncIterable<Buffer>, compression: Compression): AsyncIterable<Buffer> {
  if (compression === 'none') return source;
  return decodesHere(compression) ? decodeHere(source, compression) : decodeByProgram(source, compression);
}

async function* decodeHere(source: AsyncIterable<Buffer>, compression: Compression): AsyncGenerator<Buffer> {
  const decoding = decoder(compression)!;
  feed(source, decoding).catch((error: Error) => decoding.destroy(error));
  try {
    for await (const chunk of decoding) yield chunk as Buffer;
  } catch (error) {
    throw 'code' in (error as object) && String((error as { code: unknown }).code).startsWith('Z')
      ? broken(compression, (error as Error).message)
      : error;
  } finally {
    decoding.destroy();
  }
}

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
  let words = '';
  child.stderr.on('data', (bytes: Buffer) => (words = (words + bytes.toString()).slice(-500)));
  let failure: unknown;
  feed(source, child.stdin).catch((error: unknown) => {
    failure = error;
    child.kill('SIGKILL');
  });
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer;
    const code = await ended;
    if (failure) throw failure;
    // A cut archive only ends the program's output early: its exit code tells.
    if (code !== 0) throw broken(compression, words.trim());
  } finally {
    child.kill('SIGKILL');
  }
}

const broken = (compression: Compression, why: string): InvalidParameter =>
  new InvalidParameter(`the archive's ${compression} data is broken: ${why || 'it ends early'}`);

/**
 * Writes all of `source` to `sink` and ends it. A sink that closes early takes no more, but the source is still read to
 * its end: its sender may listen only then.
 */
export async function feed(source: AsyncIterable<Buffer>, sink: Writable): Promise<void> {
  sink.on('error', () => undefined);
  for await (const chunk of source) {
    if (!sink.destroyed && !sink.write(chunk)) await drained(sink);
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

/** The first bytes of a stream, and all of it. The stream is not destroyed when its reader stops early. */
export async function peek(source: Readable): Promise<{ head: Buffer; all: AsyncIterable<Buffer> }> {
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
  return { head, all: follow(head, chunks) };
}

async function* follow(head: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  yield* rest;
}
