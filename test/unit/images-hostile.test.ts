/**
 * Archives of images and layers that mean harm, hosts without room, and several at once: what is wrong is refused, and
 * nothing is left of it.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { InvalidParameter, SystemFault } from '../../src/model/errors.ts';
import { Downloads } from '../../src/engine/images/downloads.ts';
import { Endpoints } from '../../src/engine/images/registry/endpoints.ts';
import { newEntry } from '../../src/engine/images/tar-writer.ts';
import { mount, unmount } from '../../src/sys/mount.ts';
import { archive, digestOf, directory, part, place, symlink, type Item, type Place } from '../support/images.ts';
import { eachInItsPlace } from '../support/places.ts';
import type { Bundles } from '../support/unpacker.ts';

let built: Bundles;
let at: Place;
eachInItsPlace((...own) => ([at, built] = own));

const LAYER = archive(['f', 'x']);

const config = (changes: object = {}): object => ({
  architecture: 'amd64',
  os: 'linux',
  rootfs: { type: 'layers', diff_ids: [digestOf(LAYER)] },
  ...changes,
});

/** A docker-archive of one image. */
const image = (
  itsConfig: unknown = config(),
  manifest: unknown = [{ Config: 'c.json', RepoTags: ['loaded:1'], Layers: ['l.tar'] }],
): Buffer =>
  archive(
    part('c.json', JSON.stringify(itsConfig)),
    part('l.tar', LAYER),
    part('manifest.json', JSON.stringify(manifest)),
  );

async function load(bytes: Buffer | Readable): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of at.images.load(
    Buffer.isBuffer(bytes) ? Readable.from([bytes], { objectMode: false }) : bytes,
  ))
    lines.push(line);
  return lines;
}

const list = (): unknown[] => at.images.list({ labels: [], references: [], before: [], since: [] }, { all: true });

function expectNothing(): void {
  expect(list()).toEqual([]);
  expect(at.layerRows.all()).toEqual([]);
  for (const name of ['layers', 'tmp'])
    expect(existsSync(join(at.paths.images(), name)) ? readdirSync(join(at.paths.images(), name)) : []).toEqual([]);
}

describe('an image whose configuration is of the wrong kind is refused: no list of images stumbles upon it', () => {
  test.each<[string, object]>([
    ['created', { created: 7 }],
    ['author', { author: ['x'] }],
    ['architecture', { architecture: {} }],
    ['variant', { variant: 8 }],
    ['config', { config: 'x' }],
    ['config', { config: [] }],
    ['config.Labels', { config: { Labels: ['a'] } }],
    ['config.Labels.a', { config: { Labels: { a: 1 } } }],
    ['config.Env', { config: { Env: 'A=b' } }],
    ['config.Cmd', { config: { Cmd: 7 } }],
    ['config.Cmd', { config: { Cmd: ['sh', 7] } }],
    ['config.Entrypoint', { config: { Entrypoint: {} } }],
    ['config.Volumes.v', { config: { Volumes: { v: 1 } } }],
    ['config.ExposedPorts', { config: { ExposedPorts: 80 } }],
    ['config.Healthcheck.Test', { config: { Healthcheck: { Test: 'x' } } }],
    ['config.StopTimeout', { config: { StopTimeout: '10' } }],
    ['history', { history: {} }],
    ['history', { history: [7] }],
    ['history.created', { history: [{ created: 1 }] }],
    ['container_config.Tty', { container_config: { Tty: 'yes' } }],
  ])('%s [config-wrong-types]', async (where, changes) => {
    await expect(load(image(config(changes)))).rejects.toThrow(
      new RegExp(`^invalid image JSON: cannot unmarshal \\w+ into ${where} of type `),
    );
    expectNothing();
  });

  test.each<[string, unknown]>([
    ['null', null],
    ['a list', []],
    ['a number', 7],
    ['no rootfs', {}],
    ['a rootfs that is none', { rootfs: 7 }],
    ['diff IDs that are none', config({ rootfs: { type: 'layers', diff_ids: ['../../x'] } })],
    ['one diff ID', config({ rootfs: { diff_ids: 'x' } })],
  ])('all of it: %s', async (_name, value) => {
    await expect(load(image(value))).rejects.toThrow(InvalidParameter);
    expectNothing();
  });

  test('null is as good as nothing', async () => {
    expect(
      await load(
        image(
          config({
            created: null,
            author: null,
            history: null,
            config: { Env: null, Labels: null, Healthcheck: null, Cmd: null },
          }),
        ),
      ),
    ).toEqual(['Loaded image: loaded:1']);
    expect(list()).toHaveLength(1);
    expect(at.images.history('loaded:1')).toEqual([]);
  });
});

