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
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK, checksum, signedChecksum, TarError, type TarEntry, type TarType } from '../../src/engine/images/tar.ts';
import { TarReader } from '../../src/engine/images/tar-reader.ts';
import { bodyPadding, encodeHeader, newEntry, TRAILER } from '../../src/engine/images/tar-writer.ts';
import { getXattr, setXattr } from '../support/xattr.ts';

interface Read {
  entry: TarEntry;
  body: Buffer;
}

/** Reads an archive in pieces of `step` bytes; checks that what comes out is what came in. */
function read(archive: Buffer, step = 1 << 16): Read[] {
  const out: Read[] = [];
  const bytes: Buffer[] = [];
  let ended = 0;
  const reader = new TarReader({
    entry: (entry) => out.push({ entry, body: Buffer.alloc(0) }),
    data: (data) => {
      bytes.push(Buffer.from(data));
      out.at(-1)!.body = Buffer.concat([out.at(-1)!.body, data]);
    },
    end: () => ended++,
    meta: (meta) => bytes.push(Buffer.from(meta)),
  });
  for (let at = 0; at < archive.length; at += step) {
    // A copy that is overwritten afterwards: nothing may keep views of it.
    const chunk = Buffer.from(archive.subarray(at, at + step));
    reader.push(chunk);
    chunk.fill(0xee);
  }
  reader.end();
  expect(Buffer.concat(bytes).equals(archive)).toBe(true);
  expect(ended).toBe(out.length);
  return out;
}

const archiveOf = (entries: { entry: TarEntry; body?: Buffer }[]): Buffer =>
  Buffer.concat([
    ...entries.flatMap(({ entry, body }) => [encodeHeader(entry), body ?? Buffer.alloc(0), bodyPadding(entry.size)]),
    TRAILER,
  ]);

