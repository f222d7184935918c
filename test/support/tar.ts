/** Builds and reads whole tar archives in memory. */
import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import type { TarEntry } from '../../src/engine/images/tar.ts';
import { TarReader } from '../../src/engine/images/tar-reader.ts';
import { bodyPadding, encodeHeader, newEntry, TRAILER } from '../../src/engine/images/tar-writer.ts';

/** An entry and its body; or a file's name and its text. */
export type Item = [path: string, text: string] | { entry: TarEntry; body?: Buffer };

export const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export const file = (name: string, body: Buffer | string): Item => ({
  entry: newEntry('file', name, { size: Buffer.byteLength(body) }),
  body: Buffer.from(body as string),
});

/** A tar archive of these items, in this order. */
export function archive(...items: Item[]): Buffer {
  const parts = items.flatMap((item) => {
    const { entry, body = Buffer.alloc(0) } = Array.isArray(item)
      ? { entry: newEntry('file', item[0], { size: Buffer.byteLength(item[1]) }), body: Buffer.from(item[1]) }
      : item;
    return [encodeHeader(entry), body, bodyPadding(body.length)];
  });
  return Buffer.concat([...parts, TRAILER]);
}

export const directory = (path: string, rest: Parameters<typeof newEntry>[2] = {}): Item => ({
  entry: newEntry('directory', path, rest),
});
export const symlink = (path: string, target: string): Item => ({
  entry: newEntry('symlink', path, { link: Buffer.from(target) }),
});
export const hardlink = (path: string, target: string): Item => ({
  entry: newEntry('hardlink', path, { link: Buffer.from(target) }),
});

export interface Read {
  entry: TarEntry;
  body: Buffer;
}

/** Reads an archive in chunks of `step` bytes, and asserts that the reader passes every byte on. */
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
    // The chunk is overwritten afterwards, because the reader may not keep views of it.
    const chunk = Buffer.from(archive.subarray(at, at + step));
    reader.push(chunk);
    chunk.fill(0xee);
  }
  reader.end();
  expect(Buffer.concat(bytes).equals(archive)).toBe(true);
  expect(ended).toBe(out.length);
  return out;
}
