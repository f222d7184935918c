import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  linkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { InvalidParameter, SystemFault } from '../../src/model/errors.ts';
import type { Layer } from '../../src/engine/images/layers.ts';
import { checksum } from '../../src/engine/images/tar.ts';
import { bodyPadding, encodeHeader, newEntry, TRAILER } from '../../src/engine/images/tar-writer.ts';
import { getXattr, listXattrs, setXattr } from '../support/xattr.ts';
import { imageFixture, type ImageFixture, useImageFixture } from '../support/image-fixture.ts';
import { archive, digestOf, directory, hardlink, type Item, symlink } from '../support/tar.ts';

let at: ImageFixture;
useImageFixture((own) => (at = own));

const filesOf = (layer: Layer): string => at.layers.directory(layer);
const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');

/** Everything that rsync would compare. */
function listing(root: string): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  const walk = (path: string): void => {
    const s = lstatSync(join(root, path), { bigint: true });
    const xattrs = Object.fromEntries(
      listXattrs(join(root, path)).map((name) => [name, getXattr(join(root, path), name)?.toString('hex')]),
    );
    found[path] = {
      mode: s.mode.toString(8),
      uid: s.uid,
      gid: s.gid,
      rdev: s.rdev,
      nlink: s.isDirectory() ? 0n : s.nlink,
      size: s.isDirectory() ? 0n : s.size,
      mtime: s.mtimeNs,
      xattrs,
      text: s.isFile() ? readFileSync(join(root, path), 'latin1') : '',
    };
    if (s.isDirectory()) for (const name of readdirSync(join(root, path))) walk(join(path, name));
  };
  walk('.');
  return found;
}

/** The archive that a layer's recipe rebuilds. */
async function rebuilt(layer: Layer): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of at.layers.archive(layer)) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

describe('an archive of GNU tar unpacks to the same tree', () => {
  let tree: string;
  beforeAll(() => {
    tree = mkdtempSync(join(tmpdir(), 'holdfast-tree-'));
    mkdirSync(join(tree, 'etc/deep/er'), { recursive: true });
    writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\n');
    writeFileSync(join(tree, 'big'), Buffer.alloc(3_000_001, 'abcdefg'));
    writeFileSync(join(tree, 'suid'), 'x');
    chownSync(join(tree, 'suid'), 300_000, 4_000_000);
    chmodSync(join(tree, 'suid'), 0o6755);
    writeFileSync(join(tree, 'able'), 'x');
    setXattr(join(tree, 'able'), 'security.capability', capability);
    setXattr(join(tree, 'etc'), 'user.name', Buffer.from([0, 255, 10, 61]));
    linkSync(join(tree, 'etc/passwd'), join(tree, 'etc/deep/er/linked'));
    symlinkSync('/absolute/../x', join(tree, 'soft'));
    execFileSync('mknod', [join(tree, 'null'), 'c', '1', '3']);
    execFileSync('mknod', [join(tree, 'disk'), 'b', '259', '300000']);
    execFileSync('mkfifo', [join(tree, 'fifo')]);
    execFileSync('chown', ['-h', '1:2', join(tree, 'soft')]);
    execFileSync('touch', ['-h', '-d', '2001-02-03T04:05:06.789012345Z', join(tree, 'soft'), join(tree, 'able')]);
    chmodSync(join(tree, 'etc'), 0o2710);
    utimesSync(join(tree, 'etc'), 1_000_000_000, 1_000_000_001);
    execFileSync('sh', [
      '-c',
      `touch "${tree}/name with
newline"`,
    ]);
  });
  afterAll(() => rmSync(tree, { recursive: true, force: true }));

  test('with owners, modes, times, xattrs, devices and links; digest and size match, and the recipe rebuilds the archive [unpack-metadata]', async () => {
    const bytes = execFileSync('tar', ['-C', tree, '--format=pax', '--xattrs', '--xattrs-include=*', '-c', '.'], {
      maxBuffer: 1 << 26,
    });
    const layer = await at.unpack(bytes);
    expect(listing(filesOf(layer))).toEqual(listing(tree));
    expect(layer.diffId).toBe(digestOf(bytes));
    expect(layer.chainId).toBe(layer.diffId);
    expect(layer.size).toBe(22 + 3_000_001 + 1 + 1 + '/absolute/../x'.length);
    expect((await rebuilt(layer)).equals(bytes)).toBe(true);
  });

  test.each(['gzip', 'bzip2', 'xz', 'zstd'])('when compressed with %s and received in pieces', async (program) => {
    const bytes = execFileSync('tar', ['-C', tree, '--exclude=big', '-c', '.']);
    const packed = execFileSync(program, ['-c'], { input: bytes });
    const pieces = Array.from({ length: Math.ceil(packed.length / 3) }, (_, i) => packed.subarray(3 * i, 3 * i + 3));
    const layer = await at.unpack(Readable.from(pieces));
    expect(layer.diffId).toBe(digestOf(bytes));
    expect(readFileSync(join(filesOf(layer), 'etc/passwd'), 'utf8')).toContain('root');
    // A truncated archive is an error.
    await expect(at.unpack(packed.subarray(0, -10))).rejects.toThrow(/data is broken|unexpected end/);
    expect(at.layerRows.all()).toHaveLength(1);
  });

  test('with names that are not UTF-8', async () => {
    const odd = Buffer.from([0x64, 0xff, 0xfe]);
    const entries: Item[] = [
      { entry: newEntry('directory', odd) },
      {
        entry: newEntry('file', Buffer.concat([odd, Buffer.from('/f\xe9', 'latin1')]), {
          size: 1,
          xattrs: new Map([['user.x', Buffer.from('y')]]),
          mtime: 5n,
        }),
        body: Buffer.from('z'),
      },
    ];
    const layer = await at.unpack(archive(...entries));
    const path = Buffer.concat([Buffer.from(`${filesOf(layer)}/`), odd, Buffer.from('/f\xe9', 'latin1')]);
    expect(lstatSync(path, { bigint: true }).mtimeNs).toBe(5n);
    expect((await rebuilt(layer)).equals(archive(...entries))).toBe(true);
  });
});

