/**
 * Pulls from a registry whose documents, headers and challenges are generated: a pull ends, with an image whose digests
 * were checked or with an error, and no credentials reach another host. For longer:
 * HOLDFAST_FUZZ_SECONDS=600 HOLDFAST_FUZZ_SEED=7 ./scripts/test test/parts/fuzz-registry.test.ts
 */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Downloads } from '../../src/engine/images/downloads.ts';
import { Puller } from '../../src/engine/images/pull.ts';
import { parseReference } from '../../src/engine/images/reference.ts';
import { Endpoints } from '../../src/engine/images/registry/endpoints.ts';
import { EngineError } from '../../src/model/errors.ts';
import { DOCKER_LIST, DOCKER_MANIFEST, FaultyRegistry } from '../support/faulty-registry.ts';
import { useImageFixture, type ImageFixture } from '../support/image-fixture.ts';
import { archive, digestOf } from '../support/tar.ts';

const SECONDS = Number(process.env.HOLDFAST_FUZZ_SECONDS ?? 6);
const SEED = Number(process.env.HOLDFAST_FUZZ_SEED ?? 20_261_129);
/** In CI a fixed number, so that a faster machine does not go where none has been. */
const MAX_RUNS = process.env.HOLDFAST_FUZZ_SECONDS === undefined ? 4_000 : 1_000_000;
const PULL_MS = 30_000;
const PASSWORD = 'fuzzed-secret';
const BASIC = Buffer.from(`alice:${PASSWORD}`).toString('base64');

let at: ImageFixture;
let registry: FaultyRegistry;
let other: ReturnType<typeof createServer>;
let elsewhere: string;
/** What another host than the registry was sent. */
let seenElsewhere: IncomingMessage[] = [];

useImageFixture((own) => (at = own));
beforeEach(async () => {
  registry = await FaultyRegistry.start();
  other = createServer((request, response) => {
    seenElsewhere.push(request);
    response.writeHead(401, { 'www-authenticate': 'Basic realm="elsewhere"' }).end();
  });
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  elsewhere = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
});
afterEach(async () => {
  await registry[Symbol.asyncDispose]();
  other.closeAllConnections();
  await new Promise((resolve) => other.close(resolve));
});

const LAYER = archive(['file', 'content']);
const odd = fc.oneof(
  fc.constantFrom<unknown>(null, '', 0, -1, 1e18, 'sha256:', `sha256:${'0'.repeat(64)}`, '../../x', [], {}, true),
  fc.jsonValue({ maxDepth: 2 }),
);

/** Replaces a value somewhere in a document. */
function mutate(document: unknown, path: number[], value: unknown): unknown {
  if (typeof document !== 'object' || document === null || path.length === 0) return value;
  const keys = Object.keys(document);
  if (keys.length === 0) return value;
  const key = keys[path[0]! % keys.length]!;
  const copy = (Array.isArray(document) ? [...(document as unknown[])] : { ...document }) as Record<string, unknown>;
  copy[key] = mutate(copy[key], path.slice(1), value);
  return copy;
}
const mutation = fc.record({ path: fc.array(fc.nat(20), { minLength: 1, maxLength: 4 }), value: odd });

const HEADERS = [
  'content-type',
  'docker-content-digest',
  'content-length',
  'location',
  'www-authenticate',
  'content-encoding',
  'content-range',
  'link',
];
const challenges = (): string[] => [
  '',
  'Basic',
  'Bearer',
  'Bearer realm="',
  'Bearer realm="file:///etc/passwd"',
  'Bearer realm="/relative",service="x"',
  `Bearer realm="http://127.0.0.1:9/token",scope="${'a'.repeat(50_000)}"`,
  `Bearer ${'a="b",'.repeat(5_000)}`,
  `Basic ${'\\\\'.repeat(10_000)}"`,
  ', , ,',
  'Negotiate, Digest realm="x", Basic realm="y"',
];
const locations = (): string[] => [
  elsewhere,
  `${elsewhere}/v2/app/blobs/x`,
  'file:///etc/passwd',
  'http://',
  '//',
  '/v2/',
  'http://user:secret@127.0.0.1:9/',
  '/' + 'x'.repeat(10_000),
];

const response = fc.record({
  /** Which requests are answered so: by a part of their URL. */
  part: fc.constantFrom('/manifests/', '/blobs/', '/v2/', 'token'),
  status: fc.constantFrom(200, 200, 204, 206, 301, 302, 307, 400, 401, 401, 403, 404, 429, 500, 503),
  header: fc.constantFrom(...HEADERS),
  choice: fc.nat(),
  text: fc.string({ maxLength: 30 }).map((value) => value.replace(/[^\x20-\x7e]/g, '?')),
  body: fc.oneof(fc.constant(undefined), fc.json({ maxDepth: 2 }), fc.constantFrom('', '{', '<html>', '\0')),
  cut: fc.boolean(),
});

