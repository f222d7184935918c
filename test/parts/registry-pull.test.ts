/**
 * Pulls from a registry that cuts connections, delays and sends wrong data: wrong data never becomes an image, and
 * received data is never requested twice.
 */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Downloads } from '../../src/engine/images/downloads.ts';
import type { Progress } from '../../src/engine/images/progress.ts';
import { Puller } from '../../src/engine/images/pull.ts';
import { parseReference } from '../../src/engine/images/reference.ts';
import { ANONYMOUS } from '../../src/engine/images/registry/credentials.ts';
import { Endpoints } from '../../src/engine/images/registry/endpoints.ts';
import type { Platform } from '../../src/engine/images/registry/manifest.ts';
import { until } from '../support/until.ts';
import { DOCKER_LIST, DOCKER_MANIFEST, FaultyRegistry } from '../support/faulty-registry.ts';
import { type ImageFixture, useImageFixture } from '../support/image-fixture.ts';
import { archive } from '../support/tar.ts';

let here: ImageFixture;
let registry: FaultyRegistry;
let puller: Puller;
let downloads: Downloads;
let lines: Progress[];
const closing: (() => void)[] = [];

const noise = (bytes: number): string =>
  Array.from({ length: bytes }, () => String.fromCharCode(33 + Math.floor(Math.random() * 90))).join('');
const LOW = archive(['low', 'l'], ['noise', noise(3_000_000)]);
const HIGH = archive(['high', 'h']);

useImageFixture((at) => (here = at));
beforeEach(async () => {
  registry = await FaultyRegistry.start();
  puller = makePuller();
  lines = [];
});
afterEach(async () => {
  for (const close of closing.splice(0)) close();
  await registry[Symbol.asyncDispose]();
});

function makePuller({
  mirrors = [],
  insecure = [],
  certificates = '/nowhere',
  concurrent = 3,
}: { mirrors?: string[]; insecure?: string[]; certificates?: string; concurrent?: number } = {}): Puller {
  const endpoints = new Endpoints({ mirrors, insecure, certificates });
  closing.push(() => endpoints.close());
  downloads = new Downloads(join(here.paths.images(), 'downloads'), { concurrent, attempts: 2 });
  return new Puller({ endpoints, downloads, layers: here.layers, images: here.images, rows: here.distribution });
}

const pull = (name: string, platform?: Platform, signal = new AbortController().signal): Promise<void> =>
  puller.pull(
    parseReference(name),
    { credentials: ANONYMOUS, ...(platform && { platform }) },
    (line) => void lines.push(line),
    signal,
  );
const app = (tag = 'app:1'): string => `${registry.host}/${tag}`;
const partial = (): string[] =>
  existsSync(join(here.paths.images(), 'downloads')) ? readdirSync(join(here.paths.images(), 'downloads')) : [];
const isBlob = (url: string | undefined, digest: string): boolean => url?.endsWith(`/blobs/${digest}`) === true;

/** Asserts that a failed pull left no image and no layer; partial blobs may stay for the next pull. */
function expectNothing(): void {
  expect(here.rows.all()).toEqual([]);
  expect(here.layerRows.all()).toEqual([]);
  expect(readdirSync(join(here.paths.images(), 'layers'))).toEqual([]);
}

