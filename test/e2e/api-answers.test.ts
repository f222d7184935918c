/** What the API answers, where it takes a container or an image on a real host to ask. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

/** A container, created by a body that may have numbers that JavaScript has not. @returns its id */
async function create(body: string): Promise<string> {
  const answer = await engine.api('POST', '/containers/create', body, { 'Content-Type': 'application/json' });
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)]);
  return (answer.json as { Id: string }).Id;
}

/** The digits of a field in an answer. */
const digitsOf = (text: string, field: string): string | undefined =>
  new RegExp(`"${field}":(-?[0-9.e+]+)`).exec(text)?.[1];

test('64-bit integers keep their digits from the request to inspect, over a restart of the daemon [integers-64-bit]', async () => {
  const id = await create(
    `{"Image":"busybox","Cmd":["sleep","1000"],"StopTimeout":9223372036854775807,
      "Healthcheck":{"Test":["CMD","true"],"Interval":9223372036854775807,"StartPeriod":9007199254740993},
      "HostConfig":{"Memory":9223372036854771712,"ShmSize":9223372036854775807,"CpuShares":9007199254740993,
        "Ulimits":[{"Name":"core","Soft":9007199254740993,"Hard":9223372036854775807}]}}`,
  );
  const expected = {
    StopTimeout: '9223372036854775807',
    Interval: '9223372036854775807',
    StartPeriod: '9007199254740993',
    Memory: '9223372036854771712',
    MemorySwap: '-8192',
    ShmSize: '9223372036854775807',
    CpuShares: '9007199254740993',
    Soft: '9007199254740993',
    Hard: '9223372036854775807',
  };
  const shown = async (): Promise<object> => {
    const { text } = await engine.api('GET', `/containers/${id}/json`);
    return Object.fromEntries(Object.keys(expected).map((field) => [field, digitsOf(text, field)]));
  };
  expect(await shown()).toEqual(expected);
  await engine.kill9();
  await engine.startAgain();
  expect(await shown()).toEqual(expected);
  // The Go client reads them.
  expect(await engine.dockerOutput('inspect', '--format', '{{.HostConfig.ShmSize}}', id)).toBe('9223372036854775807\n');
  await engine.dockerOutput('rm', '-f', id);
});

test('a memory limit near 2^63 can be started, updated and committed, with a health check that runs at once [memory-limit-huge]', async () => {
  const memory = '9223372036854771712';
  await engine.dockerOutput(
    ...['run', '-d', '--name', 'large', '-m', memory, '--ulimit', 'core=-1', '--stop-timeout', '2147483648'],
    ...['--health-cmd', 'test $(ulimit -c) = unlimited', '--health-interval', '200ms', '--health-timeout', '2400000h'],
    ...['busybox', 'sleep', '1000'],
  );
  await expect
    .poll(() => engine.dockerOutput('inspect', '--format', '{{.State.Health.Status}}', 'large'), { timeout: 10_000 })
    .toBe('healthy\n');
  expect(await engine.dockerOutput('exec', 'large', 'sh', '-c', 'ulimit -c')).toBe('unlimited\n');
  // Not by the CLI, which reads sizes as doubles.
  await engine.api('POST', '/containers/large/update', '{"MemoryReservation":9223372036854771711}', {
    'Content-Type': 'application/json',
  });
  const { text } = await engine.api('GET', '/containers/large/json');
  expect([digitsOf(text, 'Memory'), digitsOf(text, 'MemoryReservation')]).toEqual([memory, '9223372036854771711']);
  await engine.dockerOutput('commit', 'large', 'large:image');
  expect(digitsOf((await engine.api('GET', '/images/large:image/json')).text, 'Timeout')).toBe('8640000000000000000');
  await engine.dockerOutput('rm', '-f', 'large');
});

test('create: a pid or ipc namespace of a missing container is a bad request, unless the start will look for it [join-missing-container]', async () => {
  const attempt = async (HostConfig: object): Promise<unknown[]> => {
    const { status, json } = await engine.api('POST', '/containers/create', {
      Image: 'busybox',
      Cmd: ['true'],
      HostConfig,
    });
    return [status, (json as { message?: string }).message];
  };
  const rejected = [400, 'No such container: nope'];
  expect(await attempt({ PidMode: 'container:nope' })).toEqual(rejected);
  expect(await attempt({ IpcMode: 'container:nope', PidMode: 'container:nope' })).toEqual(rejected);
  expect(await attempt({ PidMode: 'container:nope', Privileged: true })).toEqual([201, undefined]);
  expect(await attempt({ IpcMode: 'container:nope', PidMode: 'host' })).toEqual([201, undefined]);
  expect(await attempt({ PidMode: 'container:nope', SecurityOpt: ['label=disable'] })).toEqual([201, undefined]);
  expect(await attempt({ NetworkMode: 'container:nope' })).toEqual([201, undefined]);
});

