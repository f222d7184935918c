/**
 * Concurrent operations on images: removal and prune during a pull and a create, and clients that disconnect in the
 * middle. A real daemon and real unpacker processes are needed to stop the work at a chosen moment.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FaultyRegistry } from '../support/faulty-registry.ts';
import { archive, digestOf, file } from '../support/tar.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

const LOW = archive(['low', 'l']);
const HIGH = archive(['high', 'h']);
/** Large enough that its unpacking can be stopped in the middle. */
const LONG = archive(['zeros', '\0'.repeat(96 << 20)]);
const LONG_PACKED = gzipSync(LONG, { level: 1 });
const compress = (tar: Buffer): Buffer => (tar === LONG ? LONG_PACKED : gzipSync(tar));

let engine: TestEngine;
let registry: FaultyRegistry;
let before: Contents;

beforeAll(async () => {
  engine = await startEngine();
  // A container uses the busybox image, so prune keeps it.
  await engine.dockerOutput('run', '-d', '--network', 'none', 'busybox', 'sleep', '100000');
});
afterAll(() => engine[Symbol.asyncDispose]());
beforeEach(async () => {
  registry = await FaultyRegistry.start();
  before = await contents();
});
afterEach(async () => {
  for (const pid of unpackers()) process.kill(pid, 'SIGCONT');
  await registry[Symbol.asyncDispose]();
  await engine.dockerOutput('image', 'prune', '-af');
  expect(await contents()).toEqual(before);
});

interface Contents {
  images: string[];
  layers: string[];
  spooled: string[];
}

const inImages = (name: string): string[] =>
  existsSync(join(engine.root, 'data/images', name)) ? readdirSync(join(engine.root, 'data/images', name)).sort() : [];
const contents = async (): Promise<Contents> => ({
  images: ((await engine.api('GET', '/images/json?all=1')).json as { Id: string }[]).map(({ Id }) => Id).sort(),
  layers: inImages('layers'),
  spooled: inImages('tmp'),
});
const restored = (): Promise<void> => until(async () => JSON.stringify(await contents()) === JSON.stringify(before));

/** PIDs of the processes that unpack a layer for this engine. */
function unpackers(): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .map(Number)
    .filter((pid) => {
      try {
        const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
        return (
          commandLine.includes('unpacker.cjs') &&
          commandLine.includes(`${engine.root}/`) &&
          !readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ')
        );
      } catch {
        return false; // the process has exited
      }
    });
}

/** Stops the next unpacker with SIGSTOP and returns its PID. */
async function freezeUnpacker(): Promise<number> {
  await until(() => {
    for (const pid of unpackers()) process.kill(pid, 'SIGSTOP');
    return unpackers().length > 0;
  });
  return unpackers()[0]!;
}

interface Client {
  received(): string;
  disconnect(): void;
  /** Resolves with the whole response body. */
  end: Promise<string>;
}

function client(path: string, body?: Buffer): Client {
  let received = '';
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
        .on('data', (bytes: Buffer) => (received += bytes.toString()))
        .on('error', reject)
        .on('end', () => resolve(received));
    });
  });
  end.catch(() => undefined);
  sent.end(body);
  return { received: () => received, disconnect: () => sent.destroy(), end };
}

const pull = (name: string): Client => client(`/images/create?fromImage=${registry.host}/${name}&tag=1`);
const load = (archived: Buffer): Client => client('/images/load', archived);
const remove = async (
  name: string,
): Promise<{ status: number; lines: { Untagged?: string; Deleted?: string }[]; message: string }> => {
  const { status, json } = await engine.api('DELETE', `/images/${name}`);
  return { status, lines: json as [], message: (json as { message?: string }).message ?? '' };
};

/** Checks that a container made from the image contains each of these files. */
async function expectComplete(image: string, files: string[]): Promise<void> {
  const { Id } = (await engine.api('POST', '/containers/create', { Image: image, Cmd: ['x'] })).json as { Id: string };
  for (const file of files)
    expect((await engine.api('HEAD', `/containers/${Id}/archive?path=/${file}`)).status, file).toBe(200);
  await engine.api('DELETE', `/containers/${Id}`);
}

