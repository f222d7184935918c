/** Unpacking hostile and odd images, on hosts without room, and while other loads run. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { SystemFault } from '../../src/model/errors.ts';
import { Downloads } from '../../src/engine/images/downloads.ts';
import { mount, unmount } from '../../src/sys/mount.ts';
import { imageFixture, type ImageFixture, useImageFixture } from '../support/image-fixture.ts';
import { archive, digestOf, directory, type Item } from '../support/tar.ts';
import { config, expectNothing, image, list, load } from '../support/image-archives.ts';
import type { Bundles } from '../support/bundles.ts';

let built: Bundles;
let at: ImageFixture;
useImageFixture((...own) => ([at, built] = own));

describe('an odd image configuration is read as Docker reads it', () => {
  test.each<[string, object, object]>([
    [
      'a string in place of a list',
      { Cmd: 'sh -c x', Entrypoint: '/run', Shell: 'ash' },
      { Cmd: ['sh -c x'], Entrypoint: ['/run'], Shell: ['ash'] },
    ],
    [
      'null among strings',
      { Env: ['A=1', null], Cmd: ['sh', null], Labels: { a: null }, Volumes: { '/v': null } },
      { Env: ['A=1', ''], Cmd: ['sh', ''], Labels: { a: '' }, Volumes: { '/v': {} } },
    ],
    [
      'keys in another case: the last one wins',
      { env: ['A=1'], WORKINGDIR: '/w', cmd: ['one'], Cmd: ['two'] },
      { Env: ['A=1'], WorkingDir: '/w', Cmd: ['two'] },
    ],
    [
      'unknown keys, and a key that is special in JavaScript',
      { Memory: 7, __proto__x: 1, Labels: JSON.parse('{"__proto__":"l"}') as object },
      { Labels: JSON.parse('{"__proto__":"l"}') as object },
    ],
  ])('%s [config-odd-values]', async (_name, written, read) => {
    const made = image(config({ config: written }));
    await load(at, made);
    const { id, config: found } = at.images.resolve('loaded:1');
    expect(found.config).toEqual(read);
    // The id is the digest of the configuration's original bytes.
    expect(id).toBe(digestOf(Buffer.from(JSON.stringify(config({ config: written })))));
    expect(at.images.configOf(id)!.toString()).toBe(JSON.stringify(config({ config: written })));
  });

  test('null in place of a list, a name or a system [config-nulls]', async () => {
    await load(
      at,
      image(config({ architecture: null, os: null, history: [null, { created: null, created_by: 'x' }] })),
    );
    expect(at.images.resolve('loaded:1').config).toMatchObject({ architecture: '', os: 'linux' });
    expect(at.images.history('loaded:1').map(({ CreatedBy }) => CreatedBy)).toEqual(['x', '']);
  });
});

test('null in place of an optional value counts as absent', async () => {
  expect(
    await load(
      at,
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
  expect(list(at)).toHaveLength(1);
  expect(at.images.history('loaded:1')).toEqual([]);
});

test('concurrent loads of one image give one image', async () => {
  const loads = await Promise.all([load(at, image()), load(at, image()), load(at, image())]);
  expect(loads).toEqual(Array.from({ length: 3 }, () => ['Loaded image: loaded:1']));
  expect(list(at)).toHaveLength(1);
  expect(at.layerRows.all()).toHaveLength(1);
  expect(readdirSync(join(at.paths.images(), 'layers'))).toHaveLength(1);
  expect(readdirSync(join(at.paths.images(), 'tmp'))).toEqual([]);
});

test('prune and removal during a load leave the image whole', async () => {
  let stop = false;
  const pruning = (async () => {
    while (!stop) {
      await at.images.prune(new Map(), { dangling: false }).catch(() => undefined);
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  for (let i = 0; i < 5; i++) {
    await load(at, image());
    await at.images.remove('loaded:1', { force: true, noprune: false }).catch(() => undefined);
  }
  stop = true;
  await pruning;
  await load(at, image());
  expect(at.layers.lower(at.images.resolve('loaded:1').chains).every(existsSync)).toBe(true);
});

describe('a layer', () => {
  test('is rejected when it has endless directories that no entry names [layer-deep-directories]', async () => {
    const name = 'd'.repeat(240);
    const wide = Array.from({ length: 800 }, (_, i): Item => [`${i}/${`${name}/`.repeat(10)}f`, '']);
    await expect(at.unpack(archive(...wide))).rejects.toThrow('too many directories without an entry');
    expectNothing(at);
  });

  test('with a path too long for the host can be removed', async () => {
    // In the jail there is room for the path; with the layers' directory in front it exceeds PATH_MAX.
    const deep = `${`${'d'.repeat(250)}/`.repeat(16)}${'e'.repeat(60)}/`;
    await at.unpack(archive([`${deep}f`, 'x']));
    await at.layers.deleteRetired(at.layers.retire(() => false));
    expectNothing(at);
  });

  test('gives parent directories the attributes of the layers below, where they exist', async () => {
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

describe('a full disk', () => {
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
    ['a single large file', () => archive(['big', 'x'.repeat(8_000_000)])],
    ['many files', () => archive(...Array.from({ length: 4000 }, (_, i): Item => [`f${i}`, 'x'.repeat(2000)]))],
    [
      'a file that is replaced repeatedly',
      () => archive(...Array.from({ length: 20 }, (_, i): Item => ['f', String(i % 10).repeat(500_000)])),
    ],
  ])('%s: unpacking fails with ENOSPC and leaves nothing of the layer [unpack-no-space]', async (_name, make) => {
    using here = imageFixture(built, join(small, 'root'));
    const failure = await here.unpack(make()).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SystemFault);
    expect((failure as Error).message).toMatch(/^unpacking failed: .*ENOSPC/);
    expect(here.layerRows.all()).toEqual([]);
    expect(readdirSync(join(here.paths.images(), 'layers'))).toEqual([]);
  });

  test('a blob is not requested again, and its partial download is removed', async () => {
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
