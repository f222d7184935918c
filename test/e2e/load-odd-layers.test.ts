/** `docker load` of layers that other builders wrote. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { archive, digestOf, directory, file, hardlink, symlink } from '../support/tar.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok } = dockerOf(() => engine);

test.each(['.', '/', './'])(
  'a hard link to the root, as old kaniko wrote it, is skipped: %s [load-link-to-root]',
  async (target) => {
    const layer = archive(
      directory('.'),
      hardlink('/', target),
      hardlink('x', target),
      symlink('link', 'nowhere'),
      ['f', 'content'],
      hardlink('g', 'f'),
    );
    const rootfs = { type: 'layers', diff_ids: [digestOf(layer)] };
    const path = join(engine.root, 'kaniko.tar');
    writeFileSync(
      path,
      archive(
        file('c.json', JSON.stringify({ architecture: 'amd64', os: 'linux', config: { Cmd: ['/f'] }, rootfs })),
        file('l.tar', layer),
        file('manifest.json', JSON.stringify([{ Config: 'c.json', RepoTags: ['kaniko:1'], Layers: ['l.tar'] }])),
      ),
    );
    expect(await ok('load', '-i', path)).toBe('Loaded image: kaniko:1');
    const id = await ok('create', 'kaniko:1');
    const copy = (await engine.api('GET', `/containers/${id}/archive?path=/g`)).body;
    expect(copy.includes('content')).toBe(true);
    expect((await engine.api('HEAD', `/containers/${id}/archive?path=/x`)).status).toBe(404);
    // Saved, it is the same layer, byte for byte.
    const saved = (await engine.api('GET', '/images/kaniko:1/get')).body;
    expect(saved.includes(layer)).toBe(true);
    await ok('rm', id);
    await ok('rmi', 'kaniko:1');
  },
);
