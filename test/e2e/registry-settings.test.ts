/**
 * Registry settings of the daemon: mirrors, insecure registries and certificates, against real registries (Debian's
 * docker-registry).
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FaultyRegistry } from '../support/faulty-registry.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

/** Addresses outside 127.0.0.0/8, because loopback registries are always treated as insecure. */
const [SECURE, PLAIN, OPEN] = ['10.213.252.1', '10.213.252.2', '10.213.252.3'] as const;

let engine: TestEngine;
let mirror: TestRegistry;
let empty: FaultyRegistry;
let tmp: string;

beforeAll(async () => {
  tmp = mkdtempSync(join(tmpdir(), 'holdfast-certs-'));
  for (const address of [SECURE, PLAIN, OPEN]) execFileSync('ip', ['addr', 'replace', `${address}/32`, 'dev', 'lo']);
  mirror = await startRegistry();
  empty = await FaultyRegistry.start();
  engine = await startEngine({
    flags: [
      '--registry-mirror',
      `http://${empty.host}`,
      '--registry-mirror',
      `http://${mirror.host}`,
      '--insecure-registry',
      `${OPEN}/32`,
      '--registry-certs',
      join(tmp, 'certs.d'),
    ],
  });
});
afterAll(async () => {
  for (const each of [engine, mirror, empty]) await each[Symbol.asyncDispose]();
  for (const address of [SECURE, PLAIN, OPEN]) execFileSync('ip', ['addr', 'del', `${address}/32`, 'dev', 'lo']);
  rmSync(tmp, { recursive: true, force: true });
});

const { output: docker } = dockerOf(() => engine);

/** Pushes busybox, removes it and pulls it again. */
async function pushAndPull(name: string): Promise<void> {
  await docker('tag', 'busybox', name);
  const digest = /digest: (\S+)/.exec(await docker('push', name))![1]!;
  await docker('rmi', name);
  expect(await docker('pull', name)).toContain(`Digest: ${digest}`);
  await docker('rmi', name);
}

test('a Docker Hub image is pulled from the first mirror that has it [registry-mirror]', async () => {
  const there = `${mirror.host}/library/mirrored:1`;
  await docker('tag', 'busybox', there);
  await docker('push', '-q', there);
  await docker('rmi', there);
  expect(await docker('pull', 'mirrored:1')).toContain('Status: Downloaded newer image for mirrored:1');
  expect(empty.seen.map(({ method, url }) => `${method} ${url}`)).toContain('HEAD /v2/library/mirrored/manifests/1');
  expect(mirror.log()).toMatch(/"(HEAD|GET) \/v2\/library\/mirrored\/manifests\//);
  expect((await docker('image', 'inspect', '-f', '{{.RepoTags}} {{.RepoDigests}}', 'mirrored:1')).trim()).toMatch(
    /mirrored:1.* \[mirrored@sha256:[0-9a-f]{64}\]$/,
  );
  const distribution = await engine.api('GET', '/distribution/mirrored:1/json');
  expect([distribution.status, distribution.json]).toMatchObject([
    200,
    { Descriptor: { digest: expect.stringMatching(/^sha256:/) }, Platforms: [{ os: 'linux' }] },
  ]);
  // The mirrors are not asked for images of other registries.
  empty.seen.length = 0;
  expect(await docker('pull', there)).toContain(`Downloaded newer image for ${there}`);
  expect(empty.seen).toEqual([]);
  await docker('rmi', 'mirrored:1', there);
});

describe('TLS', () => {
  const file = (name: string): string => join(tmp, name);
  beforeAll(() => {
    const output = ['-keyout', file('key.pem'), '-out', file('cert.pem')];
    const subject = ['-subj', '/CN=registry', '-addext', `subjectAltName=IP:${SECURE}`];
    const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...output, ...subject];
    execFileSync('openssl', args, { stdio: 'ignore' });
  });
  const tls = {
    get certificate() {
      return file('cert.pem');
    },
    get key() {
      return file('key.pem');
    },
  };

  test('a registry with an unknown CA is refused until its certificate is installed, without a restart [registry-private-ca]', async () => {
    await using registry = await startRegistry({ address: SECURE, tls });
    const name = `${registry.host}/app:1`;
    await docker('tag', 'busybox', name);
    for (const verb of ['pull', 'push'])
      expect(await engine.dockerRefusal(verb, name)).toContain(
        'tls: failed to verify certificate: x509: certificate signed by unknown authority',
      );
    mkdirSync(join(tmp, 'certs.d', registry.host), { recursive: true });
    copyFileSync(file('cert.pem'), join(tmp, 'certs.d', registry.host, 'ca.crt'));
    await pushAndPull(name);
    rmSync(join(tmp, 'certs.d', registry.host), { recursive: true });
    expect(await engine.dockerRefusal('pull', name)).toContain('x509: certificate signed by unknown authority');
  });

  test('an insecure registry needs neither a valid certificate nor TLS [registry-insecure]', async () => {
    await using secured = await startRegistry({ address: OPEN, tls });
    await pushAndPull(`${secured.host}/app:1`);
    await using plain = await startRegistry({ address: OPEN });
    await pushAndPull(`${plain.host}/app:1`);
  });

  test('a registry without TLS that is not listed as insecure is refused [registry-plain-refused]', async () => {
    await using plain = await startRegistry({ address: PLAIN });
    const name = `${plain.host}/app:1`;
    await docker('tag', 'busybox', name);
    for (const verb of ['pull', 'push'])
      expect(await engine.dockerRefusal(verb, name)).toContain('http: server gave HTTP response to HTTPS client');
    expect(plain.log()).not.toContain('/v2/app');
    await docker('rmi', name);
  });
});

