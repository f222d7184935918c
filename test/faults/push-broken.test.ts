/**
 * A push that breaks: its connection cut in the middle of a layer, its daemon killed. The next one goes through, and
 * the image is whole.
 */
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

/** More than any request has beside a layer's bytes. */
const INSIDE_LAYER = 150_000;

/**
 * Stands before a registry; `inside` is called each time a connection has come so far into a layer, and is then cut.
 */
class Cutter implements AsyncDisposable {
  inside: (() => void) | undefined;
  cuts = 0;

  private constructor(private readonly server: Server) {}

  static async before(registry: TestRegistry): Promise<Cutter> {
    let cutter: Cutter | undefined;
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
        if (sent < INSIDE_LAYER || !cutter!.inside) return;
        cutter!.cuts++;
        cutter!.inside();
        end();
      });
      client.pipe(upstream).pipe(client);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (cutter = new Cutter(server));
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
  // Its connections are kept alive by the daemon: they end with the registry.
  await registry[Symbol.asyncDispose]();
  await cutter[Symbol.asyncDispose]();
});

const push = async (): Promise<string> => (await engine.api('POST', `/images/${name}/push?tag=1`)).text;
const isThere = async (): Promise<boolean> =>
  (await fetch(`http://${registry.host}/v2/app/manifests/1`)).status === 200;
const pushed = /"Digest":"(sha256:[0-9a-f]{64})"/;

/** What is in the registry is the image, and it runs. */
async function proveWhole(digest: string): Promise<void> {
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

test('cut once inside a layer: it is sent again', async () => {
  cutter.inside = () => (cutter.inside = undefined);
  const told = await push();
  expect(cutter.cuts).toBe(1);
  expect(told).toContain('Retrying in 1 second');
  await proveWhole(pushed.exec(told)![1]!);
});

test('cut each time: it fails and leaves no tag; the next push goes through', async () => {
  cutter.inside = () => undefined;
  const told = await push();
  expect(told).toMatch(/"error":"(Patch|Put) \\"http/);
  expect(told).not.toMatch(pushed);
  expect(cutter.cuts).toBe(5);
  expect(await isThere()).toBe(false);
  cutter.inside = undefined;
  await proveWhole(pushed.exec(await push())![1]!);
}, 60_000);

test('the daemon is killed inside a layer', async () => {
  let killed: Promise<void> | undefined;
  cutter.inside = () => void (killed ??= engine.kill9());
  await push().catch(() => undefined);
  await until(() => killed !== undefined);
  await killed;
  cutter.inside = undefined;
  await engine.startAgain();
  expect(await isThere()).toBe(false);
  await proveWhole(pushed.exec(await push())![1]!);
});

test('the daemon is killed when all is there but the manifest: what is there is not sent again', async () => {
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
  const told = await push();
  expect(told).toContain('Layer already exists');
  expect(told).not.toContain('"Pushed"');
  await proveWhole(pushed.exec(told)![1]!);
});
