/** An archive of images, spooled to disk. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Staging } from '../../src/engine/images/staging.ts';
import { archive, directory } from '../support/tar.ts';

let parent: string;
beforeEach(() => void (parent = mkdtempSync(join(tmpdir(), 'hf-staging-'))));
afterEach(() => rmSync(parent, { recursive: true, force: true }));

async function* chunks(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 4096) yield await Promise.resolve(bytes.subarray(at, at + 4096));
}

test('of several files with one name the last counts, and no other file changes [spool-same-name]', async () => {
  const staging = await Staging.spool(chunks(archive(['a', 'one'], ['b', 'b'], ['a', 'two'], ['c', 'c'])), parent);
  const texts = await Promise.all(['a', 'b', 'c'].map((name) => staging.read(name)));
  expect(texts.map(String)).toEqual(['two', 'b', 'c']);
});

test('the limit of entries counts directories, and several of one name [spool-entries]', async () => {
  const many = archive(...Array.from({ length: 20_001 }, () => directory('d')));
  await expect(Staging.spool(chunks(many), parent)).rejects.toThrow('more than 20000 entries');
  expect(readdirSync(parent)).toEqual([]);
});

test('spooling ends with its signal, and leaves nothing [spool-abort]', async () => {
  const gone = new AbortController();
  const endless = (async function* () {
    yield* chunks(archive(['a', 'x'.repeat(10_000)]).subarray(0, 5000));
    gone.abort(new Error('gone'));
    for (;;) yield await Promise.resolve(Buffer.alloc(512));
  })();
  await expect(Staging.spool(endless, parent, gone.signal)).rejects.toThrow('gone');
  expect(readdirSync(parent)).toEqual([]);
});
