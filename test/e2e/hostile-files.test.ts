/** Files that a container can make to harm the daemon or its host: paths longer than PATH_MAX, planted links. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok, refusal } = dockerOf<{ Id: string }>(() => engine);
const volumeDirectory = (name: string): string => join(engine.root, 'data/volumes', name);

/** Makes directories below `directory` whose path is three times as long as PATH_MAX, with one byte at the end. */
function makeDeep(directory: string): void {
  const script = `
    const { mkdirSync, writeFileSync } = require('node:fs');
    process.chdir(process.argv[1]);
    for (let i = 0; i < 60; i++) {
      mkdirSync('d'.repeat(200));
      process.chdir('d'.repeat(200));
    }
    writeFileSync('bottom', 'x');`;
  execFileSync(process.execPath, ['-e', script, directory]);
}

const volumeNames = async (): Promise<string[]> => {
  const { Volumes } = (await engine.api('GET', '/volumes')).json as { Volumes: { Name: string }[] };
  return Volumes.map(({ Name }) => Name);
};

describe('directories deeper than PATH_MAX', () => {
  const deepVolume = async (name: string): Promise<void> => {
    await ok('volume', 'create', name);
    makeDeep(join(volumeDirectory(name), '_data'));
  };

  test('a volume with them is removed by volume rm, volume prune and rm -v [deep-volume-removed]', async () => {
    await deepVolume('removed');
    await ok('volume', 'rm', 'removed');
    await deepVolume('pruned');
    await ok('volume', 'prune', '--all', '--force');
    const id = await ok('create', '-v', '/v', 'busybox', 'true');
    const [anonymous] = await volumeNames();
    makeDeep(join(volumeDirectory(anonymous!), '_data'));
    await ok('rm', '-v', id);
    expect(await volumeNames()).toEqual([]);
    for (const name of ['removed', 'pruned', anonymous!]) expect(existsSync(volumeDirectory(name))).toBe(false);
  });

  test('a container with them is removed [deep-container-removed]', async () => {
    const id = await ok('create', 'busybox', 'true');
    const directory = join(engine.root, 'data/containers', id);
    makeDeep(join(directory, 'upper'));
    await ok('rm', id);
    expect(existsSync(directory)).toBe(false);
  });

  test('sizes: those of a container and a volume with them are unknown, the others are right [deep-sizes-unknown]', async () => {
    const [deep, plain] = [await ok('create', 'busybox', 'true'), await ok('create', 'busybox', 'true')];
    const upper = (id: string): string => join(engine.root, 'data/containers', id, 'upper');
    makeDeep(upper(deep));
    writeFileSync(join(upper(plain), 'file'), 'content');
    await deepVolume('deep');
    await ok('volume', 'create', 'plain');
    writeFileSync(join(volumeDirectory('plain'), '_data/file'), 'content');

    interface Sized {
      Id: string;
      SizeRw: number;
    }
    interface Usage {
      Containers: Sized[];
      Volumes: { Name: string; UsageData: { Size: number } }[];
    }
    const usage = (await engine.api('GET', '/system/df')).json as Usage;
    const listed = (await engine.api('GET', '/containers/json?all=1&size=1')).json as Sized[];
    const inspected = (await engine.api('GET', `/containers/${deep}/json?size=1`)).json as Sized;
    for (const containers of [usage.Containers, listed])
      expect(Object.fromEntries(containers.map((c) => [c.Id, c.SizeRw]))).toEqual({ [deep]: -1, [plain]: 7 });
    expect(inspected.SizeRw).toBe(-1);
    const sizes = usage.Volumes.map(({ Name, UsageData }) => [Name, UsageData.Size]);
    expect(Object.fromEntries(sizes)).toEqual({ deep: -1, plain: 7 });

    const pruned = (await engine.api('POST', '/containers/prune')).json;
    expect(pruned).toMatchObject({ ContainersDeleted: expect.arrayContaining([deep, plain]), SpaceReclaimed: 7 });
    const volumes = (await engine.api('POST', '/volumes/prune?filters={"all":["1"]}')).json;
    expect(volumes).toMatchObject({ VolumesDeleted: ['deep', 'plain'], SpaceReclaimed: 7 });
  });

  test('the next daemon finishes the removal of a volume with them [deep-removal-finished]', async () => {
    await deepVolume('interrupted');
    await engine.stop();
    await engine.startAgain({ HOLDFAST_FAULT: 'volume.removing' });
    await expect(engine.api('DELETE', '/volumes/interrupted')).rejects.toThrow();
    await until(() => engine.isDead());
    expect(existsSync(volumeDirectory('interrupted'))).toBe(true);
    await engine.startAgain();
    await until(() => !existsSync(volumeDirectory('interrupted')));
    expect(await volumeNames()).toEqual([]);
  });
});

describe('a volume that cannot be removed', () => {
  const immutable = (name: string): string => join(volumeDirectory(name), '_data/file');
  beforeAll(async () => {
    await ok('volume', 'create', 'stuck');
    writeFileSync(immutable('stuck'), '');
    execFileSync('chattr', ['+i', immutable('stuck')]);
  });
  afterAll(() => {
    if (existsSync(immutable('stuck'))) execFileSync('chattr', ['-i', immutable('stuck')]);
  });

  test('stays and says why [volume-irremovable]', async () => {
    expect(await refusal('volume', 'rm', 'stuck')).toContain('Operation not permitted');
    expect(await volumeNames()).toEqual(['stuck']);
  });

  test('does not keep the daemon from starting, and can be removed when its cause is gone [volume-irremovable-start]', async () => {
    await engine.stop();
    await engine.startAgain({ HOLDFAST_FAULT: 'volume.removing' });
    await expect(engine.api('DELETE', '/volumes/stuck')).rejects.toThrow();
    await until(() => engine.isDead());
    await engine.startAgain();
    await until(async () => (await volumeNames()).includes('stuck'));
    expect(await ok('run', '--rm', 'busybox', 'echo', 'works')).toBe('works');
    execFileSync('chattr', ['-i', immutable('stuck')]);
    await ok('volume', 'rm', 'stuck');
    expect(await volumeNames()).toEqual([]);
  });
});

test('a working directory behind a link is made inside the container, whatever the host has there [working-directory-link]', async () => {
  const host = join(engine.root, 'host');
  mkdirSync(join(host, 'w'), { recursive: true });
  await ok(
    'run',
    '--name',
    'linked',
    'busybox',
    'sh',
    '-c',
    `mkdir -p ${host} && ln -s ${host} /out && ln -s ../no/such /etc/dangling`,
  );
  await ok('commit', '--change', 'WORKDIR /etc/dangling/w', 'linked', 'behind-link');
  expect(await ok('run', '--rm', 'behind-link', 'pwd')).toBe('/no/such/w');
  await ok('commit', '--change', 'WORKDIR /out/w', 'linked', 'behind-link');
  await ok('create', '--name', 'unstarted', 'behind-link', 'ls');
  await ok('cp', join(engine.root, 'log'), 'unstarted:/out/w/copied');
  expect(await ok('start', '-a', 'unstarted')).toBe('copied');
  expect(readdirSync(join(host, 'w'))).toEqual([]);
});

test('a data root that exists is closed to other users [data-root-closed]', async () => {
  const data = join(engine.root, 'data');
  await engine.stop();
  chmodSync(data, 0o755);
  await engine.startAgain();
  expect(statSync(data).mode & 0o777).toBe(0o710);
});