describe('whiteouts', () => {
  const isWhiteout = (path: string): boolean => lstatSync(path).isCharacterDevice() && lstatSync(path).rdev === 0;
  const isOpaque = (path: string): boolean => getXattr(path, 'trusted.overlay.opaque')?.toString() === 'y';

  test('hide files, make directories opaque, and leave out files of aufs [whiteouts-applied]', async () => {
    const layer = await at.unpack(
      archive(
        directory('d'),
        ['d/.wh.gone', ''],
        directory('e'),
        ['e/.wh..wh..opq', ''],
        ['e/new', 'x'],
        ['.wh..wh.aufs', 'x'],
        directory('.wh..wh.plnk'),
        ['.wh..wh.plnk/1.2', 'x'],
        ['missing/.wh..wh..opq', ''],
      ),
    );
    expect(isWhiteout(join(filesOf(layer), 'd/gone'))).toBe(true);
    expect(isOpaque(join(filesOf(layer), 'e')) && isOpaque(join(filesOf(layer), 'missing'))).toBe(true);
    expect(isOpaque(join(filesOf(layer), 'd'))).toBe(false);
    expect(readdirSync(filesOf(layer)).sort()).toEqual(['d', 'e', 'missing']);
    expect(digestOf(await rebuilt(layer))).toBe(layer.diffId);
  });

  test('keep an entry of the same name, in either order, and hide what was below it [whiteout-beside-entry]', async () => {
    const before = filesOf(
      await at.unpack(
        archive(['.wh.d', ''], directory('d'), ['d/x', ''], ['.wh.f', ''], ['f', 'new'], ['.wh.p', ''], ['p/x', '']),
      ),
    );
    const after = filesOf(
      await at.unpack(archive(directory('d'), ['d/x', ''], ['.wh.d', ''], ['f', 'new'], ['.wh.f', ''])),
    );
    for (const root of [before, after]) {
      expect(isOpaque(join(root, 'd'))).toBe(true);
      expect(readFileSync(join(root, 'f'), 'utf8')).toBe('new');
    }
    expect(isOpaque(join(before, 'p'))).toBe(true);
  });

  test.each(['.wh.', '.wh..', '.wh...', 'd/.wh...'])(
    'named %s are rejected: they hide nothing [whiteout-empty-name]',
    async (name) => {
      await expect(at.unpack(archive(directory('d'), [name, '']))).rejects.toThrow(
        `invalid archive: ${JSON.stringify(name)}: a whiteout of nothing`,
      );
    },
  );

  test('cannot be set through overlayfs attributes of an archive [overlay-marks-refused]', async () => {
    const layer = await at.unpack(
      archive({
        entry: newEntry('directory', 'd', {
          xattrs: new Map([
            ['trusted.overlay.redirect', Buffer.from('/etc')],
            ['trusted.other', Buffer.from('1')],
          ]),
        }),
      }),
    );
    expect(listXattrs(join(filesOf(layer), 'd'))).toEqual(['trusted.other']);
  });
});