test(
  'a pull ends, checks what it got, and keeps its password to itself [fuzz-registry]',
  async () => {
    let [pulled, refused] = [0, 0];
    const property = fc.asyncProperty(
      fc.option(mutation),
      fc.option(mutation),
      fc.option(response),
      fc.boolean(),
      async (inManifest, inConfig, answer, isList) => {
        seenElsewhere = [];
        const plain: unknown = {
          ...{
            architecture: 'amd64',
            os: 'linux',
            config: { Labels: { a: 'b' }, Env: ['A=b'], Volumes: { '/v': {} } },
          },
          ...{ rootfs: { type: 'layers', diff_ids: [digestOf(LAYER)] }, history: [{ created_by: 'x' }] },
        };
        const config = Buffer.from(
          JSON.stringify(inConfig ? mutate(plain, inConfig.path, inConfig.value) : plain) ?? '',
        );
        const whole: unknown = {
          schemaVersion: 2,
          mediaType: DOCKER_MANIFEST,
          config: {
            mediaType: 'application/vnd.docker.container.image.v1+json',
            digest: registry.blob(config),
            size: config.length,
          },
          layers: [
            {
              mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar',
              digest: registry.blob(LAYER),
              size: LAYER.length,
              urls: [`${elsewhere}/layer`],
            },
          ],
        };
        const document = inManifest ? mutate(whole, inManifest.path, inManifest.value) : whole;
        const digest = registry.manifest('app', '1', document, DOCKER_MANIFEST);
        if (isList) registry.manifest('app', '1', mutateList(digest, inManifest), DOCKER_LIST);
        registry.fault = (request, reply) => {
          if (!answer || !request.url!.includes(answer.part)) return false;
          const values =
            answer.header === 'location'
              ? locations()
              : answer.header === 'www-authenticate'
                ? challenges()
                : [answer.text, '-1', '1', '99999999999', 'x/y'];
          reply.writeHead(answer.status, { [answer.header]: values[answer.choice % values.length]! });
          if (answer.cut) reply.destroy();
          else reply.end(answer.body);
          return true;
        };
        const endpoints = new Endpoints({ mirrors: [], insecure: [], certificates: '/nowhere' });
        const downloads = new Downloads(join(at.paths.images(), 'downloads'), { concurrent: 3, attempts: 1 });
        const puller = new Puller({
          endpoints,
          downloads,
          layers: at.layers,
          images: at.images,
          rows: at.distribution,
        });
        const abort = new AbortController();
        let late = false;
        const timer = setTimeout(() => {
          late = true;
          abort.abort();
        }, PULL_MS);
        try {
          const credentials = { username: 'alice', password: PASSWORD, identityToken: '', registryToken: '' };
          await puller.pull(parseReference(`${registry.host}/app:1`), { credentials }, () => undefined, abort.signal);
          pulled++;
          for (const { id } of at.rows.all()) expect([digestOf(config)]).toContain(id);
        } catch (error) {
          expect(late, `no end within ${PULL_MS} ms`).toBe(false);
          expect(error, String((error as Error).stack)).toBeInstanceOf(EngineError);
          refused++;
        } finally {
          clearTimeout(timer);
          endpoints.close();
        }
        for (const { headers, url } of seenElsewhere) {
          expect(headers.authorization ?? '').not.toContain(BASIC);
          expect(`${url}`).not.toContain('/layer');
        }
        for (const { id } of at.rows.all()) await at.images.remove(id, { force: true, noprune: false });
        expect(readdirSync(join(at.paths.images(), 'layers'))).toEqual([]);
      },
    );
    await fc.assert(property, { seed: SEED, numRuns: MAX_RUNS, plugins: [fc.interruptAfterTimeLimit(SECONDS * 1000)] });
    expect(pulled).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
  },
  SECONDS * 1000 + 120_000,
);

function mutateList(digest: string, change: { path: number[]; value: unknown } | null): unknown {
  const list = {
    schemaVersion: 2,
    mediaType: DOCKER_LIST,
    manifests: [{ mediaType: DOCKER_MANIFEST, digest, size: 500, platform: { architecture: 'amd64', os: 'linux' } }],
  };
  return change ? mutate(list, change.path, change.value) : list;
}
