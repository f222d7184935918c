/** `docker save` archives of one small image, and the check that a failed load leaves nothing. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect } from 'vitest';
import { archive, digestOf, part, type Place } from './image-fixture.ts';

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
    part('c.json', JSON.stringify(itsConfig)),
    part('l.tar', LAYER),
    part('manifest.json', JSON.stringify(manifest)),
  );

/** @returns the lines that `docker load` would print */
export async function load(at: Place, bytes: Buffer | Readable): Promise<string[]> {
  const lines: string[] = [];
  const source = Buffer.isBuffer(bytes) ? Readable.from([bytes], { objectMode: false }) : bytes;
  for await (const line of at.images.load(source)) lines.push(line);
  return lines;
}

export const list = (at: Place): unknown[] =>
  at.images.list({ labels: [], references: [], before: [], since: [] }, { all: true });

/** Asserts that there is no image, no layer and no temporary file. */
export function expectNothing(at: Place): void {
  expect(list(at)).toEqual([]);
  expect(at.layerRows.all()).toEqual([]);
  for (const name of ['layers', 'tmp'])
    expect(existsSync(join(at.paths.images(), name)) ? readdirSync(join(at.paths.images(), name)) : []).toEqual([]);
}
