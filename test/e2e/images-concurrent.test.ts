/**
 * What happens to an image while it comes, goes or is used: removal and prune beside a pull and a create, clients that
 * leave in the middle.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FaultyRegistry } from '../support/faulty-registry.ts';
import { archive, digestOf, part } from '../support/images.ts';
import { startEngine, type TestEngine } from './engine.ts';
import { until } from './until.ts';

const LOW = archive(['low', 'l']);
const HIGH = archive(['high', 'h']);
/** Takes long enough to be caught at it. */
const LONG = archive(['zeros', '\0'.repeat(96 << 20)]);
const LONG_PACKED = gzipSync(LONG, { level: 1 });
const compress = (tar: Buffer): Buffer => (tar === LONG ? LONG_PACKED : gzipSync(tar));

let engine: TestEngine;
let registry: FaultyRegistry;
let before: Held;

beforeAll(async () => {
  engine = await startEngine();
  // Its image is in use, so prune leaves it.
  await engine.dockerOutput('run', '-d', '--network', 'none', 'busybox', 'sleep', '100000');
});
afterAll(() => engine[Symbol.asyncDispose]());
beforeEach(async () => {
  registry = await FaultyRegistry.start();
  before = await held();
});
afterEach(async () => {
  for (const pid of unpackers()) process.kill(pid, 'SIGCONT');
  await registry[Symbol.asyncDispose]();
  await engine.dockerOutput('image', 'prune', '-af');
  expect(await held()).toEqual(before);
});

interface Held {
  images: string[];
  layers: string[];
  spooled: string[];
}

const inImages = (name: string): string[] =>
  existsSync(join(engine.root, 'data/images', name)) ? readdirSync(join(engine.root, 'data/images', name)).sort() : [];
const held = async (): Promise<Held> => ({
  images: ((await engine.api('GET', '/images/json?all=1')).json as { Id: string }[]).map(({ Id }) => Id).sort(),
  layers: inImages('layers'),
  spooled: inImages('tmp'),
});
const nothingNew = (): Promise<void> => until(async () => JSON.stringify(await held()) === JSON.stringify(before));

/** Processes that unpack a layer of this engine. */
function unpackers(): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .map(Number)
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
        return (
          words.includes('unpacker.cjs') &&
          words.includes(`${engine.root}/`) &&
          !readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ')
        );
      } catch {
        return false; // ended meanwhile
      }
    });
}

/** Stops the unpacker that comes next, and says which it is. */
async function freeze(): Promise<number> {
  await until(() => {
    for (const pid of unpackers()) process.kill(pid, 'SIGSTOP');
    return unpackers().length > 0;
  });
  return unpackers()[0]!;
}

interface Client {
  told(): string;
  leave(): void;
  /** All that it was told. */
  end: Promise<string>;
}

function client(path: string, body?: Buffer): Client {
  let told = '';
  const sent = httpRequest({
    socketPath: engine.socket,
    method: 'POST',
    path,
    headers: { 'Content-Type': 'application/x-tar' },
    agent: false,
  });
  const end = new Promise<string>((resolve, reject) => {
    sent.on('error', reject).on('response', (answer) => {
      answer
        .on('data', (bytes: Buffer) => (told += bytes.toString()))
        .on('error', reject)
        .on('end', () => resolve(told));
    });
  });
  end.catch(() => undefined);
  sent.end(body);
  return { told: () => told, leave: () => sent.destroy(), end };
}

const pull = (name: string): Client => client(`/images/create?fromImage=${registry.host}/${name}&tag=1`);
const load = (archived: Buffer): Client => client('/images/load', archived);
const remove = async (
  name: string,
): Promise<{ status: number; lines: { Untagged?: string; Deleted?: string }[]; message: string }> => {
  const { status, json } = await engine.api('DELETE', `/images/${name}`);
  return { status, lines: json as [], message: (json as { message?: string }).message ?? '' };
};

/** Each of these files is in a container that is made from the image. */
async function proveWhole(image: string, files: string[]): Promise<void> {
  const { Id } = (await engine.api('POST', '/containers/create', { Image: image, Cmd: ['x'] })).json as { Id: string };
  for (const file of files)
    expect((await engine.api('HEAD', `/containers/${Id}/archive?path=/${file}`)).status, file).toBe(200);
  await engine.api('DELETE', `/containers/${Id}`);
}

