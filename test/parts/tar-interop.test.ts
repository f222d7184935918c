/** The tar codec against GNU tar: each reads what the other writes. */
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
  linkSync,
  symlinkSync,
  lstatSync,
  readFileSync,
  readlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TarEntry } from '../../src/engine/images/tar.ts';
import { TarReader } from '../../src/engine/images/tar-reader.ts';
import { newEntry } from '../../src/engine/images/tar-writer.ts';
import { archive, read } from '../support/tar.ts';
import { getXattr, setXattr } from '../support/xattr.ts';

const home = mkdtempSync(join(tmpdir(), 'holdfast-tar-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe('archives of GNU tar are read', () => {
  const tree = join(home, 'tree');
  const long = `${'d'.repeat(90)}/${'e'.repeat(90)}/${'f'.repeat(120)}`;
  const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
  beforeAll(() => {
    mkdirSync(join(tree, long, '..'), { recursive: true });
    writeFileSync(join(tree, 'hello'), 'hello\n');
    writeFileSync(join(tree, 'empty'), '');
    writeFileSync(join(tree, 'Grüße.txt'), 'UTF-8');
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0x62, 0xff, 0xfe])]), 'no UTF-8');
    writeFileSync(join(tree, 'suid'), 'x', { mode: 0o755 });
    execFileSync('chmod', ['4755', join(tree, 'suid')]);
    writeFileSync(join(tree, long), Buffer.alloc(1000, 'z'));
    linkSync(join(tree, 'hello'), join(tree, 'linked'));
    symlinkSync('hello', join(tree, 'soft'));
    symlinkSync('t'.repeat(150), join(tree, 'longsoft'));
    execFileSync('mknod', [join(tree, 'null'), 'c', '1', '3']);
    execFileSync('mknod', [join(tree, 'disk'), 'b', '8', '17']);
    execFileSync('mkfifo', [join(tree, 'fifo')]);
    execFileSync('chown', ['300000:4000000', join(tree, 'hello')]);
    execFileSync('touch', ['-d', '2001-02-03T04:05:06.789012345Z', join(tree, 'suid')]);
    writeFileSync(join(tree, 'able'), 'x');
    setXattr(join(tree, 'able'), 'security.capability', capability);
  });

  test.each(['gnu', 'pax', 'posix', 'ustar', 'oldgnu'])('%s [tar-formats-read]', (format) => {
    // ustar has no room for long names, large ids and fractions.
    const small =
      format === 'ustar' ? ['--exclude=ddd*', '--exclude=longsoft', '--exclude=hello', '--exclude=linked'] : [];
    const archive = execFileSync(
      'tar',
      ['-C', tree, `--format=${format}`, '--xattrs', '--xattrs-include=*', '--sort=name', ...small, '-c', '.'].filter(
        (a) => format === 'pax' || format === 'posix' || !a.startsWith('--xattrs'),
      ),
      { maxBuffer: 1 << 26 },
    );
    for (const step of [1 << 20, 700, 511]) {
      const found = new Map(read(archive, step).map((each) => [each.entry.path.replace(/^\.\//, ''), each]));
      const entry = (name: string): TarEntry => found.get(Buffer.from(name).toString('latin1'))!.entry;
      expect(found.get(Buffer.from('Grüße.txt').toString('latin1'))!.body.toString()).toBe('UTF-8');
      expect(found.get('b\xff\xfe')!.body.toString()).toBe('no UTF-8');
      expect(entry('suid')).toMatchObject({ type: 'file', mode: 0o4755, size: 1 });
      expect(entry('soft')).toMatchObject({ type: 'symlink', link: Buffer.from('hello') });
      expect(entry('null')).toMatchObject({ type: 'character', major: 1, minor: 3 });
      expect(entry('disk')).toMatchObject({ type: 'block', major: 8, minor: 17 });
      expect(entry('fifo')).toMatchObject({ type: 'fifo', size: 0 });
      expect(entry('')).toMatchObject({ type: 'directory' });
      if (format === 'ustar') continue;
      expect(entry('hello')).toMatchObject({ type: 'file', uid: 300_000, gid: 4_000_000, size: 6 });
      expect(entry('linked')).toMatchObject({ type: 'hardlink', link: Buffer.from('./hello'), size: 0 });
      expect(entry('longsoft').link.toString()).toBe('t'.repeat(150));
      expect(found.get(long)!.body).toHaveLength(1000);
      if (format === 'pax' || format === 'posix') {
        expect(entry('suid').mtime).toBe(981_173_106_789_012_345n);
        expect(entry('able').xattrs.get('security.capability')).toEqual(capability);
      }
    }
  });

  test('with a file of over 8 GiB, in base-256 and in pax [tar-8-gib]', () => {
    writeFileSync(join(home, 'big'), '');
    execFileSync('truncate', ['-s', '9G', join(home, 'big')]);
    for (const format of ['gnu', 'pax']) {
      const head = execFileSync('sh', ['-c', `tar -C ${home} --format=${format} -c big | head -c 20000`], {
        maxBuffer: 1 << 26,
      });
      const entries: TarEntry[] = [];
      const reader = new TarReader({
        entry: (entry) => entries.push(entry),
        data: () => undefined,
        end: () => undefined,
        meta: () => undefined,
      });
      reader.push(head);
      expect(entries.map(({ size }) => size)).toEqual([9 * 2 ** 30]);
      expect(() => reader.end()).toThrow(/unexpected EOF within "big": \d+ of its 9663676416 bytes are missing/);
    }
  });

  test.each([['gnu'], ['pax'], ['pax', '--sparse-version=0.0'], ['pax', '--sparse-version=0.1']])(
    'sparse files are rejected by name (%s %s) [tar-sparse-refused]',
    (format, ...rest) => {
      writeFileSync(join(home, 'holes'), '');
      execFileSync('truncate', ['-s', '1M', join(home, 'holes')]);
      const archive = execFileSync('tar', ['-C', home, `--format=${format}`, ...rest, '--sparse', '-c', 'holes'], {
        maxBuffer: 1 << 26,
      });
      expect(() => read(archive)).toThrow(/sparse file "[^"]*holes"/);
    },
  );
});

test('archives that we write are read by GNU tar [tar-written-readable]', () => {
  const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
  const long = `${'a'.repeat(120)}/${'b'.repeat(200)}`;
  const name = Buffer.concat([Buffer.from('caf'), Buffer.from([0xe9])]);
  const entries = [
    { entry: newEntry('directory', 'd', { mode: 0o1777, mtime: 1_000_000_000n * 1_000_000_000n }) },
    {
      entry: newEntry('file', 'd/f', {
        size: 5,
        uid: 3_000_000,
        gid: 70_000,
        mode: 0o640,
        mtime: 1_234_567_890_123_456_789n,
        xattrs: new Map([
          ['security.capability', capability],
          ['user.empty', Buffer.alloc(0)],
        ]),
      }),
      body: Buffer.from('12345'),
    },
    { entry: newEntry('hardlink', 'd/h', { link: Buffer.from('d/f') }) },
    { entry: newEntry('symlink', 'd/s', { link: Buffer.from('x'.repeat(300)) }) },
    { entry: newEntry('character', 'd/c', { major: 5, minor: 1 }) },
    { entry: newEntry('fifo', 'd/p') },
    { entry: newEntry('file', long, { size: 3 }), body: Buffer.from('abc') },
    { entry: newEntry('file', name, { size: 1 }), body: Buffer.from('x') },
    { entry: newEntry('file', `${'p'.repeat(150)}/${'n'.repeat(99)}`, { size: 1 }), body: Buffer.from('y') },
  ];
  const target = join(home, 'out');
  mkdirSync(target);
  execFileSync('tar', ['-C', target, '--xattrs', '--xattrs-include=*', '-xp'], { input: archive(...entries) });
  expect(lstatSync(join(target, 'd')).mode & 0o7777).toBe(0o1777);
  expect(lstatSync(join(target, 'd/f'), { bigint: true })).toMatchObject({
    uid: 3_000_000n,
    gid: 70_000n,
    nlink: 2n,
    mtimeNs: 1_234_567_890_123_456_789n,
  });
  expect(getXattr(join(target, 'd/f'), 'security.capability')).toEqual(capability);
  expect(getXattr(join(target, 'd/f'), 'user.empty')).toEqual(Buffer.alloc(0));
  expect(readlinkSync(join(target, 'd/s'))).toBe('x'.repeat(300));
  expect(lstatSync(join(target, 'd/c')).rdev).toBe(0x501);
  expect(lstatSync(join(target, 'd/p')).isFIFO()).toBe(true);
  expect(readFileSync(join(target, long), 'utf8')).toBe('abc');
  expect(readFileSync(Buffer.concat([Buffer.from(`${target}/`), name]), 'utf8')).toBe('x');
  expect(readFileSync(join(target, 'p'.repeat(150), 'n'.repeat(99)), 'utf8')).toBe('y');
});