describe('a pull', () => {
  test('prints progress line by line as Docker does [pull-progress]', async () => {
    const made = registry.image('app', '1', [LOW, HIGH]);
    await pull(app());
    const image = here.images.resolve(app());
    expect(image.config.rootfs.diff_ids).toHaveLength(2);
    expect(image.repoDigests).toEqual([`${registry.host}/app@${made.digest}`]);
    expect(readFileSync(join(here.layers.lower(image.chains)[0]!, 'high'), 'utf8')).toBe('h');
    const [low, high] = made.layers.map((digest) => digest.slice(7, 19));
    expect(lines[0]).toEqual({ id: '1', status: 'Pulling from app' });
    expect(lines.slice(1, 3).map(({ id, status }) => [id, status])).toEqual([
      [low, 'Pulling fs layer'],
      [high, 'Pulling fs layer'],
    ]);
    for (const id of [low, high]) {
      const statuses = [...new Set(lines.filter((line) => line.id === id).map(({ status }) => status))];
      expect(statuses).toEqual([
        'Pulling fs layer',
        'Downloading',
        'Verifying Checksum',
        'Download complete',
        'Extracting',
        'Pull complete',
      ]);
    }
    expect(lines.slice(-2)).toEqual([
      { status: `Digest: ${made.digest}` },
      { status: `Status: Downloaded newer image for ${app()}` },
    ]);
    expect(here.events.at(-1)).toMatchObject({
      type: 'image',
      action: 'pull',
      actor: app(),
      attributes: { name: `${registry.host}/app`, made: 'here' },
    });
    expect(partial()).toEqual([]);
  });

  test.each([1, 3])('downloads layers %i at a time, however many there are [layers-parallel]', async (concurrent) => {
    puller = makePuller({ concurrent });
    const { layers } = registry.image(
      'app',
      '1',
      Array.from({ length: 6 }, (_, i) => archive([`f${i}`, String(i)])),
    );
    const waiting: (() => void)[] = [];
    let most = 0;
    registry.fault = (request, response, body) => {
      if (!layers.some((digest) => isBlob(request.url, digest))) return false;
      most = Math.max(
        most,
        waiting.push(() => response.writeHead(200, { 'content-length': body!.length }).end(body)),
      );
      return true;
    };
    const pulling = pull(app());
    for (let left = layers.length; left > 0; left--) {
      await until(() => waiting.length === Math.min(concurrent, left));
      waiting.shift()!();
    }
    await pulling;
    expect(most).toBe(concurrent);
    expect(new Set(lines.filter(({ status }) => status === 'Waiting').map(({ id }) => id)).size).toBeGreaterThanOrEqual(
      layers.length - concurrent,
    );
    expect(here.images.resolve(app()).chains).toHaveLength(6);
  });

  test('of an up-to-date image costs one HEAD [pull-one-head]', async () => {
    registry.image('app', '1', [HIGH]);
    await pull(app());
    registry.seen.length = 0;
    lines = [];
    await pull(app());
    expect(registry.seen.map(({ method, url }) => `${method} ${url}`)).toEqual(['HEAD /v2/app/manifests/1']);
    expect(lines.at(-1)).toEqual({ status: `Status: Image is up to date for ${app()}` });
  });

  test('does not request layers that exist [pull-known-layers]', async () => {
    const first = registry.image('app', '1', [LOW]);
    registry.image('app', '2', [LOW, HIGH]);
    await pull(app());
    await pull(app('app:2'));
    expect(registry.count('GET', first.layers[0]!)).toBe(1);
    expect(lines).toContainEqual({ id: first.layers[0]!.slice(7, 19), status: 'Already exists', detail: {} });
  });

  test.each([
    [
      'compressed with zstd',
      (tar: Buffer): Buffer => execFileSync('zstd', ['-q', '-c'], { input: tar, maxBuffer: 64 << 20 }),
    ],
    ['not compressed', (tar: Buffer): Buffer => tar],
  ])('accepts layers that are %s', async (_, compress) => {
    registry.image('app', '1', [LOW, HIGH], { compress });
    await pull(app());
    expect(here.images.resolve(app()).chains).toHaveLength(2);
  });

  test('works by digest, and by a tag that moved', async () => {
    const old = registry.image('app', '1', [HIGH]);
    await pull(app());
    registry.image('app', '1', [LOW]);
    await pull(app());
    expect(lines.at(-1)!.status).toMatch(/^Status: Downloaded newer/);
    await pull(app(`app@${old.digest}`));
    expect(here.images.resolve(app(`app@${old.digest}`)).id).not.toBe(here.images.resolve(app()).id);
  });

  test('selects the requested platform from a manifest list [manifest-list-platform]', async () => {
    const images = [
      ['amd64', LOW],
      ['arm64', HIGH],
    ].map(([architecture, tar]) => ({
      architecture: architecture as string,
      ...registry.image('app', architecture as string, [tar as Buffer], { architecture: architecture as string }),
    }));
    const list = registry.manifest(
      'app',
      'all',
      {
        schemaVersion: 2,
        mediaType: DOCKER_LIST,
        manifests: images.map(({ architecture, digest, manifest }) => ({
          mediaType: DOCKER_MANIFEST,
          digest,
          size: manifest.length,
          platform: { os: 'linux', architecture },
        })),
      },
      DOCKER_LIST,
    );
    await pull(app('app:all'), { os: 'linux', architecture: 'arm64', variant: 'v8' });
    expect(here.images.resolve(app('app:all')).config.architecture).toBe('arm64');
    expect(here.images.resolve(app('app:all')).repoDigests).toEqual([`${registry.host}/app@${list}`]);
    await pull(app('app:all'), { os: 'linux', architecture: 'amd64' });
    expect(here.images.resolve(app('app:all')).config.architecture).toBe('amd64');
    await expect(pull(app('app:all'), { os: 'linux', architecture: 's390x' })).rejects.toThrow(
      'no matching manifest for linux/s390x in the manifest list entries',
    );
  });

  test('asks a mirror first, and the next when it fails [mirror-order]', async () => {
    await using broken = await FaultyRegistry.start();
    broken.fault = (_, response) => (response.writeHead(500).end(), true);
    registry.image('library/app', '1', [HIGH]);
    puller = makePuller({ mirrors: [`http://${broken.host}/`, `http://${registry.host}/`] });
    await pull('app:1');
    expect(broken.seen.length).toBeGreaterThan(0);
    expect(here.images.resolve('app:1').repoTags).toEqual(['app:1']);
  });
});