const home = mkdtempSync(join(tmpdir(), 'holdfast-tar-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe('what tar(1) makes is read', () => {
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
    // ustar has no room for long names, big ids and fractions.
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

  test('a file of 8 GiB and more, in base-256 and in pax [tar-8-gib]', () => {
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
    'sparse files are refused by name (%s %s) [tar-sparse-refused]',
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

test('what is written tar(1) reads [tar-written-readable]', () => {
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
  execFileSync('tar', ['-C', target, '--xattrs', '--xattrs-include=*', '-xp'], { input: archiveOf(entries) });
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

test('what is written is read again, whatever it is and however it is cut [tar-round-trip]', () => {
  const bytes = (max: number): fc.Arbitrary<Buffer> =>
    fc.uint8Array({ minLength: 1, maxLength: max }).map((array) => Buffer.from(array.map((byte) => byte || 1)));
  const type = fc.constantFrom<TarType>('file', 'hardlink', 'symlink', 'character', 'block', 'directory', 'fifo');
  const arbitrary = fc.record({
    type,
    path: bytes(400),
    link: bytes(200),
    mode: fc.nat(0o7777),
    uid: fc.integer({ min: 0, max: 0xfffffffe }),
    gid: fc.integer({ min: 0, max: 0xfffffffe }),
    mtime: fc.bigInt({ min: -(10n ** 18n), max: 10n ** 20n }),
    major: fc.nat(4095),
    minor: fc.nat(0xfffff),
    body: fc.uint8Array({ maxLength: 1500 }).map((array) => Buffer.from(array)),
    xattrs: fc.array(
      fc.tuple(
        fc.stringMatching(/^user\.[a-z]{1,10}$/),
        fc.uint8Array({ maxLength: 50 }).map((array) => Buffer.from(array)),
      ),
      { maxLength: 3 },
    ),
  });
  fc.assert(
    fc.property(fc.array(arbitrary, { maxLength: 5 }), fc.integer({ min: 1, max: 2000 }), (raw, step) => {
      const entries = raw.map(({ type, path, link, mode, uid, gid, mtime, major, minor, body, xattrs }) => {
        const isDevice = type === 'character' || type === 'block';
        const isLink = type === 'hardlink' || type === 'symlink';
        // A directory's name ends in a slash in the archive, others' must not.
        const name =
          type === 'directory' ? Buffer.concat([path, Buffer.from('/')]) : Buffer.concat([path, Buffer.from('x')]);
        const entry = newEntry(type, name, {
          mode,
          uid,
          gid,
          mtime,
          size: type === 'file' ? body.length : 0,
          link: isLink ? link : Buffer.alloc(0),
          major: isDevice ? major : 0,
          minor: isDevice ? minor : 0,
          xattrs: new Map(xattrs),
        });
        return { entry, body: type === 'file' ? body : Buffer.alloc(0) };
      });
      expect(read(archiveOf(entries), step)).toEqual(entries);
    }),
    { numRuns: 200 },
  );
});

describe('headers', () => {
  const header = (changes: (header: Buffer) => void, entry = newEntry('file', 'x')): Buffer => {
    const block = Buffer.from(encodeHeader(entry).subarray(-BLOCK));
    changes(block);
    block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    return block;
  };
  const pax = (text: string | Buffer, flag = 'x'): Buffer => {
    const body = Buffer.from(text as string);
    return Buffer.concat([
      header((block) => block.write(flag, 156), newEntry('file', 'p', { size: body.length })),
      body,
      bodyPadding(body.length),
    ]);
  };
  const record = (key: string, value: string): string => {
    const rest = ` ${key}=${value}\n`;
    const digits = String(rest.length + String(rest.length).length).length;
    return `${rest.length + digits}${rest}`;
  };
  const first = (...blocks: Buffer[]): TarEntry => read(Buffer.concat([...blocks, TRAILER]))[0]!.entry;

  test('numbers: base-256, negative times, spaces, nothing', () => {
    const entry = first(
      header((block) => {
        block.fill(0, 108, 116);
        block[108] = 0x80;
        block.writeUInt32BE(3_000_000_000, 112);
        block.fill(0xff, 136, 148);
        block.write('   755 \0', 100, 'latin1');
        block.fill(0, 116, 124);
      }),
    );
    expect(entry).toMatchObject({ uid: 3_000_000_000, mtime: -1_000_000_000n, mode: 0o755, gid: 0 });
  });

  test('global values hold for all that follows, until overridden or taken back', () => {
    const archive = Buffer.concat([
      pax('17 comment=a b c\n12 uid=4242\n12 gid=4343\n', 'g'),
      header(() => undefined),
      pax('8 uid=7\n'),
      header(() => undefined),
      header(() => undefined),
      pax('7 uid=\n', 'g'),
      header(() => undefined),
      TRAILER,
    ]);
    expect(read(archive).map(({ entry }) => [entry.uid, entry.gid])).toEqual([
      [4242, 4343],
      [7, 4343],
      [4242, 4343],
      [0, 4343],
    ]);
  });

  test('global values may have 64 KiB in all, a value that is replaced or taken back no more [tar-global-limit]', () => {
    const most = pax(record('VENDOR.x', 'x'.repeat(65_536 - 'VENDOR.x'.length)), 'g');
    const archive = Buffer.concat([
      most,
      header(() => undefined),
      most,
      header(() => undefined),
      pax(record('VENDOR.x', ''), 'g'),
      pax(record('VENDOR.y', 'y'.repeat(60_000)), 'g'),
      header(() => undefined),
      TRAILER,
    ]);
    expect(read(archive)).toHaveLength(3);
    const more = pax(record('VENDOR.x', 'x'.repeat(65_537 - 'VENDOR.x'.length)), 'g');
    expect(() => read(Buffer.concat([more, header(() => undefined), TRAILER]))).toThrow(
      'global headers of more than 65536 bytes',
    );
  });

  test('a v7 directory is a file whose name ends in a slash', () => {
    const entry = first(
      header((block) => {
        block.fill(0, 257, 512);
        block[156] = 0;
        block.write('dir/\0', 0, 'latin1');
      }),
    );
    expect(entry.type).toBe('directory');
  });

  test('an old checksum of signed bytes', () => {
    const block = header((each) => each.write('\xe9\xe8', 0, 'latin1'));
    block.write(`${signedChecksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    expect(first(block).path).toBe('\xe9\xe8');
  });

  test.each<[string, RegExp, () => Buffer]>([
    ['wrong checksum', /wrong checksum/, () => header(() => undefined).fill('1', 148, 150)],
    ['text for a number', /uid "zzz" is no octal number/, () => header((b) => b.write('zzz\0', 108))],
    ['a negative size', /a size of -1/, () => header((b) => b.fill(0xff, 124, 136))],
    [
      'an absurd size',
      /a size of 9223372036854775807/,
      () => Buffer.concat([pax('28 size=9223372036854775807\n'), header(() => undefined)]),
    ],
    [
      'a huge pax header',
      /too long/,
      () =>
        header((b) => {
          b.write('x', 156);
          b.write('77777777777\0', 124);
        }),
    ],
    [
      'global headers that never stop',
      /global headers of more than 65536 bytes/,
      () => Buffer.concat(Array.from({ length: 3 }, (_, i) => pax(record(`VENDOR.${i}`, 'x'.repeat(30_000)), 'g'))),
    ],
    [
      'an owner that means "leave it"',
      /owner 4294967295 is out of range/,
      () => Buffer.concat([pax('18 uid=4294967295\n'), header(() => undefined)]),
    ],
    [
      'a pax record that is too long',
      /invalid pax header/,
      () => Buffer.concat([pax('99 path=x\n'), header(() => undefined)]),
    ],
    ['a pax record without =', /invalid pax header/, () => Buffer.concat([pax('9 pathxx\n'), header(() => undefined)])],
    ['a pax record of no length', /invalid pax header/, () => Buffer.concat([pax('0 a=b\n'), header(() => undefined)])],
    ['a NUL in a name', /a NUL in a name/, () => Buffer.concat([pax('14 path=ok\0no\n'), header(() => undefined)])],
    ['an unknown type', /unknown entry type "V"/, () => header((b) => b.write('V', 156))],
    [
      'an entry behind the end',
      /behind an end-of-archive/,
      () => Buffer.concat([Buffer.alloc(512), header(() => undefined)]),
    ],
    ['half a header', /unexpected EOF/, () => header(() => undefined).subarray(0, 200)],
    ['a pax header and no entry', /unexpected EOF/, () => pax('8 uid=7\n')],
    ['no tar at all', /invalid tar header/, () => Buffer.alloc(2048, 'this is text. ')],
  ])('%s [tar-header-bounds]', (_name, message, make) => {
    expect(() => read(make())).toThrow(message);
    expect(() => read(make())).toThrow(TarError);
  });

  test('nothing, and an archive without its trailer, are archives', () => {
    expect(read(Buffer.alloc(0))).toEqual([]);
    expect(read(header(() => undefined))).toHaveLength(1);
  });

  test('any bytes are an archive or a TarError [tar-any-bytes]', () => {
    const valid = archiveOf([
      { entry: newEntry('file', 'a'.repeat(120), { size: 700 }), body: Buffer.alloc(700, 1) },
      { entry: newEntry('symlink', 'b', { link: Buffer.from('c') }) },
    ]);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 20 }),
        fc.nat(valid.length),
        (edits, cut) => {
          const broken = Buffer.from(valid);
          for (const [at, byte] of edits) broken[at] = byte;
          try {
            read(broken.subarray(0, cut));
          } catch (error) {
            expect(error).toBeInstanceOf(TarError);
          }
        },
      ),
    );
  });
});