test('a platform that the image is not for is 404, several or malformed ones are 400 [platform-mismatch]', async () => {
  const attempt = async (method: string, path: string): Promise<unknown[]> => {
    const { status, json } = await engine.api(method, path);
    return [status, (json as { message?: string } | undefined)?.message];
  };
  const query = (...platforms: unknown[]): string =>
    platforms.map((platform) => `platform=${encodeURIComponent(JSON.stringify(platform))}`).join('&');
  const [amd64, arm64] = ['amd64', 'arm64'].map((architecture) => ({ os: 'linux', architecture }));
  const other = process.arch === 'x64' ? arm64 : amd64;
  const own = process.arch === 'x64' ? amd64 : arm64;
  const text = ({ os, architecture }: { os: string; architecture: string }): string => `${os}/${architecture}`;
  const mismatch = `image with reference busybox was found but its platform (${text(own!)}) does not match the specified platform (${text(other!)})`;
  expect(await attempt('GET', `/images/busybox/json?${query(own)}`)).toEqual([200, undefined]);
  expect(await attempt('GET', `/images/busybox/json?${query(other)}`)).toEqual([404, mismatch]);
  expect(await attempt('GET', `/v1.48/images/busybox/json?${query(other)}`)).toEqual([200, undefined]);
  expect(await attempt('GET', `/images/busybox/history?${query(other)}`)).toEqual([404, mismatch]);
  expect(await attempt('POST', `/images/busybox/push?${query(other)}`)).toEqual([404, mismatch]);
  expect(await attempt('GET', `/images/busybox/json?manifests=1&${query(own)}`)).toEqual([
    400,
    'conflicting options: manifests and platform options cannot both be set',
  ]);
  expect(await attempt('GET', '/images/busybox/json?platform=linux')).toEqual([
    400,
    "failed to parse platform: invalid character 'l' looking for beginning of value",
  ]);
  expect(await attempt('GET', `/images/busybox/json?${query({ os: 'linux' })}`)).toEqual([
    400,
    'both OS and Architecture must be provided',
  ]);
  const several = [400, 'multiple platform parameters not supported'];
  for (const path of ['/images/busybox/get', '/images/get?names=busybox'])
    expect(await attempt('GET', `${path}${path.includes('?') ? '&' : '?'}${query(amd64, arm64)}`)).toEqual(several);
  expect(await attempt('POST', `/images/load?${query(amd64, arm64)}`)).toEqual(several);
  expect((await engine.api('GET', `/images/busybox/get?${query(own)}`)).status).toBe(200);
  expect((await attempt('GET', `/images/busybox/get?${query(other)}`))[0]).toBe(404);
});

test('a platform that nobody knows is rejected by pull, import and create [platform-unknown]', async () => {
  const unknown = { message: '"nintendo64": unknown operating system or architecture: invalid argument' };
  for (const path of ['/images/create?fromImage=busybox&', '/images/create?fromSrc=-&', '/containers/create?']) {
    const answer = await engine.api('POST', `${path}platform=nintendo64`, { Image: 'busybox' });
    expect([answer.status, answer.json]).toEqual([400, unknown]);
  }
});

test('read-only binds are recursive since API 1.44 [versions-read-only-binds]', async () => {
  const source = mkdtempSync('/tmp/hf-binds-');
  mkdirSync(join(source, 'below'));
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(source, 'below')]);
  try {
    for (const [version, outcome] of [
      ['1.43', 'written\n'],
      ['1.44', ''],
    ] as const)
      for (const HostConfig of [
        { Binds: [`${source}:/x:ro`] },
        { Mounts: [{ Type: 'bind', Source: source, Target: '/x', ReadOnly: true }] },
      ]) {
        const Cmd = ['sh', '-c', '! touch /x/file && touch /x/below/file && echo written'];
        const body = { Image: 'busybox', Cmd, HostConfig: { ...HostConfig, NetworkMode: 'none' } };
        const created = await engine.api('POST', `/v${version}/containers/create`, body);
        const { stdout } = await engine.docker('start', '-a', (created.json as { Id: string }).Id).result;
        expect(stdout, version).toBe(outcome);
      }
  } finally {
    execFileSync('umount', [join(source, 'below')]);
    rmSync(source, { recursive: true });
  }
});

