/** `docker save` archives of one small image, and the check that a failed load leaves nothing. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect } from 'vitest';
import type { ImageFixture } from './image-fixture.ts';
import { archive, digestOf, file } from './tar.ts';

/** The only layer of the image that `image` makes. */
export const LAYER = archive(['f', 'x']);

export const config = (changes: object = {}): object => ({
  architecture: 'amd64',
  os: 'linux',
  rootfs: { type: 'layers', diff_ids: [digestOf(LAYER)] },
  ...changes,
});

/** A docker-archive of one image. */
export const image = (
  itsConfig: unknown = config(),
  manifest: unknown = [{ Config: 'c.json', RepoTags: ['loaded:1'], Layers: ['l.tar'] }],
): Buffer =>
  archive(
    file('c.json', JSON.stringify(itsConfig)),
    file('l.tar', LAYER),
    file('manifest.json', JSON.stringify(manifest)),
  );

/** @returns the lines that `docker load` would print */
export async function load(at: ImageFixture, bytes: Buffer | Readable): Promise<string[]> {
  const lines: string[] = [];
  const source = Buffer.isBuffer(bytes) ? Readable.from([bytes], { objectMode: false }) : bytes;
  for await (const line of at.images.load(source)) lines.push(line);
  return lines;
}

export const list = (at: ImageFixture): unknown[] =>
  at.images.list({ labels: [], references: [], before: [], since: [] }, { all: true });

/** Asserts that there is no image, no layer and no temporary file. */
export function expectNothing(at: ImageFixture): void {
  expect(list(at)).toEqual([]);
  expect(at.layerRows.all()).toEqual([]);
  for (const name of ['layers', 'tmp'])
    expect(existsSync(join(at.paths.images(), name)) ? readdirSync(join(at.paths.images(), name)) : []).toEqual([]);
}