describe('a broken connection', () => {
  test('resumes at the offset where it broke [pull-resumes]', async () => {
    const {
      layers: [low],
    } = registry.image('app', '1', [LOW]);
    const size = registry.blobs.get(low!)!.length;
    let cuts = 2;
    registry.fault = (request, response, body) => {
      if (!isBlob(request.url, low!) || cuts-- <= 0) return false;
      const start = Number(/\d+/.exec(request.headers.range ?? '0')![0]);
      response.writeHead(start > 0 ? 206 : 200, {
        'content-length': size - start,
        ...(start > 0 && { 'content-range': `bytes ${start}-${size - 1}/${size}` }),
      });
      response.write(body!.subarray(start, start + 700_000), () => setTimeout(() => response.destroy(), 20));
      return true;
    };
    await pull(app());
    const ranges = registry.seen.filter(({ url }) => isBlob(url, low!)).map(({ range }) => range);
    expect(ranges).toHaveLength(3);
    const starts = ranges.map((range) => Number(/\d+/.exec(range ?? '0')![0]));
    expect(starts[0]).toBe(0);
    expect(starts[1]).toBeGreaterThan(0);
    expect(starts[2]).toBeGreaterThan(starts[1]!);
  });

  test('restarts the download when the registry ignores Range [pull-without-range]', async () => {
    const {
      layers: [low],
    } = registry.image('app', '1', [LOW]);
    let cuts = 1;
    registry.fault = (request, response, body) => {
      if (!isBlob(request.url, low!)) return false;
      response.writeHead(200, { 'content-length': body!.length });
      if (cuts-- > 0) response.write(body!.subarray(0, 700_000), () => setTimeout(() => response.destroy(), 20));
      else response.end(body);
      return true;
    };
    await pull(app());
    expect(here.images.resolve(app()).chains).toHaveLength(1);
  });

  test('fails after the last attempt; the next pull uses what was received [pull-gives-up]', async () => {
    const {
      layers: [low],
    } = registry.image('app', '1', [LOW]);
    let broken = true;
    registry.fault = (request, response, body) => {
      if (!broken || !isBlob(request.url, low!)) return false;
      if (request.headers.range) return (response.destroy(), true);
      response.writeHead(200, { 'content-length': body!.length });
      response.write(body!.subarray(0, 700_000), () => setTimeout(() => response.destroy(), 20));
      return true;
    };
    await expect(pull(app())).rejects.toThrow(/EOF|reset/);
    expectNothing();
    expect(partial()).toEqual([low!.slice(7)]);
    broken = false;
    registry.seen.length = 0;
    await pull(app());
    expect(registry.seen.filter(({ url }) => isBlob(url, low!)).map(({ range }) => range)).toEqual([
      expect.stringMatching(/^bytes=[1-9]\d*-$/),
    ]);
    expect(partial()).toEqual([]);
  });

  test('leaves a partial download that is swept when it gets old', async () => {
    mkdirSync(join(here.paths.images(), 'downloads'), { recursive: true });
    for (const [name, age] of [
      ['old', 2 * 86_400_000],
      ['new', 0],
    ] as const) {
      const path = join(here.paths.images(), 'downloads', name);
      writeFileSync(path, '');
      utimesSync(path, new Date(Date.now() - age), new Date(Date.now() - age));
    }
    await downloads.sweep();
    expect(partial()).toEqual(['new']);
  });
});