test('fields that an older API version has, or lacks [versions-fields]', async () => {
  await engine.dockerOutput('network', 'create', 'aliases');
  await engine.dockerOutput(
    ...['run', '-d', '--name', 'aliased', '--annotation', 'a=b', '--hostname', 'host', '--network', 'aliases'],
    ...['--network-alias', 'other', 'busybox', 'sleep', '1000'],
  );
  const get = async <T>(path: string): Promise<T> => (await engine.api('GET', path)).json as T;
  interface Inspected {
    Id: string;
    NetworkSettings: { Networks: { aliases: { Aliases: string[] } } };
  }
  const aliases = async (version: string): Promise<string[]> => {
    const { Id, NetworkSettings } = await get<Inspected>(`/v${version}/containers/aliased/json`);
    return NetworkSettings.Networks.aliases.Aliases.map((alias) => (alias === Id.slice(0, 12) ? 'short id' : alias));
  };
  expect(await aliases('1.44')).toEqual(['other', 'short id', 'host']);
  expect(await aliases('1.45')).toEqual(['other']);
  const annotations = async (version: string): Promise<unknown> => {
    const [listed] = await get<{ HostConfig: { Annotations?: object } }[]>(
      `/v${version}/containers/json?filters={"name":["aliased"]}`,
    );
    return listed!.HostConfig.Annotations;
  };
  expect([await annotations('1.45'), await annotations('1.46')]).toEqual([undefined, { a: 'b' }]);
  const filtered = async (version: string): Promise<string> =>
    typeof (await get<{ BridgeNfIptables?: boolean }>(`/v${version}/info`)).BridgeNfIptables;
  expect([await filtered('1.49'), await filtered('1.50')]).toEqual(['boolean', 'undefined']);
});

test('a linked container is known by its link names, and loses one without being removed [link-names]', async () => {
  await engine.dockerOutput('run', '-d', '--name', 'm1', 'busybox', 'sleep', '1000');
  await engine.dockerOutput('create', '--name', 'm2', '--link', 'm1:al', '--link', 'm1:other', 'busybox', 'true');
  interface Named {
    Id: string;
    Name: string;
    Names: string[];
    HostConfig: { Links: string[] | null };
  }
  const inspect = async (name: string): Promise<Named> => engine.inspect<Named>(name);
  const namesOf = async (id: string): Promise<string[]> =>
    ((await engine.api('GET', '/containers/json?all=1')).json as Named[]).find(({ Id }) => Id === id)!.Names;
  const { Id } = await inspect('m1');
  for (const name of ['m2/al', 'm2%2Fal', '%2Fm2/al']) expect(await inspect(name)).toMatchObject({ Id, Name: '/m1' });
  expect(await namesOf(Id)).toEqual(['/m1', '/m2/al', '/m2/other']);
  expect((await engine.api('GET', '/containers/m2/none/json')).status).toBe(404);
  const remove = async (name: string): Promise<unknown[]> => {
    const { status, json } = await engine.api('DELETE', `/containers/${name}?link=1`);
    return [status, (json as { message?: string } | undefined)?.message];
  };
  expect(await remove('m1')).toEqual([500, 'Conflict, cannot remove the default link name of the container']);
  expect(await remove('m2/none')).toEqual([404, 'No such container: m2/none']);
  expect(await engine.dockerOutput('rm', '--link', 'm2/al')).toBe('m2/al\n');
  expect(await namesOf(Id)).toEqual(['/m1', '/m2/other']);
  expect((await inspect('m2')).HostConfig.Links).toEqual(['/m1:/m2/other']);
  await engine.dockerOutput('rm', 'm2');
  expect(await namesOf(Id)).toEqual(['/m1']);
});

test("the daemon's default namespace modes and init apply to containers that ask for none [default-namespace-modes]", async () => {
  await using other = await startEngine({
    flags: ['--default-cgroupns-mode=private', '--default-ipc-mode=shareable', '--init'],
  });
  const commandOf = (...args: string[]): Promise<string> =>
    other.dockerOutput('run', '--rm', ...args, 'busybox', 'sh', '-c', 'cat /proc/1/comm; cat /proc/self/cgroup');
  const [first, ...cgroups] = (await commandOf()).trim().split('\n');
  expect(first).toMatch(/init|tini|catatonit/);
  expect(cgroups.every((line) => line.endsWith(':/'))).toBe(true);
  expect(await commandOf('--init=false', '--cgroupns=host')).toMatch(/^sh\n[^]*holdfast/);
  await other.dockerOutput('create', '--name', 'plain', 'busybox', 'true');
  expect((await other.inspect<{ HostConfig: object }>('plain')).HostConfig).toMatchObject({
    IpcMode: 'shareable',
    CgroupnsMode: 'private',
  });
});
