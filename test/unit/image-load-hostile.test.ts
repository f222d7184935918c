/**
 * Hostile archives of images: what is malformed is rejected before anything is unpacked, and leaves nothing behind.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { InvalidParameter } from '../../src/model/errors.ts';
import { Endpoints } from '../../src/engine/images/registry/endpoints.ts';
import { newEntry } from '../../src/engine/images/tar-writer.ts';
import { imageFixture, type ImageFixture } from '../support/image-fixture.ts';
import { archive, digestOf, file, type Item, symlink } from '../support/tar.ts';
import { config, expectNothing, image, LAYER, load } from '../support/image-archives.ts';

let at: ImageFixture;
// Everything here is rejected before a layer is unpacked: neither program exists.
beforeEach(() => void (at = imageFixture({ unpacker: '/nonexistent', packer: '/nonexistent' })));
afterEach(() => at[Symbol.dispose]());

describe('loading an image whose configuration has a value of the wrong type', () => {
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
  ])('rejects %s [config-wrong-types]', async (where, changes) => {
    await expect(load(at, image(config(changes)))).rejects.toThrow(
      new RegExp(`^invalid image JSON: cannot unmarshal \\w+ into ${where} of type `),
    );
    expectNothing(at);
  });

  test.each<[string, unknown]>([
    ['null', null],
    ['a list', []],
    ['a number', 7],
    ['an object without rootfs', {}],
    ['a rootfs that is not an object', { rootfs: 7 }],
    ['diff IDs that are not digests', config({ rootfs: { type: 'layers', diff_ids: ['../../x'] } })],
    ['diff IDs that are not a list', config({ rootfs: { diff_ids: 'x' } })],
  ])('rejects a configuration that is %s', async (_name, value) => {
    await expect(load(at, image(value))).rejects.toThrow(InvalidParameter);
    expectNothing(at);
  });
});

describe('loading an archive whose documents are malformed', () => {
  const layout = (index: unknown, ...rest: Item[]): Buffer =>
    archive(file('index.json', JSON.stringify(index)), ...rest);
  const blob = (body: string): Item => file(`blobs/${digestOf(Buffer.from(body)).replace(':', '/')}`, body);
  const leading = (body: string): unknown => ({
    manifests: [{ digest: digestOf(Buffer.from(body)), size: body.length }],
  });

  test.each<[string, () => Buffer]>([
    ['a manifest that is not a list', () => image(config(), { Config: 'c.json' })],
    ['a manifest of null', () => image(config(), [null])],
    ['a configuration that is not a name', () => image(config(), [{ Config: 5, Layers: ['l.tar'] }])],
    ['layers that are not a list', () => image(config(), [{ Config: 'c.json', Layers: 'l.tar' }])],
    ['layers that are not names', () => image(config(), [{ Config: 'c.json', Layers: [{}] }])],
    ['a parent that is not a name', () => image(config(), [{ Config: 'c.json', Layers: ['l.tar'], Parent: 7 }])],
    [
      'names that point outside the archive',
      () => image(config(), [{ Config: '../../../../etc/passwd', Layers: ['l.tar'] }]),
    ],
    ['a layer outside the archive', () => image(config(), [{ Config: 'c.json', Layers: ['/etc/passwd'] }])],
    [
      'a configuration of 20 MB',
      () =>
        archive(
          file('c.json', Buffer.alloc(20_000_000, ' ')),
          file('manifest.json', JSON.stringify([{ Config: 'c.json', Layers: [] }])),
        ),
    ],
    ['a manifest of 20 MB', () => archive(file('manifest.json', Buffer.alloc(20_000_000, '[')))],
    ['deeply nested JSON', () => archive(file('manifest.json', Buffer.alloc(5_000_000, '[')))],
    ['an index of null', () => layout(null)],
    ['descriptors of null', () => layout({ manifests: [null] })],
    [
      'a digest that points outside the archive',
      () => layout({ manifests: [{ digest: 'sha256:../../../etc/passwd', size: 1 }] }),
    ],
    ['an image manifest of null', () => layout(leading('null'), blob('null'))],
    ['an image manifest without layers', () => layout(leading('{"config":{}}'), blob('{"config":{}}'))],
    ['an image manifest without a configuration', () => layout(leading('{"layers":[]}'), blob('{"layers":[]}'))],
    ['device nodes', () => archive({ entry: newEntry('block', 'manifest.json', { major: 8, minor: 0 }) })],
    [
      'links in a cycle',
      () => archive({ entry: newEntry('symlink', 'manifest.json', { link: Buffer.from('manifest.json') }) }),
    ],
    ['20,001 entries', () => archive(...Array.from({ length: 20_001 }, (_, i) => symlink(`l${i}`, 'x')))],
  ])('rejects %s', async (_name, make) => {
    await expect(load(at, make())).rejects.toThrow(InvalidParameter);
    expectNothing(at);
  });

  test('leaves nothing behind when the client disconnects half-way', async () => {
    const bytes = image();
    const source = Readable.from(
      (async function* () {
        yield bytes.subarray(0, 2000);
        throw new Error('aborted');
      })(),
      { objectMode: false },
    );
    await expect(load(at, source)).rejects.toThrow('aborted');
    expectNothing(at);
  });
});

test('a layer above the maximum depth is rejected [layer-too-many]', async () => {
  await expect(
    at.unpack(
      LAYER,
      Array.from({ length: 125 }, (_, i) => `sha256:${i}`),
    ),
  ).rejects.toThrow('max depth exceeded');
  expectNothing(at);
});

test.each(['..', '.', '../../etc', 'a/b', '%2e%2e', 'user@host', '', 'x:y'])(
  '%j is rejected as a registry: its name selects no certificate directory',
  async (host) => {
    mkdirSync(join(at.root, 'certs'));
    const endpoints = new Endpoints({ mirrors: [], insecure: [], certificates: join(at.root, 'certs') });
    await expect(endpoints.registry(host)).rejects.toThrow('invalid registry address');
    endpoints.close();
  },
);
