/**
 * A push whose connection is cut inside a layer or whose daemon is killed: the next push succeeds, and the image in
 * the registry (Debian's docker-registry) is complete.
 */
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

/** Bytes: more than any request has except the upload of a layer. */
const INSIDE_LAYER = 150_000;

/**
 * A proxy in front of a registry. While `inside` is set, it is called as soon as a connection has sent this many
 * bytes, and the connection is then cut.
 */
class Cutter implements AsyncDisposable {
  inside: (() => void) | undefined;
  cuts = 0;

  private constructor(private readonly server: Server) {}

  static async before(registry: TestRegistry): Promise<Cutter> {
    const server = createServer((client) => {
      const [host, port] = registry.host.split(':');
      const upstream = connect(Number(port), host);
      const end = (): void => {
        client.destroy();
        upstream.destroy();
      };
      for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
      let sent = 0;
      client.on('data', (chunk: Buffer) => {
        sent += chunk.length;
        if (sent < INSIDE_LAYER || !cutter.inside) return;
        cutter.cuts++;
        cutter.inside();
        end();
      });
      client.pipe(upstream).pipe(client);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const cutter = new Cutter(server);
    return cutter;
  }

  get host(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.server.close(resolve));
  }
}

let engine: TestEngine;
let registry: TestRegistry;
let cutter: Cutter;
let name: string;

beforeAll(async () => void (engine = await startEngine()));
afterAll(() => engine[Symbol.asyncDispose]());
beforeEach(async () => {
  registry = await startRegistry();
  cutter = await Cutter.before(registry);
  name = `${cutter.host}/app`;
  expect((await engine.api('POST', `/images/busybox/tag?repo=${name}&tag=1`)).status).toBe(201);
});
afterEach(async () => {
  if (engine.isDead()) await engine.startAgain();
  await engine.api('DELETE', `/images/${name}:1`);
  // The daemon keeps its connections to the registry open until the registry ends.
  await registry[Symbol.asyncDispose]();
  await cutter[Symbol.asyncDispose]();
});

const push = async (): Promise<string> => (await engine.api('POST', `/images/${name}/push?tag=1`)).text;
const isThere = async (): Promise<boolean> =>
  (await fetch(`http://${registry.host}/v2/app/manifests/1`)).status === 200;
const pushed = /"Digest":"(sha256:[0-9a-f]{64})"/;

/** Removes the image here, pulls it from the registry, and checks that it is the same and runs. */
async function expectComplete(digest: string): Promise<void> {
  const id = ((await engine.api('GET', `/images/${name}:1/json`)).json as { Id: string }).Id;
  for (const each of [`${name}:1`, 'busybox:latest'])
    expect((await engine.api('DELETE', `/images/${each}?force=1`)).status).toBe(200);
  expect((await engine.api('GET', `/images/${id}/json`)).status).toBe(404);
  expect((await engine.api('POST', `/images/create?fromImage=${name}&tag=1`)).text).toContain(`Digest: ${digest}`);
  expect(((await engine.api('GET', `/images/${name}:1/json`)).json as { Id: string }).Id).toBe(id);
  const { stdout } = await engine.docker('run', '--rm', '--network', 'none', `${name}:1`, 'echo', 'whole').result;
  expect(stdout).toBe('whole\n');
  expect((await engine.api('POST', `/images/${name}:1/tag?repo=busybox&tag=latest`)).status).toBe(201);
}

test('a layer whose connection is cut once is sent again [push-cut-once]', async () => {
  cutter.inside = () => {
    cutter.inside = undefined;
  };
  const output = await push();
  expect(cutter.cuts).toBe(1);
  expect(output).toContain('Retrying in 1 second');
  await expectComplete(pushed.exec(output)![1]!);
});

test('a push that is cut every time fails and leaves no tag; the next push succeeds [push-cut-always]', async () => {
  cutter.inside = () => undefined;
  const output = await push();
  expect(output).toMatch(/"error":"(Patch|Put) \\"http/);
  expect(output).not.toMatch(pushed);
  expect(cutter.cuts).toBe(5);
  expect(await isThere()).toBe(false);
  cutter.inside = undefined;
  await expectComplete(pushed.exec(await push())![1]!);
}, 60_000);

test('a push succeeds after the daemon was killed inside a layer [push-killed-layer]', async () => {
  let killed: Promise<void> | undefined;
  cutter.inside = () => void (killed ??= engine.kill9());
  await push().catch(() => undefined);
  await until(() => killed !== undefined);
  await killed;
  cutter.inside = undefined;
  await engine.startAgain();
  expect(await isThere()).toBe(false);
  await expectComplete(pushed.exec(await push())![1]!);
});

test('a push after a kill before the manifest does not send the layers again [push-killed-manifest]', async () => {
  await engine.stop();
  await engine.startAgain({ HOLDFAST_FAULT: 'push.blobs' });
  await push().catch(() => undefined);
  await until(engine.isDead);
  await engine.startAgain();
  expect(await isThere()).toBe(false);
  const { RepoTags, RepoDigests } = (await engine.api('GET', `/images/${name}:1/json`)).json as {
    RepoTags: string[];
    RepoDigests: string[];
  };
  expect(RepoTags).toContain(`${name}:1`);
  expect(RepoDigests.filter((each) => each.startsWith(`${name}@`))).toEqual([]);
  const output = await push();
  expect(output).toContain('Layer already exists');
  expect(output).not.toContain('"Pushed"');
  await expectComplete(pushed.exec(output)![1]!);
});
