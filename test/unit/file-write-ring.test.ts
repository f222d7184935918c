import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FileWriteRing } from '../../src/engine/images/file-write-ring.ts';
import type { TarEntry } from '../../src/engine/images/tar.ts';

const MTIME = 1_000_000;
let base: string;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'hf-ring-'));
});

afterEach(() => {
  rmSync(base, { recursive: true, force: true });
});

/** Writes one file per slab through the ring. @returns the ring's digest, and the digest of what was posted */
function writeThrough(ring: FileWriteRing, slabs: number): { digest: string; expected: string } {
  const hash = createHash('sha256');
  for (let i = 0; i < slabs; i++) {
    const slab = ring.currentSlab();
    const content = randomBytes(1000 + i);
    content.copy(slab, 512);
    slab.fill(i, 0, 512);
    const entry = { path: `file${i}` } as TarEntry;
    const fd = openSync(join(base, entry.path), 'wx');
    ring.queueWrite(fd, slab.subarray(512, 512 + content.length), entry);
    ring.queueClose(fd, MTIME + i, entry);
    hash.update(slab.subarray(0, 512 + content.length));
    writeFileSync(join(base, `expected${i}`), content);
    ring.post(512 + content.length);
  }
  return { digest: ring.finish(), expected: hash.digest('hex') };
}

test.each([1, 5, 6, 40])(
  'when the writer thread does not start, the main thread writes all of %d slabs [unpack-slow-thread]',
  (slabs) => {
    const script = join(base, 'script.cjs');
    writeFileSync(script, '');
    const { digest, expected } = writeThrough(new FileWriteRing(script, 20), slabs);
    expect(digest).toBe(expected);
    for (let i = 0; i < slabs; i++) {
      expect(readFileSync(join(base, `file${i}`)).equals(readFileSync(join(base, `expected${i}`)))).toBe(true);
      expect(statSync(join(base, `file${i}`)).mtimeMs).toBe((MTIME + i) * 1000);
    }
  },
);
