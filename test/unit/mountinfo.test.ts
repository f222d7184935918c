/** The mount table and the cgroup hierarchies in it. */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cgroupHierarchies, cgroupLayout, isUnified } from '../../src/sys/cgroupfs.ts';
import {
  isMountPoint,
  mountContaining,
  mountsOfType,
  mountsUnder,
  parseMounts,
  readMountTable,
} from '../../src/sys/mountinfo.ts';

const table = (...lines: string[]): string => `${lines.join('\n')}\n`;

const ROOT = '29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro';

test('every field of a line is read', () => {
  const [mount] = parseMounts(
    table(
      '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue', // the example of proc(5)
    ),
  );
  expect(mount).toEqual({
    id: 36,
    parent: 35,
    device: '98:0',
    root: '/mnt1',
    point: '/mnt2',
    options: ['rw', 'noatime'],
    propagation: { master: 1 },
    type: 'ext3',
    source: '/dev/root',
    superOptions: ['rw', 'errors=continue'],
  });
});

test('any number of optional fields, also unknown ones, may come before the separator', () => {
  const propagation = parseMounts(
    table(
      ROOT,
      '100 29 0:50 / /a rw - tmpfs tmpfs rw',
      '101 29 0:51 / /b rw shared:7 master:3 propagate_from:2 - tmpfs tmpfs rw',
      '102 29 0:52 / /c rw unbindable - tmpfs tmpfs rw',
      '103 29 0:53 / /d rw novel:1 shared:9 - tmpfs tmpfs rw',
    ),
  ).map((mount) => mount.propagation);
  expect(propagation).toEqual([
    { shared: 1 },
    {},
    { shared: 7, master: 3, propagateFrom: 2 },
    { unbindable: true },
    { shared: 9 },
  ]);
});

test('an empty source is read as one, and does not shift the fields behind it', () => {
  expect(parseMounts(table('24 29 0:22 / /proc rw - proc  rw'))[0]).toMatchObject({
    type: 'proc',
    source: '',
    superOptions: ['rw'],
  });
});

test('octal escapes are decoded: space, tab, newline and backslash', () => {
  const [mount] = parseMounts(
    table(String.raw`50 29 0:40 /a\040b /mnt/with\040space\011tab\012line\134back rw - tmpfs no\040name rw`),
  );
  expect(mount).toMatchObject({ root: '/a b', point: '/mnt/with space\ttab\nline\\back', source: 'no name' });
});

test('paths are UTF-8; with latin1 they keep one character per byte', () => {
  const line = table(Buffer.from('50 29 0:40 / /mnt/größe rw - tmpfs tmpfs rw').toString('latin1'));
  expect(parseMounts(line)[0]!.point).toBe('/mnt/größe');
  expect(Buffer.from(parseMounts(line, 'latin1')[0]!.point, 'latin1').toString()).toBe('/mnt/größe');
  expect(mountsUnder('/mnt/größe', line)).toEqual(['/mnt/größe']);
  expect(isMountPoint('/mnt/größe', line)).toBe(true);
});

test('mounts under a directory come deepest first, without neighbours whose names begin alike', () => {
  const mounts = table(
    ROOT,
    '60 29 0:60 / /run/c/ab rw - tmpfs tmpfs rw',
    '61 60 0:61 / /run/c/ab/rootfs rw - overlay overlay rw,lowerdir=/l',
    '62 61 0:62 / /run/c/ab/rootfs/a\\040b rw - tmpfs tmpfs rw',
    '63 29 0:63 / /run/c/abc rw - tmpfs tmpfs rw',
  );
  expect(mountsUnder('/run/c/ab', mounts)).toEqual(['/run/c/ab/rootfs/a b', '/run/c/ab/rootfs', '/run/c/ab']);
  expect(mountsUnder('/run/c/none', mounts)).toEqual([]);
  expect(isMountPoint('/run/c/ab/rootfs', mounts)).toBe(true);
  expect(isMountPoint('/run/c/ab/roo', mounts)).toBe(false);
});

test('a path lies on the deepest mount that contains it, and on the last one of those on the same point', () => {
  const mounts = table(
    ROOT,
    '60 29 0:60 / /srv rw,noexec - tmpfs tmpfs rw',
    '61 60 0:61 / /srv rw,nodev shared:5 - tmpfs tmpfs rw',
    '62 29 0:62 / /srv-other rw - tmpfs tmpfs rw',
  );
  expect(mountContaining('/srv/data', mounts)).toMatchObject({ id: 61, propagation: { shared: 5 } });
  expect(mountContaining('/srv', mounts)!.id).toBe(61);
  expect(mountContaining('/srvx', mounts)!.point).toBe('/');
  expect(mountContaining('/x', '')).toBeUndefined();
});

test('the own table is readable, and a new directory is no mount point', () => {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'mountinfo-')));
  try {
    expect(isMountPoint(directory)).toBe(false);
    expect(mountsUnder(directory)).toEqual([]);
    expect(mountsOfType('proc').map(({ point }) => point)).toContain('/proc');
    expect(parseMounts(readMountTable()).every(({ id, type }) => id > 0 && type !== '')).toBe(true);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

const V2 = '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot';
const V1 = [
  '31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct',
  '32 30 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory',
  '33 30 0:29 / /sys/fs/cgroup/systemd rw,nosuid shared:12 - cgroup cgroup rw,xattr,name=systemd',
];
const UNIFIED = '34 30 0:30 / /sys/fs/cgroup/unified rw,nosuid shared:13 - cgroup2 cgroup2 rw,nsdelegate';

test('v2 is one hierarchy without controllers of its own', () => {
  const found = cgroupHierarchies(table(ROOT, V2));
  expect(found).toEqual([{ mountPoint: '/sys/fs/cgroup', controllers: [] }]);
  expect(cgroupLayout(found)).toBe('v2');
});

test('v1 and hybrid hosts have a hierarchy per group of controllers', () => {
  const found = cgroupHierarchies(table(ROOT, ...V1));
  expect(found).toEqual([
    { mountPoint: '/sys/fs/cgroup/cpu,cpuacct', controllers: ['cpu', 'cpuacct'] },
    { mountPoint: '/sys/fs/cgroup/memory', controllers: ['memory'] },
    { mountPoint: '/sys/fs/cgroup/systemd', controllers: ['xattr', 'name=systemd'] },
  ]);
  expect(cgroupLayout(found)).toBe('v1');
  const hybrid = cgroupHierarchies(table(ROOT, ...V1, UNIFIED));
  expect(cgroupLayout(hybrid)).toBe('hybrid');
  expect(hybrid.find(isUnified)!.mountPoint).toBe('/sys/fs/cgroup/unified');
});

test('a host without cgroups counts as v2', () => {
  expect(cgroupLayout(cgroupHierarchies(table(ROOT)))).toBe('v2');
});