/** Holds the answer to whoever asks for that blob. */
function hold(digest: string): { isAsked: () => boolean; go: () => void } {
  const waiting: (() => void)[] = [];
  let isOpen = false;
  registry.fault = (request, response, body) => {
    if (isOpen || !request.url!.endsWith(`/blobs/${digest}`)) return false;
    waiting.push(() => response.writeHead(200, { 'content-length': body!.length }).end(body));
    return true;
  };
  return {
    isAsked: () => waiting.length > 0,
    go: () => {
      isOpen = true;
      for (const each of waiting.splice(0)) each();
    },
  };
}

describe('removal and prune', () => {
  const prunes: [string, () => Promise<string>][] = [
    ['docker image prune -a', () => engine.dockerOutput('image', 'prune', '-af')],
    ['docker system prune -a', () => engine.dockerOutput('system', 'prune', '-af')],
  ];

  test.each(prunes)(
    'while blobs of an image come: what it shares with one that is removed stays (%s)',
    async (_, prune) => {
      registry.image('base', '1', [LOW]);
      const {
        layers: [low, high],
      } = registry.image('app', '1', [LOW, HIGH]);
      await pull('base').end;
      const base = ((await engine.api('GET', `/images/${registry.host}/base:1/json`)).json as { Id: string }).Id;
      const coming = hold(high!);
      const pulling = pull('app');
      await until(coming.isAsked);
      const gone = await remove(`${registry.host}/base:1`);
      expect(gone.status).toBe(200);
      expect(gone.lines.flatMap(({ Deleted }) => Deleted ?? [])).toEqual([base]);
      expect(await remove(`${registry.host}/app:1`)).toMatchObject({
        status: 404,
        message: `No such image: ${registry.host}/app:1`,
      });
      expect(await prune()).toContain('Total reclaimed space: 0B');
      coming.go();
      expect(await pulling.end).toContain('Status: Downloaded newer image');
      await proveWhole(`${registry.host}/app:1`, ['low', 'high']);
      expect(registry.count('GET', low!)).toBe(1);
    },
  );

  test.each(prunes)(
    'while an image is unpacked: the layers that are ready stay, though no image has them yet (%s)',
    async (_, prune) => {
      registry.image('app', '1', [LOW, LONG], { compress });
      const pulling = pull('app');
      let unpacker = await freeze();
      if (inImages('layers').length === before.layers.length + 1) {
        // That of the small layer: the next is meant.
        process.kill(unpacker, 'SIGCONT');
        await until(() => !unpackers().includes(unpacker));
        unpacker = await freeze();
      }
      const layers = inImages('layers');
      expect(await prune()).toContain('Total reclaimed space: 0B');
      expect(inImages('layers')).toEqual(layers);
      process.kill(unpacker, 'SIGCONT');
      expect(await pulling.end).toContain('Status: Downloaded newer image');
      await proveWhole(`${registry.host}/app:1`, ['low', 'zeros']);
    },
  );

  test('while containers are made from it: a container has all of its image, or there is no such image', async () => {
    const bytes = loadable('raced:1', [LOW, HIGH]);
    const codes = new Set<string>();
    for (let round = 0; round < 8; round++) {
      await load(bytes).end;
      const asked = [0, 1, 2].map(() =>
        engine.api('POST', '/containers/create', { Image: 'raced:1', Cmd: ['x'], HostConfig: { NetworkMode: 'none' } }),
      );
      const going =
        round % 2 === 0 ? remove('raced:1') : engine.dockerOutput('image', 'prune', '-af').then(() => undefined);
      const [made, gone] = [await Promise.all(asked), await going];
      if (gone) expect([200, 409], gone.message).toContain(gone.status);
      if (gone?.status === 409)
        expect(gone.message).toMatch(
          /^conflict: unable to remove repository reference "raced:1" \(must force\) - container [0-9a-f]{12} is using its referenced image [0-9a-f]{12}$/,
        );
      for (const { status, json } of made) {
        codes.add(String(status));
        if (status === 404) expect(json).toEqual({ message: 'No such image: raced:1' });
        if (status !== 201) continue;
        const { Id } = json as { Id: string };
        for (const file of ['low', 'high'])
          expect((await engine.api('HEAD', `/containers/${Id}/archive?path=/${file}`)).status).toBe(200);
        expect((await engine.api('DELETE', `/containers/${Id}`)).status).toBe(204);
      }
      await engine.api('DELETE', '/images/raced:1?force=1');
      // With the last container the layers go, too.
      await nothingNew();
    }
    expect(codes).toContain('201');
  });
});