describe('two pulls at once', () => {
  test('share the work [pulls-share-work]', async () => {
    const { layers } = registry.image('app', '1', [LOW, HIGH]);
    registry.fault = (request, response, body) => {
      if (!isBlob(request.url, layers[0]!)) return false;
      setTimeout(() => response.writeHead(200, { 'content-length': body!.length }).end(body), 300);
      return true;
    };
    await Promise.all([pull(app()), pull(app()), pull(app())]);
    for (const digest of layers) expect(registry.count('GET', `/blobs/${digest}`)).toBe(1);
    expect(here.layerRows.all()).toHaveLength(2);
    expect(partial()).toEqual([]);
  });

  test('continue while one client remains, and stop with the last [pulls-one-leaves]', async () => {
    const {
      layers: [low],
    } = registry.image('app', '1', [LOW]);
    const held: (() => void)[] = [];
    let closed = 0;
    registry.fault = (request, response, body) => {
      if (!isBlob(request.url, low!)) return false;
      response.on('close', () => closed++);
      held.push(() => response.writeHead(200, { 'content-length': body!.length }).end(body));
      return true;
    };
    const leaving = [new AbortController(), new AbortController()];
    const [first, second] = leaving.map((each) => pull(app(), undefined, each.signal));
    const ended = expect(first).rejects.toThrow();
    await until(() => held.length === 1);
    leaving[0]!.abort();
    await ended;
    expect(closed).toBe(0);
    held[0]!();
    await second;
    await here.images.remove(app(), { force: true, noprune: false });
    const third = new AbortController();
    const alone = expect(pull(app(), undefined, third.signal)).rejects.toThrow();
    await until(() => held.length === 2);
    closed = 0;
    third.abort();
    await alone;
    await until(() => closed === 1);
    expectNothing();
  });
});

