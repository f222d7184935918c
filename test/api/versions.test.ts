/** The API version of a request decides what the request means. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NotFound } from '../../src/model/errors.ts';
import { serve, type Api } from '../support/api.ts';

const ID = 'a'.repeat(64);
let api: Api;
let created: Record<string, unknown> | undefined;
let updated: Record<string, unknown> | undefined;
let exec: Record<string, unknown> | undefined;
let pruned: Map<string, string[]> | undefined;

const NETWORK = {
  id: ID,
  name: 'net',
  created: '1',
  driver: 'bridge',
  bridge: 'x',
  enableIPv4: true,
  enableIPv6: false,
  internal: false,
  attachable: false,
  ingress: false,
  ipam: { driver: 'default', options: null, config: [] },
  options: {},
  labels: {},
};

beforeAll(async () => {
  api = await serve({
    containers: {
      all: () => [],
      linkNames: () => new Map(),
      create: (_name: unknown, request: Record<string, unknown>, platform?: string) => (
        (created = { ...request, platform }),
        Promise.resolve({ id: ID, warnings: ['engine'] })
      ),
      update: (_id: string, changes: Record<string, unknown>) => ((updated = changes), Promise.resolve([])),
      createExec: (_id: string, config: Record<string, unknown>) => ((exec = config), Promise.resolve(ID)),
      resolve: (reference: string) => Promise.reject(new NotFound(`No such container: ${reference}`)),
    },
    images: { list: () => [], sharedSizes: () => new Map(), layersSize: () => 7 },
    volumes: {
      prune: (filters: Map<string, string[]>) => ((pruned = filters), Promise.resolve({ deleted: [], reclaimed: 0 })),
      usage: () => Promise.resolve([]),
    },
    networks: { resolve: () => NETWORK, members: () => [] },
  });
});
afterAll(() => api.close());

async function hostConfig(version: string, HostConfig: Record<string, unknown>): Promise<Record<string, unknown>> {
  await api.http.post(`/v${version}/containers/create`).send({ Image: 'x', HostConfig }).expect(201);
  return created!.HostConfig as Record<string, unknown>;
}

test('create: a field applies from the version that introduced it to the one that removed it', async () => {
  expect((await hostConfig('1.24', { AutoRemove: true })).AutoRemove).toBe(false);
  expect((await hostConfig('1.25', { AutoRemove: true })).AutoRemove).toBe(true);
  expect((await hostConfig('1.41', { ConsoleSize: [5, 6] })).ConsoleSize).toEqual([0, 0]);
  expect((await hostConfig('1.42', { ConsoleSize: [5, 6] })).ConsoleSize).toEqual([5, 6]);
  expect((await hostConfig('1.41', { KernelMemory: 9 })).KernelMemory).toBe(9);
  expect(await hostConfig('1.42', { Annotations: { a: 'b' } })).not.toHaveProperty('Annotations');
  expect((await hostConfig('1.43', { Annotations: { a: 'b' } })).Annotations).toEqual({ a: 'b' });
  expect((await hostConfig('1.39', {})).IpcMode).toBe('shareable');
  expect((await hostConfig('1.40', {})).CgroupnsMode).toBe('host');
  const subpath = { Mounts: [{ Type: 'volume', Target: '/x', VolumeOptions: { Subpath: 'a' } }] };
  await api.http
    .post('/v1.44/containers/create')
    .send({ Image: 'x', HostConfig: subpath })
    .expect(400, { message: 'VolumeOptions.Subpath needs API v1.45 or newer' });
  expect((await hostConfig('1.45', subpath)).Mounts).toMatchObject([{ VolumeOptions: { Subpath: 'a' } }]);
  await api.http
    .post('/v1.43/containers/create')
    .send({ Image: 'x', Healthcheck: { Test: ['NONE'], StartInterval: 5_000_000 } });
  expect(created).toMatchObject({ Healthcheck: { StartInterval: 0 } });
});

test('create: options of other types of mounts are ignored before 1.42, and recursion is not refused silently', async () => {
  const bind = { Type: 'bind', Source: '/', Target: '/x', ReadOnly: true };
  const mixed = { Mounts: [{ ...bind, VolumeOptions: { NoCopy: true }, TmpfsOptions: { Mode: 1 } }] };
  expect((await hostConfig('1.41', mixed)).Mounts).toEqual([bind]);
  expect((await hostConfig('1.42', mixed)).Mounts).toMatchObject(mixed.Mounts);
  const recursive = { Mounts: [{ ...bind, BindOptions: { ReadOnlyForceRecursive: true } }] };
  await api.http
    .post('/v1.43/containers/create')
    .send({ Image: 'x', HostConfig: recursive })
    .expect(400, { message: 'BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer' });
  expect((await hostConfig('1.44', recursive)).Mounts).toEqual(recursive.Mounts);
});

test('update: PidsLimit applies since 1.40', async () => {
  for (const [version, changes] of [
    ['1.39', { Memory: 7 }],
    ['1.40', { Memory: 7, PidsLimit: 5 }],
  ] as const) {
    await api.http.post(`/v${version}/containers/c/update`).send({ Memory: 7, PidsLimit: 5 }).expect(200);
    expect(updated).toEqual(changes);
  }
});

test('create: platform applies since 1.41', async () => {
  await api.http.post('/v1.40/containers/create?platform=linux/arm64').send({ Image: 'x' });
  expect(created!.platform).toBeUndefined();
  await api.http.post('/v1.41/containers/create?platform=linux/arm64').send({ Image: 'x' });
  expect(created!.platform).toBe('linux/arm64');
});

test('create: one endpoint before 1.44; since then the MAC address belongs to an endpoint', async () => {
  const two = { Image: 'x', NetworkingConfig: { EndpointsConfig: { b: {}, a: {} } } };
  await api.http
    .post('/v1.43/containers/create')
    .send(two)
    .expect(400, { message: 'Container cannot be created with multiple network endpoints: a, b' });
  await api.http.post('/v1.44/containers/create').send(two).expect(201);

  const mac = (own?: string) => ({
    Image: 'x',
    MacAddress: '02:00:00:00:00:01',
    HostConfig: { NetworkMode: 'net' },
    ...(own ? { NetworkingConfig: { EndpointsConfig: { net: { MacAddress: own } } } } : {}),
  });
  const now = await api.http.post('/v1.44/containers/create').send(mac());
  expect(now.body.Warnings).toEqual([
    'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.',
    'engine',
  ]);
  expect(created).toMatchObject({
    NetworkingConfig: { EndpointsConfig: { net: { MacAddress: '02:00:00:00:00:01' } } },
  });
  await api.http.post('/v1.44/containers/create').send(mac('02:00:00:00:00:02')).expect(400);
  const before = await api.http.post('/v1.43/containers/create').send(mac('02:00:00:00:00:02'));
  expect(before.body.Warnings).toEqual(['engine']);
  expect(created).toMatchObject({
    NetworkingConfig: { EndpointsConfig: { net: { MacAddress: '02:00:00:00:00:01' } } },
  });
});

test('exec: ConsoleSize applies since 1.42', async () => {
  for (const [version, size] of [
    ['1.41', [0, 0]],
    ['1.42', [5, 6]],
  ] as const) {
    await api.http
      .post(`/v${version}/containers/c/exec`)
      .send({ Cmd: ['x'], ConsoleSize: [5, 6] })
      .expect(201);
    expect(exec!.ConsoleSize).toEqual(size);
  }
});

test('volumes: a prune before 1.42 includes named ones', async () => {
  await api.http.post('/v1.41/volumes/prune').expect(200, { VolumesDeleted: [], SpaceReclaimed: 0 });
  expect(pruned!.get('all')).toEqual(['true']);
  await api.http.post('/v1.42/volumes/prune');
  expect(pruned!.has('all')).toBe(false);
});

test('df: returns only the requested types since 1.42', async () => {
  await api.http
    .get('/system/df?type=volume')
    .expect(200, { LayersSize: 0, Images: null, Containers: null, Volumes: [], BuildCache: null });
  await api.http
    .get('/v1.41/system/df?type=volume')
    .expect(200, { LayersSize: 7, Images: [], Containers: [], Volumes: [], BuildCache: [] });
  await api.http.get('/system/df?type=x').expect(400, { message: 'unknown object type: x' });
});

test('networks: verbose is parsed strictly; a scope filter other than local matches nothing', async () => {
  await api.http.get('/networks/net?verbose=maybe').expect(400);
  await api.http.get('/networks/net?scope=local').expect(200);
  await api.http.get('/networks/net?scope=swarm').expect(404, { message: 'network net not found' });
});

test('names of images and containers may have slashes, and form bodies are not JSON', async () => {
  for (const name of ['a%2Fb', 'a/b', '%2Fa/b'])
    await api.http
      .get(`/containers/${name}/json`)
      .expect(404, { message: `No such container: ${decodeURIComponent(name)}` });
  await api.http.get('/containers/a%2Fb/nonsense').expect(404, { message: 'page not found' });
  await api.http.post('/containers/c/exec').type('form').send('Cmd=x').expect(400, {
    message: "unsupported Content-Type header (application/x-www-form-urlencoded): must be 'application/json'",
  });
});
