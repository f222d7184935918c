/**
 * What the daemon reports about itself and its host, which modes its files have, and its events. Needs a real daemon
 * on a real host to compare with.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { cpus, hostname, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const get = async <T>(path: string): Promise<T> => (await engine.api('GET', path)).json as T;

test('/info describes this host, and its id survives a daemon kill', async () => {
  const info = await get<Record<string, unknown>>('/info');
  expect(info).toMatchObject({
    Name: hostname(),
    NCPU: cpus().length,
    MemTotal: totalmem(),
    OSType: 'linux',
    Images: 1,
    Containers: 0,
    DefaultRuntime: 'runc',
    CgroupDriver: 'cgroupfs',
  });
  expect(info.KernelVersion).toBe(readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim());
  expect(Object.fromEntries(info.DriverStatus as [string, string][])).toMatchObject({ 'Supports d_type': 'true' });
  expect((info.RegistryConfig as { IndexConfigs: object }).IndexConfigs).toHaveProperty(['docker.io']);
  await engine.kill9();
  await engine.startAgain();
  expect((await get<{ ID: string }>('/info')).ID).toBe(info.ID);
});

test('no other user can read a container’s environment or connect to a shim', async () => {
  const secret = 'correct-horse-battery';
  await engine.dockerOutput('run', '-d', '--name', 'secretive', '-e', `PASSWORD=${secret}`, 'busybox', 'sleep', '1000');
  await engine.dockerOutput('exec', '-d', '-e', `TOKEN=${secret}`, 'secretive', 'sleep', '1000');
  const modeOf = (path: string): number => lstatSync(path).mode & 0o777;
  const files = execFileSync('find', [engine.root, '-xdev', '-type', 'f', '-not', '-empty'], { encoding: 'utf8' })
    .trim()
    .split('\n');
  const withSecret = files.filter((path) => existsSync(path) && readFileSync(path).includes(secret));
  expect(withSecret.some((path) => path.includes('holdfast.db'))).toBe(true);
  expect(withSecret.filter((path) => (modeOf(path) & 0o077) !== 0)).toEqual([]);
  const sockets = execFileSync('find', [engine.root, '-xdev', '-type', 's'], { encoding: 'utf8' }).trim().split('\n');
  expect(sockets.filter((path) => modeOf(path) !== (path === engine.socket ? 0o660 : 0o600))).toEqual([]);
  expect(sockets.length).toBeGreaterThan(2);
  await engine.dockerOutput('rm', '-f', 'secretive');
});

test('the CLI accepts /info and /version', async () => {
  const info = await engine.docker('info').result;
  expect([info.exitCode, info.stderr]).toEqual([0, expect.not.stringContaining('ERROR')]);
  expect(info.stdout).toMatch(/Storage Driver: overlay2\n/);
  const version = await engine.docker('version').result;
  expect(version.exitCode).toBe(0);
  expect(version.stdout).toMatch(/runc:\n\s+Version:\s+\d/);
});

test('lists show sizes on request, and df answers by type', async () => {
  expect(
    (await engine.docker('run', '--name', 'sized', 'busybox', 'sh', '-c', 'head -c 5000 /dev/zero > /x').result)
      .exitCode,
  ).toBe(0);
  const [listed] = await get<{ SizeRw: number; SizeRootFs: number }[]>('/containers/json?all=1&size=1');
  expect(listed!.SizeRw).toBeGreaterThanOrEqual(5000);
  expect(listed!.SizeRootFs).toBeGreaterThan(listed!.SizeRw);
  expect((await get<object[]>('/containers/json?all=1'))[0]).not.toHaveProperty('SizeRw');
  await engine.api('POST', '/volumes/create', { Name: 'vol' });
  const usage = await get<{ Images: unknown; Volumes: { CreatedAt: string; UsageData: object }[] }>(
    '/system/df?type=volume',
  );
  expect(usage).toMatchObject({ Images: null, Volumes: [{ Name: 'vol', UsageData: { RefCount: 0 } }] });
  expect(Number.isNaN(Date.parse(usage.Volumes[0]!.CreatedAt))).toBe(false);
  expect((await engine.docker('system', 'df', '-v').result).exitCode).toBe(0);
  expect(await get('/info')).toMatchObject({ Containers: 1, ContainersStopped: 1 });
  expect((await engine.api('POST', '/volumes/prune', undefined)).json).toEqual({
    VolumesDeleted: [],
    SpaceReclaimed: 0,
  });
  expect((await engine.docker('volume', 'prune', '-a', '-f').result).stdout).toContain('vol');
});

test('restart, top, export and prune emit their events', async () => {
  await engine.docker('run', '-d', '--name', 'looked', '--label', 'looked', 'busybox', 'sleep', '1000').result;
  for (const args of [
    ['top', 'looked'],
    ['export', '-o', join(engine.root, 'looked.tar'), 'looked'],
    ['restart', '-t', '0', 'looked'],
    ['stop', '-t', '0', 'looked'],
    ['container', 'prune', '-f', '--filter', 'label=looked'],
  ]) {
    expect(await engine.docker(...args).result).toMatchObject({ exitCode: 0 });
  }
  const { text } = await engine.api(
    'GET',
    `/events?since=1&until=${Math.ceil(Date.now() / 1000) + 1}&filters=${encodeURIComponent('{"type":["container"]}')}`,
  );
  const events = text
    .trim()
    .split('\n')
    .map(
      (line) =>
        JSON.parse(line) as { Action: string; id?: string; Actor: { ID: string; Attributes: Record<string, string> } },
    );
  expect(
    events.filter((e) => e.Actor.Attributes.name === 'looked' && e.Action !== 'kill').map((e) => e.Action),
  ).toEqual(['create', 'start', 'top', 'export', 'die', 'stop', 'start', 'restart', 'die', 'stop', 'destroy']);
  expect(events.at(-1)).toMatchObject({
    Action: 'prune',
    status: 'prune',
    Actor: { ID: '', Attributes: { reclaimed: '0' } },
  });
  expect(events.at(-1)).not.toHaveProperty('id');
});

test('container prune removes stopped containers and keeps running and paused ones', async () => {
  const made = (name: string, ...command: string[]): Promise<string> =>
    engine.dockerOutput('run', '-d', '--network', 'none', '--label', 'pruned=1', '--name', name, 'busybox', ...command);
  const [running, paused, exited] = [
    await made('stays', 'sleep', '1000'),
    await made('sleeps', 'sleep', '1000'),
    await made('ended', 'true'),
  ].map((id) => id.trim());
  const created = (
    await engine.dockerOutput('create', '--network', 'none', '--label', 'pruned=1', 'busybox', 'true')
  ).trim();
  await engine.dockerOutput('pause', 'sleeps');
  await engine.dockerOutput('wait', 'ended');
  const pruned = await engine.api('POST', `/containers/prune?filters=${encodeURIComponent('{"label":["pruned=1"]}')}`);
  expect([pruned.status, (pruned.json as { ContainersDeleted: string[] }).ContainersDeleted.sort()]).toEqual([
    200,
    [exited, created].sort(),
  ]);
  expect(
    (await engine.dockerOutput('ps', '-aq', '--no-trunc', '--filter', 'label=pruned=1')).trim().split('\n').sort(),
  ).toEqual([running, paused].sort());
  await engine.dockerOutput('rm', '-f', 'stays', 'sleeps');
});

test('exec events name the command and the exit code', async () => {
  await engine.docker('run', '-d', '--name', 'observed', 'busybox', 'sleep', '1000').result;
  expect((await engine.docker('exec', 'observed', 'sh', '-c', 'exit 3').result).exitCode).toBe(3);
  const { text } = await engine.api(
    'GET',
    `/events?since=1&until=${Math.ceil(Date.now() / 1000) + 1}&filters=${encodeURIComponent('{"container":["observed"]}')}`,
  );
  const events = text
    .trim()
    .split('\n')
    .map(
      (line) =>
        JSON.parse(line) as {
          Action: string;
          status: string;
          from: string;
          Actor: { Attributes: Record<string, string> };
        },
    );
  const execs = events.filter((e) => e.Action.startsWith('exec_'));
  expect(execs.map((e) => e.Action)).toEqual(['exec_create: sh -c exit 3', 'exec_start: sh -c exit 3', 'exec_die']);
  expect(execs.at(-1)!.Actor.Attributes).toMatchObject({ exitCode: '3', name: 'observed', image: 'busybox' });
  expect(events.every((e) => e.status === e.Action && e.from === 'busybox')).toBe(true);
});

test('SIGUSR1 and GET /debug/dump show the state of every container', async () => {
  await engine.dockerOutput('run', '-d', '--name', 'dumped', 'busybox', 'sleep', '999');
  const { json } = await engine.api('GET', '/debug/dump');
  const { containers } = json as { containers: { name: string; queued: number; shim: { watched: boolean } }[] };
  expect(containers.find(({ name }) => name === 'dumped')).toMatchObject({
    status: 'running',
    generation: 1,
    final: false,
    queued: 0,
    shim: { watched: true, unresponsive: false },
  });
  process.kill(engine.pid, 'SIGUSR1');
  const dumps = (): string[] => readdirSync(engine.execRoot).filter((file) => file.startsWith('dump-'));
  await until(() => dumps().length === 1);
  expect(readFileSync(join(engine.execRoot, dumps()[0]!), 'utf8')).toContain('"dumped"');
});