describe('a registry that sends wrong data', () => {
  const changed = (url: string, body: Buffer, headers: Record<string, string | number> = {}): void => {
    registry.fault = (request, response) => {
      if (!request.url!.endsWith(url) || request.method !== 'GET') return false;
      response.writeHead(200, { 'content-length': body.length, ...headers }).end(body);
      return true;
    };
  };

  test.each([
    [
      'other bytes',
      (blob: Buffer): Buffer => Buffer.concat([blob.subarray(0, -1), Buffer.from([blob.at(-1)! ^ 1])]),
      /filesystem layer verification failed for digest/,
    ],
    [
      'more bytes',
      (blob: Buffer): Buffer => Buffer.concat([blob, Buffer.alloc(100)]),
      /is longer than the \d+ bytes that were announced/,
    ],
    ['fewer bytes', (blob: Buffer): Buffer => blob.subarray(0, 100), /unexpected EOF/],
  ])('is rejected for a layer with %s [layer-digest-checked]', async (_, lie, message) => {
    const {
      layers: [low],
    } = registry.image('app', '1', [LOW]);
    changed(low!, lie(registry.blobs.get(low!)!));
    await expect(pull(app())).rejects.toThrow(message);
    expectNothing();
  });

  test('is rejected for a manifest or configuration with another digest [manifest-digest-checked]', async () => {
    const { digest, config } = registry.image('app', '1', [HIGH]);
    changed(digest, Buffer.from('{"schemaVersion":2}'));
    await expect(pull(app())).rejects.toThrow(`manifest verification failed for digest ${digest}`);
    changed(registry.blob(config), Buffer.from('{}'));
    await expect(pull(app())).rejects.toThrow(/image config verification failed/);
    expectNothing();
  });

  test('is rejected for a layer with another diff ID than the configuration’s [layer-diff-id-checked]', async () => {
    const made = registry.image('app', '1', [HIGH]);
    const config = registry.blob(
      Buffer.from(made.config.toString().replace(/sha256:[0-9a-f]{64}/, `sha256:${'0'.repeat(64)}`)),
    );
    registry.manifest(
      'app',
      '1',
      JSON.parse(made.manifest.toString().replace(/"digest":"sha256:[0-9a-f]{64}"/, `"digest":"${config}"`)),
      DOCKER_MANIFEST,
    );
    await expect(pull(app())).rejects.toThrow(/has diff ID sha256:.* and the image's configuration says sha256:000/);
    expectNothing();
  });

  test.each([
    ['an endless manifest', Buffer.alloc(5 << 20, ' '), /is longer than 4194304 bytes/],
    ['text that is not JSON', Buffer.from('<html>'), /is no JSON/],
    ['a manifest of schema 1', Buffer.from('{"schemaVersion":1,"fsLayers":[]}'), /schema 1 are not supported/],
    [
      'a path in place of a digest',
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: DOCKER_MANIFEST,
          config: { mediaType: '', digest: '../../../etc/passwd', size: 1 },
          layers: [],
        }),
      ),
      /is no digest/,
    ],
    [
      'an invalid size',
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: DOCKER_MANIFEST,
          config: { mediaType: '', digest: `sha256:${'a'.repeat(64)}`, size: -1 },
          layers: [],
        }),
      ),
      /is no size/,
    ],
    [
      'an image and an index at once',
      Buffer.from(
        JSON.stringify({ schemaVersion: 2, mediaType: DOCKER_MANIFEST, manifests: [], config: {}, layers: [] }),
      ),
      /an image and an index at once/,
    ],
    [
      'an endless configuration',
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: DOCKER_MANIFEST,
          config: { mediaType: '', digest: `sha256:${'a'.repeat(64)}`, size: 1e12 },
          layers: [],
        }),
      ),
      /too long to be an image's configuration/,
    ],
  ])('is rejected for %s', async (_, manifest, message) => {
    registry.manifest('app', '1', manifest, DOCKER_MANIFEST);
    await expect(pull(app())).rejects.toThrow(message);
    expectNothing();
  });

  test('is rejected with the media type of what is not an image', async () => {
    registry.image('app', '1', [HIGH], { configType: 'application/vnd.cncf.helm.config.v1+json' });
    await expect(pull(app())).rejects.toThrow(
      'Encountered remote "application/vnd.cncf.helm.config.v1+json"(unknown) when fetching',
    );
    registry.image('app', '2', [HIGH], { os: 'windows' });
    await expect(pull(app('app:2'))).rejects.toThrow(/operating system is not supported/);
    expectNothing();
  });

  test.each([
    ['file:///etc/passwd', /unsupported protocol scheme "file"/],
    ['gopher://x/', /unsupported protocol scheme "gopher"/],
  ])('is not followed to %s', async (location, message) => {
    const {
      layers: [low],
    } = registry.image('app', '1', [HIGH]);
    registry.fault = (request, response) =>
      isBlob(request.url, low!) ? (response.writeHead(307, { location }).end(), true) : false;
    await expect(pull(app())).rejects.toThrow(message);
    expectNothing();
  });

  test('is followed to another host, which does not get the credentials', async () => {
    await using elsewhere = await FaultyRegistry.start();
    const {
      layers: [low],
    } = registry.image('app', '1', [HIGH]);
    elsewhere.image('app', '1', [HIGH]);
    registry.fault = (request, response) => {
      if (!request.headers.authorization)
        return (response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end(), true);
      return isBlob(request.url, low!)
        ? (response.writeHead(307, { location: `http://${elsewhere.host}${request.url!}` }).end(), true)
        : false;
    };
    await puller.pull(
      parseReference(app()),
      { credentials: { ...ANONYMOUS, username: 'u', password: 'p' } },
      () => undefined,
      new AbortController().signal,
    );
    expect(elsewhere.seen.map(({ authorization }) => authorization)).toEqual([undefined]);
    expect(
      registry.seen.filter(({ authorization }) => authorization === `Basic ${Buffer.from('u:p').toString('base64')}`)
        .length,
    ).toBeGreaterThan(0);
  });

  test('is rejected for a cycle of redirections', async () => {
    const {
      layers: [low],
    } = registry.image('app', '1', [HIGH]);
    registry.fault = (request, response) =>
      isBlob(request.url, low!) ? (response.writeHead(307, { location: request.url! }).end(), true) : false;
    await expect(pull(app())).rejects.toThrow(/stopped after 5 redirects/);
  });
});