/** An archive of one image that `docker load` takes. */
function loadable(name: string, tars: Buffer[]): Buffer {
  return archive(...images([name, tars]));
}

function images(...all: [name: string, tars: Buffer[]][]): ReturnType<typeof part>[] {
  const manifest = all.map(([name, tars], i) => ({
    Config: `${i}.json`,
    RepoTags: [name],
    Layers: tars.map(digestOf),
  }));
  const configs = all.map(([name, tars], i) =>
    part(
      `${i}.json`,
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        config: { Labels: { name } },
        rootfs: { type: 'layers', diff_ids: tars.map(digestOf) },
      }),
    ),
  );
  const layers = [...new Set(all.flatMap(([, tars]) => tars))].map((tar) => part(digestOf(tar), compress(tar)));
  return [...configs, ...layers, part('manifest.json', JSON.stringify(manifest))];
}

describe('a client that leaves', () => {
  test('a pull while a layer is unpacked: it ends, and nothing of it is left; the next has its blobs', async () => {
    const { layers } = registry.image('app', '1', [LOW, LONG, HIGH], { compress });
    const pulling = pull('app');
    const unpacker = await freeze();
    await until(() => registry.count('GET', '/blobs/') === 4);
    pulling.leave();
    await until(() => !unpackers().includes(unpacker));
    await nothingNew();
    registry.seen.length = 0;
    expect(await pull('app').end).toContain('Status: Downloaded newer image');
    for (const digest of layers)
      expect(
        registry.seen.filter(
          ({ method, url, range }) => method === 'GET' && url.endsWith(digest) && range === undefined,
        ),
      ).toEqual([]);
    await proveWhole(`${registry.host}/app:1`, ['low', 'zeros', 'high']);
  });

  test('one of two pulls: the other has the image, by the same work', async () => {
    const { layers } = registry.image('app', '1', [LONG], { compress });
    const [first, second] = [pull('app'), pull('app')];
    const unpacker = await freeze();
    await until(() => [first, second].every(({ told }) => told().includes('Extracting')));
    first.leave();
    await expect(first.end).rejects.toThrow();
    process.kill(unpacker, 'SIGCONT');
    // No other was begun: with this one's end the image is there.
    await until(() => {
      expect(unpackers().filter((pid) => pid !== unpacker)).toEqual([]);
      return second.told().includes('Pull complete');
    });
    expect(await second.end).toContain('Status: Downloaded newer image');
    expect(registry.count('GET', layers[0]!)).toBe(1);
    await proveWhole(`${registry.host}/app:1`, ['zeros']);
  });

  test('a load while it is sent, and while a layer is unpacked: nothing of it is left, the next works', async () => {
    const bytes = loadable('loaded:1', [LOW, LONG]);
    const sending = httpRequest({
      socketPath: engine.socket,
      method: 'POST',
      path: '/images/load',
      headers: { 'Content-Type': 'application/x-tar', 'Content-Length': bytes.length },
      agent: false,
    });
    sending.on('error', () => undefined);
    sending.write(bytes.subarray(0, bytes.length / 2));
    await until(() => inImages('tmp').length === 1);
    sending.destroy();
    await nothingNew();
    const loading = load(bytes);
    const unpacker = await freeze();
    loading.leave();
    await until(() => !unpackers().includes(unpacker));
    await nothingNew();
    expect(await load(bytes).end).toContain('Loaded image: loaded:1');
    await proveWhole('loaded:1', ['low', 'zeros']);
  });

  test('one of two loads: the other has the image', async () => {
    const bytes = loadable('loaded:1', [LONG]);
    const first = load(bytes);
    const unpacker = await freeze();
    const second = load(bytes);
    await until(() => inImages('tmp').length === 2);
    first.leave();
    process.kill(unpacker, 'SIGCONT');
    expect(await second.end).toContain('Loaded image: loaded:1');
    await proveWhole('loaded:1', ['zeros']);
  });

  test('a load of several images: those that were told of stay', async () => {
    const loading = load(archive(...images(['first:1', [LOW]], ['second:1', [LOW, LONG]])));
    await until(() => loading.told().includes('Loaded image: first:1'));
    const unpacker = await freeze();
    loading.leave();
    await until(() => !unpackers().includes(unpacker));
    await until(async () => (await held()).spooled.length === 0);
    await proveWhole('first:1', ['low']);
    expect((await engine.api('GET', '/images/second:1/json')).status).toBe(404);
    expect((await held()).layers).toHaveLength(before.layers.length + 1);
  });
});