describe('docker search', () => {
  const found = [
    { name: 'box', description: '', star_count: 100, is_official: true, is_automated: false },
    { name: 'some/box', description: 'a box', star_count: 7, is_official: false, is_automated: true },
  ];

  test('queries the index named in the term and prints its results [search-index]', async () => {
    await using index = await FaultyRegistry.start();
    index.fault = (request, response) => {
      if (!request.url!.startsWith('/v1/search')) return false;
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ results: found }));
      return true;
    };
    const table = '{{.Name}}|{{.Description}}|{{.StarCount}}|{{.IsOfficial}}';
    expect(await docker('search', '--format', table, `${index.host}/box`)).toBe('box||100|[OK]\nsome/box|a box|7|\n');
    expect(index.seen.map(({ url }) => url)).toEqual(['/v1/search?q=box&n=25']);
    expect(await docker('search', '--format', '{{.Name}}', '--filter', 'stars=50', `${index.host}/box`)).toBe('box\n');
    expect(
      await docker(
        ...['search', '--format', '{{.Name}}', '--filter', 'is-official=false', '--limit', '3', `${index.host}/box`],
      ),
    ).toBe('some/box\n');
    expect(index.seen.at(-1)!.url).toBe('/v1/search?q=box&n=3');
  });

  test('reports a missing index, an unreachable one and an invalid answer [search-errors]', async () => {
    expect(await engine.dockerRefusal('search', `${mirror.host}/box`)).toContain('Unexpected status code 404');
    expect(await engine.dockerRefusal('search', '127.0.0.1:1/box')).toContain(
      'dial tcp 127.0.0.1:1: connect: connection refused',
    );
    await using index = await FaultyRegistry.start();
    index.fault = (_, response) => {
      response.writeHead(200).end('<html>');
      return true;
    };
    expect(await engine.dockerRefusal('search', `${index.host}/box`)).toContain(
      'error decoding registry search results',
    );
    expect(await engine.dockerRefusal('search', '--limit', '101', 'box')).toContain(
      'limit 101 is outside the range of [1, 100]',
    );
  });
});
