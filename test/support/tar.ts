/** Reads and writes whole tar archives in memory. */
import { expect } from 'vitest';
import type { TarEntry } from '../../src/engine/images/tar.ts';
import { TarReader } from '../../src/engine/images/tar-reader.ts';
import { bodyPadding, encodeHeader, TRAILER } from '../../src/engine/images/tar-writer.ts';

export interface Read {
  entry: TarEntry;
  body: Buffer;
}

/** Reads an archive in pieces of `step` bytes; checks that what comes out is what came in. */
export function read(archive: Buffer, step = 1 << 16): Read[] {
  const out: Read[] = [];
  const bytes: Buffer[] = [];
  let ended = 0;
  const reader = new TarReader({
    entry: (entry) => out.push({ entry, body: Buffer.alloc(0) }),
    data: (data) => {
      bytes.push(Buffer.from(data));
      out.at(-1)!.body = Buffer.concat([out.at(-1)!.body, data]);
    },
    end: () => ended++,
    meta: (meta) => bytes.push(Buffer.from(meta)),
  });
  for (let at = 0; at < archive.length; at += step) {
    // A copy that is overwritten afterwards: nothing may keep views of it.
    const chunk = Buffer.from(archive.subarray(at, at + step));
    reader.push(chunk);
    chunk.fill(0xee);
  }
  reader.end();
  expect(Buffer.concat(bytes).equals(archive)).toBe(true);
  expect(ended).toBe(out.length);
  return out;
}

export const archiveOf = (entries: { entry: TarEntry; body?: Buffer }[]): Buffer =>
  Buffer.concat([
    ...entries.flatMap(({ entry, body }) => [encodeHeader(entry), body ?? Buffer.alloc(0), bodyPadding(entry.size)]),
    TRAILER,
  ]);