describe('colliding entries', () => {
  test('the later one wins; directories are merged', async () => {
    const made = archive(
      ['f', 'old'],
      ['f', 'new!'],
      directory('d', { mode: 0o700 }),
      ['d/x', 'x'],
      directory('d', { mode: 0o711, mtime: 7_000_000_000n }),
      ['t', ''],
      directory('t'),
      ['t/y', 'y'],
      directory('gone'),
      ['gone/z', '12345'],
      ['gone', '1'],
      symlink('s', 'f'),
      ['s', 'own'],
    );
    const layer = await at.unpack(made);
    const root = filesOf(layer);
    expect(readFileSync(join(root, 'f'), 'utf8')).toBe('new!');
    expect(lstatSync(join(root, 'd')).mode & 0o7777).toBe(0o711);
    expect(lstatSync(join(root, 'd')).mtimeMs).toBe(7000);
    expect(readdirSync(join(root, 'd'))).toEqual(['x']);
    expect(readFileSync(join(root, 't/y'), 'utf8')).toBe('y');
    expect(lstatSync(join(root, 'gone')).isFile()).toBe(true);
    // Not written through the link.
    expect(readFileSync(join(root, 's'), 'utf8')).toBe('own');
    expect(layer.size).toBe(4 + 1 + 1 + 1 + 3);
    // The replaced file is kept aside, so that the archive can be rebuilt.
    expect((await rebuilt(layer)).equals(made)).toBe(true);
  });

  test('a directory that no entry names takes its attributes from the layers below', async () => {
    const base = await at.unpack(
      archive(
        directory('tmp', { mode: 0o1777, uid: 5 }),
        directory('a', { mode: 0o750 }),
        directory('a/b', { mode: 0o701, gid: 9 }),
        symlink('link', '/etc'),
        directory('hidden', { mode: 0o700 }),
      ),
    );
    const middle = await at.unpack(archive(['.wh.hidden', '']), [base.chainId]);
    const top = await at.unpack(archive(['tmp/f', ''], ['a/b/c/f', ''], ['link/f', ''], ['hidden/f', '']), [
      base.chainId,
      middle.chainId,
    ]);
    const mode = (name: string): string => (lstatSync(join(filesOf(top), name)).mode & 0o7777).toString(8);
    expect([mode('tmp'), mode('a'), mode('a/b'), mode('a/b/c'), mode('link'), mode('hidden')]).toEqual([
      '1777',
      '750',
      '701',
      '755',
      '755',
      '755',
    ]);
    expect(lstatSync(join(filesOf(top), 'tmp')).uid).toBe(5);
    expect(lstatSync(join(filesOf(top), 'a/b')).gid).toBe(9);
    expect(lstatSync(join(filesOf(top), 'hidden')).isDirectory()).toBe(true);
  });
});

