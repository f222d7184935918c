/** Volumes with mounts and owners, which need root. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { until } from '../support/until.ts';
import { useVolumes, volumeRequest as request } from '../support/volume-fixture.ts';
import type { Volume, Volumes } from '../../src/engine/volumes/volumes.ts';
import { mount, MS, unmount } from '../../src/sys/mount.ts';

/** Waits for the first file in a directory, and then plants links at the names of those that will follow. */
const PLANTER = `
  const { readdirSync, symlinkSync } = require('node:fs');
  const [, device, target, files] = process.argv;
  process.chdir(device);
  console.log('ready');
  while (readdirSync('.').length === 0);
  for (let i = files - 1; i >= files / 2; i--) {
    try {
      symlinkSync(target, 'f' + i);
    } catch {}
  }`;

let directory: string;
let root: string;
let volumes: Volumes;
useVolumes((fixture) => ({ directory, root, volumes } = fixture));

describe('remove', () => {
  test('never deletes what is mounted inside the volume', async () => {
    const volume = await volumes.create(request('data'));
    const precious = join(directory, 'precious');
    mkdirSync(precious);
    writeFileSync(join(precious, 'file'), 'x');
    mount(precious, volume.mountpoint, null, MS.BIND);
    await volumes.remove('data', { force: false });
    expect(readdirSync(precious)).toEqual(['file']);
    expect(existsSync(join(root, 'data'))).toBe(false);
  });
});

describe('copy-up', () => {
  let rootfs: string;
  beforeEach(() => {
    rootfs = join(directory, 'rootfs');
    mkdirSync(join(rootfs, 'srv/deep'), { recursive: true });
    writeFileSync(join(rootfs, 'srv/file'), 'content', { mode: 0o640 });
    chownSync(join(rootfs, 'srv'), 33, 34);
    chownSync(join(rootfs, 'srv/file'), 1000, 1001);
    symlinkSync('/etc/passwd', join(rootfs, 'srv/link'));
    symlinkSync('/srv', join(rootfs, 'absolute'));
    symlinkSync('../../../../../../etc', join(rootfs, 'escape'));
  });
  const fill = async (destination: string, name = 'data'): Promise<string> => {
    const volume = await volumes.create(request(name));
    await volumes.copyUp(volume, rootfs, destination);
    return volume.mountpoint;
  };

  test('copies content, owners, modes and links [copy-up-metadata]', async () => {
    const data = await fill('/srv');
    expect(readdirSync(data).sort()).toEqual(['deep', 'file', 'link']);
    expect(readFileSync(join(data, 'file'), 'utf8')).toBe('content');
    expect(lstatSync(join(data, 'file'))).toMatchObject({ uid: 1000, gid: 1001, mode: 0o100640 });
    expect(readlinkSync(join(data, 'link'))).toBe('/etc/passwd');
    expect(lstatSync(data)).toMatchObject({ uid: 33, gid: 34 });
    expect(readdirSync(join(data, '..'))).toEqual(['_data']);
  });

  test('takes over owner and mode of an empty directory', async () => {
    mkdirSync(join(rootfs, 'empty'), { mode: 0o700 });
    chownSync(join(rootfs, 'empty'), 5, 6);
    expect(lstatSync(await fill('/empty'))).toMatchObject({ uid: 5, gid: 6, mode: 0o40700 });
  });

  test('follows links inside the image, not out of it [copy-up-links]', async () => {
    expect(readdirSync(await fill('/absolute', 'inside')).length).toBe(3);
    expect(readdirSync(await fill('/escape', 'outside'))).toEqual([]);
  });

  test('skips volumes with content, and paths where the image has none [copy-up-skipped]', async () => {
    const volume = await volumes.create(request('data'));
    writeFileSync(join(volume.mountpoint, 'mine'), '');
    await fill('/srv');
    expect(readdirSync(volume.mountpoint)).toEqual(['mine']);
    expect(readdirSync(await fill('/missing', 'none'))).toEqual([]);
    expect(readdirSync(await fill('/srv/file', 'file'))).toEqual([]);
  });

  test('keeps the data directory itself, as it may be mounted already', async () => {
    const volume = await volumes.create(request('data'));
    const before = lstatSync(volume.mountpoint).ino;
    await fill('/srv');
    expect(lstatSync(volume.mountpoint).ino).toBe(before);
  });

  describe('into a volume with a device, which others may write to', () => {
    const FILES = 600;
    const shared = async (): Promise<{ device: string; volume: Volume }> => {
      const device = join(directory, 'device');
      mkdirSync(device);
      const volume = await volumes.create(request('data', { options: { type: 'none', o: 'bind', device } }));
      return { device, volume };
    };

    test('copies content, owners, modes and links as they are', async () => {
      const { device, volume } = await shared();
      await volumes.copyUp(volume, rootfs, '/srv');
      expect(readdirSync(device).sort()).toEqual(['deep', 'file', 'link']);
      expect(lstatSync(join(device, 'file'))).toMatchObject({ uid: 1000, gid: 1001, mode: 0o100640 });
      expect(readlinkSync(join(device, 'link'))).toBe('/etc/passwd');
      expect(lstatSync(device)).toMatchObject({ uid: 33, gid: 34 });
    });

    test('writes through no link that another process plants meanwhile [copy-up-planted-link]', async () => {
      const { device, volume } = await shared();
      const many = join(rootfs, 'many');
      mkdirSync(many);
      for (let i = 0; i < FILES; i++) writeFileSync(join(many, `f${i}`), 'from the image');
      const outside = join(directory, 'outside');
      writeFileSync(outside, 'precious');
      /** Whether the planter was faster than the copy for at least one file. */
      const race = async (): Promise<boolean> => {
        for (const name of readdirSync(device)) rmSync(join(device, name));
        const planter = spawn(process.execPath, ['-e', PLANTER, device, outside, String(FILES)]);
        const ended = once(planter, 'exit');
        await once(planter.stdout, 'data');
        // It may fail over what is in its way.
        await volumes.copyUp(volume, rootfs, '/many').catch(() => undefined);
        expect(await ended).toEqual([0, null]);
        expect(readFileSync(outside, 'utf8')).toBe('precious');
        return readdirSync(device).some((name) => lstatSync(join(device, name)).isSymbolicLink());
      };
      await until(race, 30_000);
    });
  });
});

test('a device is mounted once and unmounted when the volume is removed', async () => {
  const source = join(directory, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'file'), '');
  const volume = await volumes.create(request('data', { options: { type: 'none', o: 'bind', device: source } }));
  await volumes.mount(volume, 'c1');
  await volumes.mount(volume, 'c1');
  expect(readdirSync(volume.mountpoint)).toEqual(['file']);
  await volumes.remove('data', { force: false });
  expect(readdirSync(source)).toEqual(['file']);
  expect(unmount(volume.mountpoint)).toBe(false);
});

test('a device that cannot be mounted fails with the reason', async () => {
  const volume = await volumes.create(request('data', { options: { type: 'none', o: 'bind', device: '/no/such' } }));
  await expect(volumes.mount(volume, 'c1')).rejects.toThrow('_data, flags: 0x1000: no such file or directory');
});
