/** The docker CLI against a real registry (Debian's docker-registry), open and with passwords. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PASSWORD, startRegistry, USER, type TestRegistry } from '../support/registry.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

let engine: TestEngine;
let config: string;
const previousConfig = process.env.DOCKER_CONFIG;

beforeAll(async () => {
  config = mkdtempSync(join(tmpdir(), 'holdfast-cli-'));
  process.env.DOCKER_CONFIG = config;
  engine = await startEngine();
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  if (previousConfig === undefined) delete process.env.DOCKER_CONFIG;
  else process.env.DOCKER_CONFIG = previousConfig;
  rmSync(config, { recursive: true, force: true });
});

const { output: docker, refusal: refused, inspectFormat: inspect } = dockerOf(() => engine);

describe('an open registry', () => {
  let registry: TestRegistry;
  beforeAll(async () => void (registry = await startRegistry()));
  afterAll(() => registry[Symbol.asyncDispose]());

  test('an image that is pushed, removed and pulled has the same id and digest, and runs [registry-round-trip]', async () => {
    const name = `${registry.host}/some/box:1`;
    await docker('tag', 'busybox', name);
    const pushed = await docker('push', name);
    const digest = /1: digest: (sha256:[0-9a-f]{64}) size: \d+/.exec(pushed)![1]!;
    expect(pushed).toContain(': Pushed');
    const id = await inspect(name, '{{.Id}}');
    await docker('rmi', name);
    expect(await docker('pull', name)).toContain(`Digest: ${digest}`);
    expect(await inspect(name, '{{.Id}} {{.RepoDigests}}')).toContain(`${id} [${registry.host}/some/box@${digest}`);
    expect(await docker('run', '--rm', '--network', 'none', name, 'echo', 'ran')).toBe('ran\n');
    expect(await docker('pull', `${registry.host}/some/box@${digest}`)).toContain('Image is up to date');
  });

  test('push mounts a blob of another repository and skips an existing one [push-mounts-blobs]', async () => {
    const copy = `${registry.host}/copy:1`;
    await docker('tag', 'busybox', `${registry.host}/first:1`);
    await docker('push', '-q', `${registry.host}/first:1`);
    await docker('tag', 'busybox', copy);
    expect(await docker('push', copy)).toMatch(/Mounted from (first|some\/box)/);
    expect(await docker('push', copy)).toContain('Layer already exists');
  });

  test('a commit of a pulled image has the same id and digest after push and pull [registry-commit-round-trip]', async () => {
    const [base, mine] = [`${registry.host}/base:1`, `${registry.host}/mine:1`];
    await docker('tag', 'busybox', base);
    await docker('push', '-q', base);
    await docker('pull', '-q', base);
    await docker('run', '--network', 'none', '--name', 'changed', base, 'sh', '-c', 'echo hello > /new; rm /bin/wget');
    await docker('commit', 'changed', mine);
    await docker('rm', 'changed');
    const before = await inspect(mine, '{{.Id}} {{.RootFS.Layers}}');
    const pushed = await docker('push', mine);
    await docker('rmi', mine);
    const pulled = await docker('pull', mine);
    expect(await inspect(mine, '{{.Id}} {{.RootFS.Layers}}')).toBe(before);
    expect(/Digest: (\S+)/.exec(pulled)![1]).toBe(/digest: (\S+)/.exec(pushed)![1]);
    expect(
      await docker(
        ...['run', '--rm', '--network', 'none'],
        ...[mine, 'sh', '-c', 'cat /new; ls /bin/wget 2>/dev/null || echo gone'],
      ),
    ).toBe('hello\ngone\n');
  });

  test('push -a, pull -a and /distribution work; missing tags and images are refused [registry-all-tags]', async () => {
    for (const tag of ['1', '2']) {
      await docker('tag', 'busybox', `${registry.host}/tags:${tag}`);
    }
    await docker('push', '-q', '-a', `${registry.host}/tags`);
    await docker('rmi', `${registry.host}/tags:1`, `${registry.host}/tags:2`);
    await docker('pull', '-q', '-a', `${registry.host}/tags`);
    expect(await inspect(`${registry.host}/tags:2`, '{{len .RepoTags}}')).not.toBe('0');
    const distribution = await engine.api('GET', `/distribution/${registry.host}/tags:1/json`);
    expect(distribution.json).toMatchObject({
      Descriptor: {
        digest: expect.stringMatching(/^sha256:/),
        mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
      },
      Platforms: [{ os: 'linux' }],
    });
    expect((await engine.api('GET', `/distribution/${registry.host}/tags:9/json`)).status).toBe(404);
    expect(await refused('pull', `${registry.host}/tags:9`)).toContain(
      `manifest for ${registry.host}/tags:9 not found: manifest unknown: manifest unknown`,
    );
    expect(await refused('push', `${registry.host}/nobody:1`)).toContain(
      `An image does not exist locally with the tag: ${registry.host}/nobody`,
    );
    expect(await refused('search', `${registry.host}/tags`)).toContain('Unexpected status code 404');
  });
});

describe('a registry with passwords', () => {
  let registry: TestRegistry;
  beforeAll(async () => void (registry = await startRegistry({ auth: 'htpasswd' })));
  afterAll(() => registry[Symbol.asyncDispose]());

  test('push and pull work between login and logout only [registry-login]', async () => {
    const name = `${registry.host}/box:1`;
    await docker('tag', 'busybox', name);
    expect(await refused('push', name)).toContain('no basic auth credentials');
    expect(await refused('pull', name)).toContain('no basic auth credentials');
    expect(await refused('login', '-u', USER, '-p', 'wrong', registry.host)).toContain('401 Unauthorized');
    expect(await docker('login', '-u', USER, '-p', PASSWORD, registry.host)).toContain('Login Succeeded');
    expect(readFileSync(join(config, 'config.json'), 'utf8')).toContain(registry.host);
    await docker('push', name);
    await docker('rmi', name);
    await docker('pull', name);
    await docker('logout', registry.host);
    expect(
      existsSync(join(config, 'config.json')) &&
        readFileSync(join(config, 'config.json'), 'utf8').includes(registry.host),
    ).toBe(false);
    expect(await refused('pull', name)).toContain('no basic auth credentials');
  });
});
