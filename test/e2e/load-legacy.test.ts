/** `docker load` of archives that Docker before 1.10 saved: without an index, a directory per layer. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { busyboxTar } from '../support/busybox.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { archive, digestOf, directory, file, symlink, type Item } from '../support/tar.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok, refusal, inspectFormat } = dockerOf(() => engine);

const [BASE, MIDDLE, TOP] = ['1', '2', '3'].map((digit) => digit.repeat(64)) as [string, string, string];
const UPPER = archive(['added', 'by the middle']);
const EMPTY = Buffer.alloc(1024);

/** A layer's directory as Docker 1.9 wrote it. */
function layer(id: string, parent: string | undefined, tar: Buffer, command: string, config: object = {}): Item[] {
  const json = {
    id,
    ...(parent && { parent }),
    created: '2015-10-01T12:00:00.5Z',
    container: 'c'.repeat(64),
    container_config: { Cmd: ['/bin/sh', '-c', command] },
    docker_version: '1.9.1',
    author: 'old',
    config,
    architecture: 'amd64',
    os: 'linux',
    Size: tar.length,
  };
  return [
    directory(id),
    file(`${id}/VERSION`, '1.0'),
    file(`${id}/json`, JSON.stringify(json)),
    file(`${id}/layer.tar`, tar),
  ];
}

/** The top layer comes first: directories are in no order. */
const LAYERS = [
  ...layer(TOP, MIDDLE, EMPTY, '#(nop) CMD ["cat" "/added"]', { Cmd: ['cat', '/added'], Env: ['A=<b>'] }),
  ...layer(BASE, undefined, busyboxTar(), '#(nop) ADD file:x in /'),
  ...layer(MIDDLE, BASE, UPPER, 'echo by the middle > /added'),
];
const repositories = (value: object): Item => file('repositories', JSON.stringify(value));

function load(...items: Item[]): Promise<string> {
  const path = join(engine.root, 'old.tar');
  writeFileSync(path, archive(...items));
  return ok('load', '-i', path);
}
function loadRefusal(...items: Item[]): Promise<string> {
  const path = join(engine.root, 'old.tar');
  writeFileSync(path, archive(...items));
  return refusal('load', '-i', path);
}

describe('an archive of Docker before 1.10', () => {
  test('is loaded with its names, layers, history and parents, and runs [load-legacy]', async () => {
    const lines = await load(...LAYERS, repositories({ 'old/image': { '1': TOP, base: BASE } }));
    expect(lines.split('\n').sort()).toEqual(['Loaded image: old/image:1', 'Loaded image: old/image:base']);
    expect(await ok('run', '--rm', '--network', 'none', 'old/image:1')).toBe('by the middle');
    expect(JSON.parse(await inspectFormat('old/image:1', '{{json .RootFS.Layers}}'))).toEqual(
      [busyboxTar(), UPPER, EMPTY].map(digestOf),
    );
    expect(await inspectFormat('old/image:1', '{{.Author}} {{.Config.Env}} {{.Created}}')).toBe(
      'old [A=<b>] 2015-10-01T12:00:00.5Z',
    );
    const history = (await ok('history', '--no-trunc', '--format', '{{.CreatedBy}}', 'old/image:1')).split('\n');
    expect(history.map((line) => line.replace('/bin/sh -c ', ''))).toEqual([
      '#(nop) CMD ["cat" "/added"]',
      'echo by the middle > /added',
      '#(nop) ADD file:x in /',
    ]);
    const parent = await inspectFormat('old/image:1', '{{.Parent}}');
    expect(await inspectFormat(parent, '{{.Parent}}')).toBe(await inspectFormat('old/image:base', '{{.Id}}'));
    // Loaded again it is the same image.
    const id = await inspectFormat('old/image:1', '{{.Id}}');
    await load(...LAYERS, repositories({ 'old/image': { '1': TOP } }));
    expect(await inspectFormat('old/image:1', '{{.Id}}')).toBe(id);
    // Without its names, the parents go with it.
    await ok('rmi', 'old/image:1', 'old/image:base');
    expect(await ok('images', '-aq', '--filter', 'dangling=true')).toBe('');
  });

  test('without names is loaded by its id; a layer may be a link to one of the archive [load-legacy-by-id]', async () => {
    const linked = LAYERS.filter((item) => Array.isArray(item) || item.entry.path !== `${MIDDLE}/layer.tar`);
    const lines = await load(...linked, symlink(`${MIDDLE}/layer.tar`, `../${BASE}/layer.tar`));
    const [, id] = /^Loaded image ID: (sha256:\w{64})$/.exec(lines)!;
    const layers = JSON.parse(await inspectFormat(id!, '{{json .RootFS.Layers}}')) as string[];
    expect(layers[1]).toBe(layers[0]);
    await ok('rmi', id!);
  });

  test.each<[string, string, Item[]]>([
    ['names of an absent image', 'invalid target image ID: 9', [...LAYERS, repositories({ x: { '1': '9' } })]],
    ['an absent parent', `does not contain ${MIDDLE}/json`, [...layer(TOP, MIDDLE, EMPTY, '')]],
    ['a cycle', 'is below itself', [...layer(TOP, BASE, EMPTY, ''), ...layer(BASE, TOP, EMPTY, '')]],
    ['no layer', `does not contain ${BASE}/layer.tar`, layer(BASE, undefined, EMPTY, '').slice(0, 3)],
    ['a bad tag', 'invalid', [...LAYERS, repositories({ x: { 'not a tag': TOP } })]],
    ['other names', 'failed to decode repositories', [...LAYERS, repositories({ x: 1 })]],
    ['a list as configuration', 'failed to decode x/json', [file('x/json', '[]')]],
    ['nothing in it', 'does not contain a manifest.json', [file('x/VERSION', '1.0')]],
  ])('with %s is refused [load-legacy-refused]', async (_, reason, items) => {
    expect(await loadRefusal(...items)).toContain(reason);
    expect(await ok('images', '-q', 'x')).toBe('');
  });
});