describe('an archive of any form is rebuilt byte for byte', () => {
  const big = (letter: string): string => letter.repeat(300_000);
  const raw = (
    entry: Parameters<typeof encodeHeader>[0],
    change: (header: Buffer) => void,
    body = Buffer.alloc(0),
  ): Buffer => {
    const header = encodeHeader(entry);
    change(header);
    header.write(`${checksum(header).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    return Buffer.concat([header, body, bodyPadding(body.length)]);
  };
  const open = (...items: Item[]): Buffer => archive(...items).subarray(0, -TRAILER.length);
  const base256 = (header: Buffer, at: number, length: number, value: number): void => {
    header.fill(0, at, at + length);
    header[at] = 0x80;
    header.writeUInt32BE(value, at + length - 4);
  };
  const record = (key: string, value: string): string => {
    const rest = ` ${key}=${value}\n`;
    return `${rest.length + 2}${rest}`.length === rest.length + 2
      ? `${rest.length + 2}${rest}`
      : `${rest.length + 1}${rest}`;
  };
  const pax = (flag: 'x' | 'g', text: string): Buffer =>
    raw(
      newEntry('file', 'pax', { size: text.length }),
      (header) => header.write(flag, 156, 'latin1'),
      Buffer.from(text),
    );

  test.each<[string, () => Buffer]>([
    [
      'with a file three times, small and large',
      () => archive(['f', big('a')], ['g', 'x'], ['f', 'b'], ['f', big('c')]),
    ],
    ['with the same file twice', () => archive(['f', 'same'], ['f', 'same'])],
    [
      'with a file that becomes a directory, and the reverse',
      () => archive(['a', big('a')], directory('a'), ['a/x', 'x'], ['b/c/d', big('d')], ['b/c/e', 'e'], ['b', 'file']),
    ],
    [
      'with a file that becomes a link',
      () => archive(['a', 'a'], symlink('a', 'b'), ['b', 'b'], ['c', 'c'], hardlink('c', 'b')),
    ],
    [
      'with the same file by two names, through a link',
      () =>
        archive(
          directory('usr/lib'),
          symlink('lib', 'usr/lib'),
          ['lib/x', 'first'],
          ['usr/lib/x', 'second'],
          ['lib/x', 'third'],
        ),
    ],
    [
      'with a link that becomes a directory after files went through it',
      () =>
        archive(
          directory('usr'),
          symlink('l', 'usr'),
          ['l/x', 'through'],
          directory('l'),
          ['l/x', 'own'],
          ['l/y', 'y'],
        ),
    ],
    [
      'with a link whose target changes',
      () =>
        archive(
          directory('a'),
          directory('b'),
          symlink('l', 'a'),
          ['l/x', 'in a'],
          symlink('l', 'b'),
          ['l/x', 'in b'],
          ['a/x', 'again'],
        ),
    ],
    [
      'with a hard link to a file that is replaced afterwards',
      () => archive(['a', 'old'], hardlink('b', 'a'), ['a', 'new']),
    ],
    [
      'with a hard link that is replaced by a file',
      () => archive(['a', 'old'], hardlink('b', 'a'), ['b', 'new'], ['b', 'newer']),
    ],
    [
      'with whiteouts of missing files, with contents, and beside existing files',
      () =>
        archive(
          ['d/.wh.x', 'a body'],
          ['d/y', 'y'],
          ['d/.wh.y', ''],
          ['d/.wh..wh..opq', 'z'],
          ['.wh..wh.aufs', 'meta'],
        ),
    ],
    [
      'with v7 headers',
      () =>
        Buffer.concat([
          raw(newEntry('directory', 'd/'), (h) => {
            h.fill(0, 257, 512);
            h[156] = 0;
          }),
          raw(
            newEntry('file', 'd/f', { size: 3 }),
            (h) => {
              h.fill(0, 257, 512);
              h[156] = 0;
            },
            Buffer.from('old'),
          ),
          TRAILER,
        ]),
    ],
    [
      'with GNU base-256 owners and times',
      () =>
        Buffer.concat([
          raw(
            newEntry('file', 'f', { size: 2 }),
            (h) => {
              base256(h, 108, 8, 3_000_000_000);
              base256(h, 136, 12, 2_000_000_000);
              h.write('ustar  \0', 257, 'latin1');
            },
            Buffer.from('ok'),
          ),
          TRAILER,
        ]),
    ],
    [
      'with numbers padded by spaces',
      () =>
        Buffer.concat([
          raw(
            newEntry('file', 'f', { size: 2 }),
            (h) => {
              h.write('   644 \0', 100, 'latin1');
              h.write('         2 \0', 124, 'latin1');
            },
            Buffer.from('ok'),
          ),
          TRAILER,
        ]),
    ],
    [
      'with pax records in any order, duplicate, unknown and useless',
      () =>
        Buffer.concat([
          pax(
            'x',
            record('uid', '1') +
              record('VENDOR.unknown', 'whatever') +
              record('path', 'first') +
              record('path', 'last') +
              record('uid', '2'),
          ),
          open(['f', 'ok']),
          TRAILER,
        ]),
    ],
    [
      'with global headers',
      () =>
        Buffer.concat([
          pax('g', record('comment', 'abc')),
          open(['f', 'x']),
          pax('g', record('uid', '7')),
          open(['g', 'x']),
          TRAILER,
        ]),
    ],
    ['with an empty pax header', () => Buffer.concat([pax('x', ''), open(['f', 'x']), TRAILER])],
    [
      'with garbage in the padding',
      () => {
        const made = archive(['f', 'x'], ['g', 'y'.repeat(513)]);
        made.fill('#', 513, 1024);
        return made;
      },
    ],
    ['with garbage after the end', () => Buffer.concat([archive(['f', 'x']), Buffer.from('garbage'.repeat(1000))])],
    ['with many zeros after the end', () => Buffer.concat([archive(['f', 'x']), Buffer.alloc(1_000_001)])],
    ['without an end', () => open(['f', 'x'])],
    ['with a single zero block as its end', () => Buffer.concat([open(['f', 'x']), Buffer.alloc(512)])],
    ['of zero bytes', () => Buffer.alloc(0)],
    [
      'with devices, and files in their place',
      () =>
        archive(
          { entry: newEntry('character', 'zero', { major: 1, minor: 5 }) },
          ['zero', 'data'],
          ['d', 'data'],
          { entry: newEntry('block', 'd', { major: 8, minor: 1 }) },
          { entry: newEntry('fifo', 'p') },
        ),
    ],
    [
      'with capabilities, set-id bits and nanosecond times',
      () =>
        archive(
          {
            entry: newEntry('file', 'able', {
              size: 300_000,
              mode: 0o4755,
              uid: 7,
              mtime: 1n,
              xattrs: new Map([['security.capability', capability]]),
            }),
            body: Buffer.alloc(300_000, 'c'),
          },
          ['able', 'less'],
        ),
    ],
    [
      'with thousands of small files',
      () => archive(...Array.from({ length: 2000 }, (_, i): Item => [`d${i % 7}/f${i % 1700}`, `${i}`])),
    ],
  ])('%s [layer-rewritten]', async (_name, make) => {
    const made = make();
    const layer = await at.unpack(made);
    expect(layer.diffId).toBe(digestOf(made));
    expect((await rebuilt(layer)).equals(made)).toBe(true);
  });

  test('when large enough for a second thread', async () => {
    const made = archive(
      ...Array.from({ length: 2500 }, (_, i): Item => ({
        entry: newEntry('file', `d/f${i % 2000}`, { size: 2100, uid: i, mtime: BigInt(i) * 1_000_000_000n }),
        body: Buffer.alloc(2100, String(i)),
      })),
    );
    const file = join(at.root, 'layer.tar');
    writeFileSync(file, made);
    const pin = at.layers.pin();
    const layer = await at.layers.addFile(pin, () => file, [], digestOf(made));
    pin.release();
    expect((await rebuilt(layer)).equals(made)).toBe(true);
    const found = lstatSync(join(filesOf(layer), 'd/f1999'), { bigint: true });
    expect(found).toMatchObject({ uid: 1999n, mtimeNs: 1_999_000_000_000n, size: 2100n });
    expect(readFileSync(join(filesOf(layer), 'd/f499'), 'utf8')).toBe(Buffer.alloc(2100, '2499').toString());
  });
});

describe('a hostile archive is rejected with the reason and writes nothing outside', () => {
  const secret = mkdtempSync(join(tmpdir(), 'holdfast-outside-'));
  const depth = '../'.repeat(12);
  const device = (path: string, major: number, minor: number): Item => ({
    entry: newEntry('block', path, { major, minor }),
  });
  beforeEach(() => {
    rmSync(secret, { recursive: true, force: true });
    mkdirSync(secret);
    writeFileSync(join(secret, 'secret'), 'untouched');
  });
  afterAll(() => rmSync(secret, { recursive: true, force: true }));

  const claim = (size: number): Buffer =>
    Buffer.concat([
      archive({ entry: newEntry('file', 'huge', { size }) }).subarray(0, size >= 8 ** 11 ? 2048 : 512),
      Buffer.alloc(4096),
    ]);
  const largest = 8 * 2 ** 40;

  test.each<[string, RegExp, () => Buffer]>([
    ['a name with ..', /"\.\.\/evil" is outside of the image/, () => archive(['../evil', 'x'])],
    ['a name with many ..', /is outside of the image/, () => archive([`${depth}${secret}/evil`, 'x'])],
    ['.. in the middle of a name', /"a\/\.\.\/\.\.\/evil" is outside/, () => archive(['a/../../evil', 'x'])],
    ['.. after a slash', /is outside/, () => archive(['/../evil', 'x'])],
    ['a directory named ..', /is outside/, () => archive(directory('..', { mode: 0o777 }))],
    ['a whiteout through ..', /is outside/, () => archive(['../.wh.secret', ''])],
    [
      'an absolute link and a file through it',
      /its directory "link" is a symbolic link to "\/.*", which is no directory in this archive/,
      () => archive(symlink('link', secret), ['link/evil', 'x']),
    ],
    [
      'a relative link and a file through it',
      /"link\/evil": its directory "link" is a symbolic link/,
      () => archive(symlink('link', `${depth}${secret}`), ['link/evil', 'x']),
    ],
    [
      'a chain of links',
      /is a symbolic link/,
      () => archive(symlink('a', 'b'), symlink('b', 'c'), symlink('c', `${depth}${secret}`), ['a/evil', 'x']),
    ],
    [
      'a chain of links and directories',
      /is a symbolic link/,
      () =>
        archive(symlink('up', '..'), symlink('up2', 'up/..'), symlink('out', `up2/${depth}${secret}`), [
          'out/evil',
          'x',
        ]),
    ],
    [
      'a loop of links',
      /which is no directory in this archive/,
      () => archive(symlink('a', 'b'), symlink('b', 'a'), ['a/evil', 'x']),
    ],
    [
      'a hard link to a file outside',
      /"leak": .*is outside of the image/,
      () => archive(hardlink('leak', `${depth}${secret}/secret`)),
    ],
    [
      'a hard link to an absolute path',
      /"leak": a hard link to ".*\/secret", which is not in this archive/,
      () => archive(hardlink('leak', `${secret}/secret`)),
    ],
    [
      'a hard link through a link',
      /"leak": .*which is not in this archive/,
      () => archive(symlink('link', secret), hardlink('leak', 'link/secret')),
    ],
    ['a hard link to a directory', /"leak"/, () => archive(directory('d'), hardlink('leak', 'd'))],
    ['a file below a file', /its directory "f" is not one/, () => archive(['f', ''], ['f/x', ''])],
    ['the root as a file', /the root can only be a directory/, () => archive(['.', 'x'])],
    ['the root as a link', /the root can only be a directory/, () => archive(symlink('.', secret))],
    ['device numbers out of range', /"d": device number 5000:1 is out of range/, () => archive(device('d', 5000, 1))],
    [
      'a device number bomb',
      /more than 16384 device nodes/,
      () => archive(...Array.from({ length: 16_400 }, (_, i) => device(`d${i}`, 8, i))),
    ],
    [
      '10 GB that do not follow',
      /unexpected EOF within "huge": \d+ of its 10000000000 bytes are missing/,
      () => claim(10_000_000_000),
    ],
    [
      'a file larger than the free space',
      /"huge" is 8796093022208 bytes, and there is room for \d+/,
      () => claim(largest),
    ],
    ['a name that is too long', /ENAMETOOLONG/, () => archive(['x'.repeat(300), ''])],
    ['a path that is too long', /ENAMETOOLONG/, () => archive([`${'d/'.repeat(2100)}x`, ''])],
    ['a symbolic link with an empty target', /a symbolic link to nothing/, () => archive(symlink('l', ''))],
    ['text in place of an archive', /invalid tar header/, () => Buffer.from('#!/bin/sh\n'.repeat(100))],
    [
      'a truncated gzip stream',
      /gzip data is broken|unexpected end/,
      () => gzipSync(archive(['f', 'x'.repeat(10_000)])).subarray(0, -20),
    ],
    [
      'a corrupt gzip stream',
      /gzip data is broken/,
      () => {
        const packed = gzipSync(archive(['f', 'x'.repeat(10_000)]));
        packed.fill(0x55, 20, 40);
        return packed;
      },
    ],
    [
      'an invalid capability',
      /"f": lsetxattr: EINVAL/,
      () =>
        archive({
          entry: newEntry('file', 'f', { xattrs: new Map([['security.capability', Buffer.from('nonsense')]]) }),
        }),
    ],
  ])('%s [unpack-jailed]', async (_name, message, make) => {
    const before = listing(secret);
    const error = await at.unpack(make()).catch((failure: unknown) => failure);
    expect((error as Error).message).toMatch(message);
    expect(error instanceof InvalidParameter || error instanceof SystemFault).toBe(true);
    expect(listing(secret)).toEqual(before);
    // No part of the layer is left either.
    expect(at.layerRows.all()).toEqual([]);
    expect(readdirSync(join(at.paths.images(), 'layers'))).toEqual([]);
    expect(
      existsSync(join(at.root, 'evil')) ||
        existsSync(join(at.paths.images(), 'evil')) ||
        existsSync(join(at.paths.images(), 'layers/evil')),
    ).toBe(false);
  });

  test('a file over a device becomes a new file; the device is not written to [unpack-over-device]', async () => {
    const layer = await at.unpack(
      archive(
        { entry: newEntry('character', 'zero', { major: 1, minor: 3 }) },
        ['zero', 'data'],
        device('disk', 8, 0),
        ['disk', 'data'],
      ),
    );
    for (const name of ['zero', 'disk']) expect(lstatSync(join(filesOf(layer), name)).isFile()).toBe(true);
  });

  test('links that stay inside the image are followed [unpack-inner-links]', async () => {
    const layer = await at.unpack(
      archive(
        directory('usr'),
        directory('usr/lib'),
        symlink('lib', '/usr/lib'),
        ['lib/x', 'x'],
        symlink('up', '../../../../usr'),
        ['up/y', 'y'],
        hardlink('h', 'lib/x'),
      ),
    );
    expect(readdirSync(join(filesOf(layer), 'usr')).sort()).toEqual(['lib', 'y']);
    expect(readFileSync(join(filesOf(layer), 'usr/lib/x'), 'utf8')).toBe('x');
    expect(lstatSync(join(filesOf(layer), 'h')).nlink).toBe(2);
  });
});

test('a sender that aborts leaves nothing, even at the end of an entry', async () => {
  const whole = archive(['a', 'x'.repeat(100)], ['b', 'y']);
  const source = Readable.from(
    (async function* () {
      yield whole.subarray(0, 1024);
      throw new Error('connection lost');
    })(),
  );
  await expect(at.unpack(source)).rejects.toThrow('connection lost');
  expect(at.layerRows.all()).toEqual([]);
});

test('the sender of a bad archive can finish sending', async () => {
  let sent = 0;
  const source = Readable.from(
    (async function* () {
      for (let i = 0; i < 100; i++) {
        yield Buffer.alloc(65_536, 'no tar');
        sent++;
      }
    })(),
    { objectMode: false },
  );
  await expect(at.unpack(source)).rejects.toThrow(InvalidParameter);
  await expect.poll(() => sent).toBe(100);
});

test('unpacking the same archive twice gives one layer', async () => {
  const [one, two] = await Promise.all([at.unpack(archive(['f', 'x'])), at.unpack(archive(['f', 'x']))]);
  expect(one).toEqual(two);
  expect(at.layerRows.all()).toHaveLength(1);
  expect(readdirSync(join(at.paths.images(), 'layers'))).toEqual([one.directory]);
});

test('a missing decompression program is named', async () => {
  const path = process.env.PATH;
  process.env.PATH = '/nonexistent';
  try {
    await expect(at.unpack(Buffer.from('BZh91AY&SY'))).rejects.toThrow(
      'the archive is compressed with bzip2: install the program "bzip2" on this host to read it',
    );
  } finally {
    process.env.PATH = path;
  }
});

test('an unpacker that cannot start is a SystemFault', async () => {
  using elsewhere = imageFixture({ unpacker: '/nonexistent/unpacker.cjs', packer: '/nonexistent/packer.cjs' });
  await expect(elsewhere.unpack(archive(['f', 'x']))).rejects.toThrow(SystemFault);
  expect(elsewhere.layerRows.all()).toEqual([]);
});
