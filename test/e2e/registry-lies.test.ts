/** Manifests in a real registry (Debian's docker-registry) that name another blob than the layer's. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { putBlob, putManifest, startRegistry, type TestRegistry } from '../support/registry.ts';
import { archive, digestOf } from '../support/tar.ts';

const DOCKER = 'application/vnd.docker';
const LAYER = archive(['f', 'honest']);
const OTHER = gzipSync(archive(['f', 'another']));

let engine: TestEngine;
let registry: TestRegistry;
beforeAll(async () => {
  [engine, registry] = await Promise.all([startEngine(), startRegistry()]);
});
afterAll(async () => {
  for (const each of [engine, registry]) await each?.[Symbol.asyncDispose]();
});

const { ok, refusal } = dockerOf(() => engine);

/** Stores an image whose configuration has the layer LAYER, and whose manifest names `blob`. */
async function put(path: string, blob: Buffer, author: string): Promise<string> {
  const rootfs = { type: 'layers', diff_ids: [digestOf(LAYER)] };
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', author, rootfs, config: {} }));
  const type = `${DOCKER}.distribution.manifest.v2+json`;
  await putManifest(registry.host, path, '1', {
    schemaVersion: 2,
    mediaType: type,
    config: await putBlob(registry.host, path, config, `${DOCKER}.container.image.v1+json`),
    layers: [await putBlob(registry.host, path, blob, `${DOCKER}.image.rootfs.diff.tar.gzip`)],
  } as { mediaType: string });
  return `${registry.host}/${path}:1`;
}

async function pushedLayers(path: string): Promise<string[]> {
  const answer = await fetch(`http://${registry.host}/v2/${path}/manifests/1`, {
    headers: { accept: `${DOCKER}.distribution.manifest.v2+json` },
  });
  const { layers } = (await answer.json()) as { layers: { digest: string }[] };
  return layers.map(({ digest }) => digest);
}

test.each([
  ['of another image', 'liar'],
  ['of the same image', 'author'],
])(
  'a manifest %s that lies about the blob of a present layer does not change what is pushed [registry-lying-manifest]',
  async (_, author) => {
    const blob = gzipSync(LAYER);
    const honest = await put(`${author}/honest`, blob, 'author');
    await ok('pull', '-q', honest);
    const liar = await put(`${author}/liar`, OTHER, author);
    expect(await refusal('pull', liar)).toContain('diff ID');
    const copy = `${registry.host}/${author}/copy`;
    await ok('tag', honest, `${copy}:1`);
    await ok('push', '-q', `${copy}:1`);
    expect(await pushedLayers(`${author}/copy`)).toEqual([digestOf(blob)]);
    await ok('rmi', '-f', await ok('images', '-q', '--no-trunc', `${copy}:1`));
    await ok('pull', '-q', `${copy}:1`);
  },
);

test('a layer that came with an archive gets no blob from a manifest [registry-lying-after-load]', async () => {
  const image = await ok('pull', '-q', await put('loaded/honest', gzipSync(LAYER), 'author'));
  const saved = (await engine.api('GET', `/images/get?names=${image}`)).body;
  await ok('rmi', '-f', ...(await ok('images', '-q', '--no-trunc', '--filter', 'reference=*:*/*/*')).split('\n'));
  await engine.api('POST', '/images/load', saved, { 'Content-Type': 'application/x-tar' });
  expect(await refusal('pull', await put('loaded/liar', OTHER, 'liar'))).toContain('diff ID');
  await ok('tag', image, `${registry.host}/loaded/copy:1`);
  await ok('push', '-q', `${registry.host}/loaded/copy:1`);
  expect(await pushedLayers('loaded/copy')).not.toContain(digestOf(OTHER));
});