describe('an image whose configuration is odd is read as Docker reads it', () => {
  test.each<[string, object, object]>([
    [
      'a string for a list of words',
      { Cmd: 'sh -c x', Entrypoint: '/run', Shell: 'ash' },
      { Cmd: ['sh -c x'], Entrypoint: ['/run'], Shell: ['ash'] },
    ],
    [
      'null among strings',
      { Env: ['A=1', null], Cmd: ['sh', null], Labels: { a: null }, Volumes: { '/v': null } },
      { Env: ['A=1', ''], Cmd: ['sh', ''], Labels: { a: '' }, Volumes: { '/v': {} } },
    ],
    [
      'names in another case, the last of two',
      { env: ['A=1'], WORKINGDIR: '/w', cmd: ['one'], Cmd: ['two'] },
      { Env: ['A=1'], WorkingDir: '/w', Cmd: ['two'] },
    ],
    [
      'what nobody knows, and what JavaScript does',
      { Memory: 7, __proto__x: 1, Labels: JSON.parse('{"__proto__":"l"}') as object },
      { Labels: JSON.parse('{"__proto__":"l"}') as object },
    ],
  ])('%s [config-odd-values]', async (_name, written, read) => {
    const made = image(config({ config: written }));
    await load(made);
    const { id, config: found } = at.images.resolve('loaded:1');
    expect(found.config).toEqual(read);
    // Its id is that of the bytes as they came.
    expect(id).toBe(digestOf(Buffer.from(JSON.stringify(config({ config: written })))));
    expect(at.images.configOf(id)!.toString()).toBe(JSON.stringify(config({ config: written })));
  });

  test('null for a list, a name, a system [config-nulls]', async () => {
    await load(image(config({ architecture: null, os: null, history: [null, { created: null, created_by: 'x' }] })));
    expect(at.images.resolve('loaded:1').config).toMatchObject({ architecture: '', os: 'linux' });
    expect(at.images.history('loaded:1').map(({ CreatedBy }) => CreatedBy)).toEqual(['x', '']);
  });
});

describe('an archive of images whose documents are of the wrong kind', () => {
  const layout = (index: unknown, ...rest: Item[]): Buffer =>
    archive(part('index.json', JSON.stringify(index)), ...rest);
  const blob = (body: string): Item => part(`blobs/${digestOf(Buffer.from(body)).replace(':', '/')}`, body);
  const leading = (body: string): unknown => ({
    manifests: [{ digest: digestOf(Buffer.from(body)), size: body.length }],
  });

  test.each<[string, () => Buffer]>([
    ['a manifest that is no list', () => image(config(), { Config: 'c.json' })],
    ['a manifest of null', () => image(config(), [null])],
    ['a configuration that is no name', () => image(config(), [{ Config: 5, Layers: ['l.tar'] }])],
    ['layers that are no list', () => image(config(), [{ Config: 'c.json', Layers: 'l.tar' }])],
    ['layers that are no names', () => image(config(), [{ Config: 'c.json', Layers: [{}] }])],
    ['a parent that is no name', () => image(config(), [{ Config: 'c.json', Layers: ['l.tar'], Parent: 7 }])],
    ['names that lead out', () => image(config(), [{ Config: '../../../../etc/passwd', Layers: ['l.tar'] }])],
    ['a layer that leads out', () => image(config(), [{ Config: 'c.json', Layers: ['/etc/passwd'] }])],
    [
      'a configuration of 20 MB',
      () =>
        archive(
          part('c.json', Buffer.alloc(20_000_000, ' ')),
          part('manifest.json', JSON.stringify([{ Config: 'c.json', Layers: [] }])),
        ),
    ],
    ['a manifest of 20 MB', () => archive(part('manifest.json', Buffer.alloc(20_000_000, '[')))],
    ['deep JSON', () => archive(part('manifest.json', Buffer.alloc(5_000_000, '[')))],
    ['an index of null', () => layout(null)],
    ['descriptors of null', () => layout({ manifests: [null] })],
    ['a digest that leads out', () => layout({ manifests: [{ digest: 'sha256:../../../etc/passwd', size: 1 }] })],
    ['an image manifest of null', () => layout(leading('null'), blob('null'))],
    ['an image manifest without layers', () => layout(leading('{"config":{}}'), blob('{"config":{}}'))],
    ['an image manifest without a configuration', () => layout(leading('{"layers":[]}'), blob('{"layers":[]}'))],
    ['devices', () => archive({ entry: newEntry('block', 'manifest.json', { major: 8, minor: 0 }) })],
    [
      'links in a circle',
      () => archive({ entry: newEntry('symlink', 'manifest.json', { link: Buffer.from('manifest.json') }) }),
    ],
    ['20,001 entries', () => archive(...Array.from({ length: 20_001 }, (_, i) => symlink(`l${i}`, 'x')))],
  ])('%s', async (_name, make) => {
    await expect(load(make())).rejects.toThrow(InvalidParameter);
    expectNothing();
  });

  test('a client that leaves in the middle of it', async () => {
    const bytes = image();
    const source = Readable.from(
      (async function* () {
        yield bytes.subarray(0, 2000);
        throw new Error('aborted');
      })(),
      { objectMode: false },
    );
    await expect(load(source)).rejects.toThrow('aborted');
    expectNothing();
  });
});

