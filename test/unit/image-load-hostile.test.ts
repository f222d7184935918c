/**
 * Archives of images and layers that mean harm, hosts without room, and several at once: what is wrong is refused, and
 * nothing is left of it.
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
  ])('%s', async (where, changes) => {
    await expect(load(at, image(config(changes)))).rejects.toThrow(
      new RegExp(`^invalid image JSON: cannot unmarshal \\w+ into ${where} of type `),
    );
    expectNothing(at);
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
    await expect(load(at, image(value))).rejects.toThrow(InvalidParameter);
    expectNothing(at);
  });
});

describe('an archive of images whose documents are of the wrong kind', () => {
  const layout = (index: unknown, ...rest: Item[]): Buffer =>
    archive(file('index.json', JSON.stringify(index)), ...rest);
  const blob = (body: string): Item => file(`blobs/${digestOf(Buffer.from(body)).replace(':', '/')}`, body);
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
          file('c.json', Buffer.alloc(20_000_000, ' ')),
          file('manifest.json', JSON.stringify([{ Config: 'c.json', Layers: [] }])),
        ),
    ],
    ['a manifest of 20 MB', () => archive(file('manifest.json', Buffer.alloc(20_000_000, '[')))],
    ['deep JSON', () => archive(file('manifest.json', Buffer.alloc(5_000_000, '[')))],
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
    await expect(load(at, make())).rejects.toThrow(InvalidParameter);
    expectNothing(at);
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
    await expect(load(at, source)).rejects.toThrow('aborted');
    expectNothing(at);
  });
});

test('a layer upon more layers than Docker has upon each other is refused', async () => {
  await expect(
    at.unpack(
      LAYER,
      Array.from({ length: 125 }, (_, i) => `sha256:${i}`),
    ),
  ).rejects.toThrow('max depth exceeded');
  expectNothing(at);
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