describe('error messages equal Docker’s', () => {
  test.each([
    ['a missing tag', {}, /^manifest for \S+\/app:1 not found: manifest unknown: manifest unknown$/],
    [
      'a repository that denies access',
      { status: 401, headers: { 'www-authenticate': 'Bearer realm="http://HOST/token",error="insufficient_scope"' } },
      /^pull access denied for \S+\/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied$/,
    ],
    [
      'missing credentials',
      { status: 401, headers: { 'www-authenticate': 'Basic realm="r"' } },
      /^Head "http:\/\/\S+\/v2\/app\/manifests\/1": no basic auth credentials$/,
    ],
  ])('for %s', async (_, answer: { status?: number; headers?: Record<string, string> }, message) => {
    registry.fault = (request, response) => {
      if (request.url!.startsWith('/token')) return (response.writeHead(200).end('{"token":"t"}'), true);
      if (answer.status === undefined) return false;
      response
        .writeHead(
          answer.status,
          Object.fromEntries(
            Object.entries(answer.headers ?? {}).map(([name, value]) => [name, value.replace('HOST', registry.host)]),
          ),
        )
        .end();
      return true;
    };
    await expect(pull(app())).rejects.toThrow(message);
  });

  test('for an unreachable registry', async () => {
    await expect(pull('127.0.0.1:1/app:1')).rejects.toThrow(
      'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
    );
  });
});

describe('TLS', () => {
  // Not a loopback address: those need no verification.
  const ADDRESS = '10.213.251.7';
  let certificates: string;
  const file = (name: string): string => join(certificates, name);
  beforeAll(() => {
    certificates = mkdtempSync(join(tmpdir(), 'holdfast-certs-'));
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-days',
        '2',
        '-keyout',
        file('key.pem'),
        '-out',
        file('cert.pem'),
        '-subj',
        '/CN=registry',
        '-addext',
        `subjectAltName=IP:${ADDRESS}`,
      ],
      { stdio: 'ignore' },
    );
    execFileSync('ip', ['addr', 'replace', `${ADDRESS}/32`, 'dev', 'lo']);
  });
  afterAll(() => {
    execFileSync('ip', ['addr', 'del', `${ADDRESS}/32`, 'dev', 'lo']);
    rmSync(certificates, { recursive: true });
  });

  test('trusts a private CA only for the registry in whose directory its certificate lies [tls-private-ca]', async () => {
    await using secure = await FaultyRegistry.start({
      address: ADDRESS,
      tls: { cert: readFileSync(file('cert.pem'), 'utf8'), key: readFileSync(file('key.pem'), 'utf8') },
    });
    secure.image('app', '1', [HIGH]);
    await expect(pull(`${secure.host}/app:1`)).rejects.toThrow(
      /tls: failed to verify certificate: x509: certificate signed by unknown authority/,
    );
    mkdirSync(file(secure.host));
    writeFileSync(join(file(secure.host), 'ca.crt'), readFileSync(file('cert.pem')));
    puller = makePuller({ certificates });
    await pull(`${secure.host}/app:1`);
    expect(here.images.resolve(`${secure.host}/app:1`).chains).toHaveLength(1);
  });

  test('is required unless the registry is configured as insecure [tls-required]', async () => {
    await using plain = await FaultyRegistry.start({ address: ADDRESS });
    plain.image('app', '1', [HIGH]);
    await expect(pull(`${plain.host}/app:1`)).rejects.toThrow('http: server gave HTTP response to HTTPS client');
    expect(plain.seen).toEqual([]);
    for (const insecure of [plain.host, ADDRESS, '10.213.251.0/24']) {
      puller = makePuller({ insecure: [insecure] });
      await pull(`${plain.host}/app:1`);
      await here.images.remove(`${plain.host}/app:1`, { force: false, noprune: false });
    }
  });
});