/** Delays the registry's answers to requests for that blob until `release`. */
function delayBlob(digest: string): { isRequested: () => boolean; release: () => void } {
  const waiting: (() => void)[] = [];
  let isOpen = false;
  registry.fault = (request, response, body) => {
    if (isOpen || !request.url!.endsWith(`/blobs/${digest}`)) return false;
    waiting.push(() => response.writeHead(200, { 'content-length': body!.length }).end(body));
    return true;
  };
  return {
    isRequested: () => waiting.length > 0,
    release: () => {
      isOpen = true;
      for (const answer of waiting.splice(0)) answer();
    },
  };
}

describe('removal and prune', () => {
  const prunes: [string, () => Promise<string>][] = [
    ['docker image prune -a', () => engine.dockerOutput('image', 'prune', '-af')],
    ['docker system prune -a', () => engine.dockerOutput('system', 'prune', '-af')],
  ];

  test.each(prunes)(
    'during a download: %s and removal keep layers that the image being pulled shares [prune-during-download]',
    async (_, prune) => {
      registry.image('base', '1', [LOW]);
      const {
        layers: [low, high],
      } = registry.image('app', '1', [LOW, HIGH]);
      await pull('base').end;
      const base = ((await engine.api('GET', `/images/${registry.host}/base:1/json`)).json as { Id: string }).Id;
      const delayed = delayBlob(high!);
      const pulling = pull('app');
      await until(delayed.isRequested);
      const gone = await remove(`${registry.host}/base:1`);
      expect(gone.status).toBe(200);
      expect(gone.lines.flatMap(({ Deleted }) => Deleted ?? [])).toEqual([base]);
      expect(await remove(`${registry.host}/app:1`)).toMatchObject({
        status: 404,
        message: `No such image: ${registry.host}/app:1`,
      });
      expect(await prune()).toContain('Total reclaimed space: 0B');
      delayed.release();
      expect(await pulling.end).toContain('Status: Downloaded newer image');
      await expectComplete(`${registry.host}/app:1`, ['low', 'high']);
      expect(registry.count('GET', low!)).toBe(1);
    },
  );

  test.each(prunes)(
    'during unpacking: %s keeps finished layers that no image owns yet [prune-during-unpack]',
    async (_, prune) => {
      registry.image('app', '1', [LOW, LONG], { compress });
      const pulling = pull('app');
      let unpacker = await freezeUnpacker();
      if (inImages('layers').length === before.layers.length + 1) {
        // This is the unpacker of the small layer; wait for the next one.
        process.kill(unpacker, 'SIGCONT');
        await until(() => !unpackers().includes(unpacker));
        unpacker = await freezeUnpacker();
      }
      const layers = inImages('layers');
      expect(await prune()).toContain('Total reclaimed space: 0B');
      expect(inImages('layers')).toEqual(layers);
      process.kill(unpacker, 'SIGCONT');
      expect(await pulling.end).toContain('Status: Downloaded newer image');
      await expectComplete(`${registry.host}/app:1`, ['low', 'zeros']);
    },
  );

  test('during container creation: a container gets its whole image, or the image is reported missing [remove-during-create]', async () => {
    const bytes = loadable('raced:1', [LOW, HIGH]);
    const codes = new Set<string>();
    for (let round = 0; round < 8; round++) {
      await load(bytes).end;
      const creating = [0, 1, 2].map(() =>
        engine.api('POST', '/containers/create', { Image: 'raced:1', Cmd: ['x'], HostConfig: { NetworkMode: 'none' } }),
      );
      const removing =
        round % 2 === 0 ? remove('raced:1') : engine.dockerOutput('image', 'prune', '-af').then(() => undefined);
      const [made, gone] = [await Promise.all(creating), await removing];
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
      // Removing the last container also removes the layers.
      await restored();
    }
    expect(codes).toContain('201');
  });
});

/** Builds an archive of one image for `docker load`. */
function loadable(name: string, tars: Buffer[]): Buffer {
  return archive(...images([name, tars]));
}