test('two loads of one image at a time are one image', async () => {
  const loads = await Promise.all([load(image()), load(image()), load(image())]);
  expect(loads).toEqual(Array.from({ length: 3 }, () => ['Loaded image: loaded:1']));
  expect(list()).toHaveLength(1);
  expect(at.layerRows.all()).toHaveLength(1);
  expect(readdirSync(join(at.paths.images(), 'layers'))).toHaveLength(1);
  expect(readdirSync(join(at.paths.images(), 'tmp'))).toEqual([]);
});

test('prune and removal while an image is being loaded leave it whole', async () => {
  let stop = false;
  const pruning = (async () => {
    while (!stop) {
      await at.images.prune(new Map(), { dangling: false }).catch(() => undefined);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  for (let i = 0; i < 5; i++) {
    await load(image());
    await at.images.remove('loaded:1', { force: true, noprune: false }).catch(() => undefined);
  }
  stop = true;
  await pruning;
  await load(image());
  expect(at.layers.lower(at.images.resolve('loaded:1').chains).every(existsSync)).toBe(true);
});

describe('a layer', () => {
  test('upon more layers than Docker has upon each other is refused [layer-too-many]', async () => {
    await expect(
      at.unpack(
        LAYER,
        Array.from({ length: 125 }, (_, i) => `sha256:${i}`),
      ),
    ).rejects.toThrow('max depth exceeded');
    expectNothing();
  });

  test('of directories without end that no entry names is refused [layer-deep-directories]', async () => {
    const name = 'd'.repeat(240);
    const wide = Array.from({ length: 800 }, (_, i): Item => [`${i}/${`${name}/`.repeat(10)}f`, '']);
    await expect(at.unpack(archive(...wide))).rejects.toThrow('too many directories that no entry names');
    expectNothing();
  });

  test('deeper than a path can tell is taken away again', async () => {
    // In its jail it has room for that; below the layers' directory it is longer than a path may be.
    const deep = `${`${'d'.repeat(250)}/`.repeat(16)}${'e'.repeat(60)}/`;
    await at.unpack(archive([`${deep}f`, 'x']));
    await at.layers.takeAway(at.layers.retire(() => false));
    expectNothing();
  });

  test('that names no directory takes the attributes of those below, as far as they are there', async () => {
    const below = await at.unpack(
      archive(directory('a', { mode: 0o700 }), directory('a/b', { mode: 0o710 }), directory('a-b', { mode: 0o711 })),
    );
    const layer = await at.unpack(
      archive(...Array.from({ length: 300 }, (_, i): Item => [`a/b/new${i}/x/y`, '']), ['a-b/f', '']),
      [below.chainId],
    );
    expect(at.layers.directory(layer)).toBeTruthy();
  });
});

describe('a host without room', () => {
  let small: string;
  beforeEach(() => {
    small = mkdtempSync(join(tmpdir(), 'holdfast-small-'));
    mount('tmpfs', small, 'tmpfs', 0, 'size=4m');
  });
  afterEach(() => {
    unmount(small);
    rmSync(small, { recursive: true, force: true });
  });

  test.each<[string, () => Buffer]>([
    ['one file', () => archive(['big', 'x'.repeat(8_000_000)])],
    ['many files', () => archive(...Array.from({ length: 4000 }, (_, i): Item => [`f${i}`, 'x'.repeat(2000)]))],
    [
      'a file that is replaced again and again',
      () => archive(...Array.from({ length: 20 }, (_, i): Item => ['f', String(i % 10).repeat(500_000)])),
    ],
  ])('%s: says so, and nothing is left of the layer [unpack-no-space]', async (_name, make) => {
    using here = place(built, join(small, 'root'));
    const failure = await here.unpack(make()).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SystemFault);
    expect((failure as Error).message).toMatch(/^unpacking failed: .*ENOSPC/);
    expect(here.layerRows.all()).toEqual([]);
    expect(readdirSync(join(here.paths.images(), 'layers'))).toEqual([]);
  });

  test('for a blob: it is not asked for again, and what came is taken away', async () => {
    const downloads = new Downloads(join(small, 'downloads'), { concurrent: 1, attempts: 5 });
    const bytes = Buffer.alloc(8_000_000, 'x');
    let asked = 0;
    const wanted = {
      digest: digestOf(bytes),
      size: bytes.length,
      open: async () => {
        asked++;
        return { offset: 0, bytes: Readable.from([bytes.subarray(0, 5_000_000), bytes.subarray(5_000_000)]) };
      },
    };
    await expect(downloads.fetch(wanted, () => undefined, new AbortController().signal)).rejects.toThrow(
      /^failed to write blob sha256:[0-9a-f]{64}: ENOSPC/,
    );
    expect(asked).toBe(1);
    expect(readdirSync(join(small, 'downloads'))).toEqual([]);
  });
});

test.each(['..', '.', '../../etc', 'a/b', '%2e%2e', 'user@host', '', 'x:y'])(
  '%j is no registry: its name leads to no directory of certificates',
  async (host) => {
    mkdirSync(join(at.root, 'certs'));
    const endpoints = new Endpoints({ mirrors: [], insecure: [], certificates: join(at.root, 'certs') });
    await expect(endpoints.registry(host)).rejects.toThrow('invalid registry address');
    endpoints.close();
  },
);