function images(...all: [name: string, tars: Buffer[]][]): ReturnType<typeof file>[] {
  const manifest = all.map(([name, tars], i) => ({
    Config: `${i}.json`,
    RepoTags: [name],
    Layers: tars.map(digestOf),
  }));
  const configs = all.map(([name, tars], i) =>
    file(
      `${i}.json`,
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        config: { Labels: { name } },
        rootfs: { type: 'layers', diff_ids: tars.map(digestOf) },
      }),
    ),
  );
  const layers = [...new Set(all.flatMap(([, tars]) => tars))].map((tar) => file(digestOf(tar), compress(tar)));
  return [...configs, ...layers, file('manifest.json', JSON.stringify(manifest))];
}

describe('a client that disconnects', () => {
  test('during the unpacking of a pull: the pull ends and leaves nothing; the next one reuses the downloaded blobs [pull-client-disconnects]', async () => {
    const { layers } = registry.image('app', '1', [LOW, LONG, HIGH], { compress });
    const pulling = pull('app');
    const unpacker = await freezeUnpacker();
    await until(() => registry.count('GET', '/blobs/') === 4);
    pulling.disconnect();
    await until(() => !unpackers().includes(unpacker));
    await restored();
    registry.seen.length = 0;
    expect(await pull('app').end).toContain('Status: Downloaded newer image');
    for (const digest of layers)
      expect(
        registry.seen.filter(
          ({ method, url, range }) => method === 'GET' && url.endsWith(digest) && range === undefined,
        ),
      ).toEqual([]);
    await expectComplete(`${registry.host}/app:1`, ['low', 'zeros', 'high']);
  });

  test('during a shared pull: the other client gets the image from the same download and unpacking [pull-shared-work]', async () => {
    const { layers } = registry.image('app', '1', [LONG], { compress });
    const [first, second] = [pull('app'), pull('app')];
    const unpacker = await freezeUnpacker();
    await until(() => [first, second].every(({ received }) => received().includes('Extracting')));
    first.disconnect();
    await expect(first.end).rejects.toThrow();
    process.kill(unpacker, 'SIGCONT');
    // No second unpacker may start: the image is complete when the first one ends.
    await until(() => {
      expect(unpackers().filter((pid) => pid !== unpacker)).toEqual([]);
      return second.received().includes('Pull complete');
    });
    expect(await second.end).toContain('Status: Downloaded newer image');
    expect(registry.count('GET', layers[0]!)).toBe(1);
    await expectComplete(`${registry.host}/app:1`, ['zeros']);
  });

  test('during the upload or unpacking of a load: the load leaves nothing, and the next one works [load-client-disconnects]', async () => {
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
    await restored();
    const loading = load(bytes);
    const unpacker = await freezeUnpacker();
    loading.disconnect();
    await until(() => !unpackers().includes(unpacker));
    await restored();
    expect(await load(bytes).end).toContain('Loaded image: loaded:1');
    await expectComplete('loaded:1', ['low', 'zeros']);
  });

  test('during concurrent loads: the other client gets the image [load-shared]', async () => {
    const bytes = loadable('loaded:1', [LONG]);
    const first = load(bytes);
    const unpacker = await freezeUnpacker();
    const second = load(bytes);
    await until(() => inImages('tmp').length === 2);
    first.disconnect();
    process.kill(unpacker, 'SIGCONT');
    expect(await second.end).toContain('Loaded image: loaded:1');
    await expectComplete('loaded:1', ['zeros']);
  });

  test('during a load of several images: those already reported as loaded are kept [load-keeps-reported]', async () => {
    const loading = load(archive(...images(['first:1', [LOW]], ['second:1', [LOW, LONG]])));
    await until(() => loading.received().includes('Loaded image: first:1'));
    const unpacker = await freezeUnpacker();
    loading.disconnect();
    await until(() => !unpackers().includes(unpacker));
    await until(async () => (await contents()).spooled.length === 0);
    await expectComplete('first:1', ['low']);
    expect((await engine.api('GET', '/images/second:1/json')).status).toBe(404);
    expect((await contents()).layers).toHaveLength(before.layers.length + 1);
  });
});
