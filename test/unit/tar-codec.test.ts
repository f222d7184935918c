/** The tar codec by itself: it reads what it writes, and rejects malformed archives. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK, checksum, signedChecksum, TarError, type TarEntry, type TarType } from '../../src/engine/images/tar.ts';
import { bodyPadding, encodeHeader, newEntry, TRAILER } from '../../src/engine/images/tar-writer.ts';
import { archive, read } from '../support/tar.ts';

test('any entries written are read back equal, whatever the chunk size [tar-round-trip]', () => {
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
        // In the archive a directory's name ends in a slash; no other name may.
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
      expect(read(archive(...entries), step)).toEqual(entries);
    }),
    { numRuns: 200 },
  );
});

describe('reading headers', () => {
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

  test('parses numbers: base-256, negative times, spaces, nothing', () => {
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

  test('applies global values to all following entries until they are overridden or removed', () => {
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

  test('limits global values to 64 KiB in all, not counting values replaced or removed [tar-global-limit]', () => {
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

  test('reads a v7 directory: a file whose name ends in a slash', () => {
    const entry = first(
      header((block) => {
        block.fill(0, 257, 512);
        block[156] = 0;
        block.write('dir/\0', 0, 'latin1');
      }),
    );
    expect(entry.type).toBe('directory');
  });

  test('accepts an old checksum of signed bytes', () => {
    const block = header((each) => each.write('\xe9\xe8', 0, 'latin1'));
    block.write(`${signedChecksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    expect(first(block).path).toBe('\xe9\xe8');
  });

  test.each<[string, RegExp, () => Buffer]>([
    ['a wrong checksum', /wrong checksum/, () => header(() => undefined).fill('1', 148, 150)],
    ['text in place of a number', /uid "zzz" is no octal number/, () => header((b) => b.write('zzz\0', 108))],
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
      'endless global headers',
      /global headers of more than 65536 bytes/,
      () => Buffer.concat(Array.from({ length: 3 }, (_, i) => pax(record(`VENDOR.${i}`, 'x'.repeat(30_000)), 'g'))),
    ],
    [
      'an owner that means "unchanged" to chown(2)',
      /owner 4294967295 is out of range/,
      () => Buffer.concat([pax('18 uid=4294967295\n'), header(() => undefined)]),
    ],
    [
      'a pax record that is too long',
      /invalid pax header/,
      () => Buffer.concat([pax('99 path=x\n'), header(() => undefined)]),
    ],
    ['a pax record without =', /invalid pax header/, () => Buffer.concat([pax('9 pathxx\n'), header(() => undefined)])],
    [
      'a pax record of length zero',
      /invalid pax header/,
      () => Buffer.concat([pax('0 a=b\n'), header(() => undefined)]),
    ],
    ['a NUL in a name', /a NUL in a name/, () => Buffer.concat([pax('14 path=ok\0no\n'), header(() => undefined)])],
    ['an unknown type', /unknown entry type "V"/, () => header((b) => b.write('V', 156))],
    [
      'an entry after the end',
      /behind an end-of-archive/,
      () => Buffer.concat([Buffer.alloc(512), header(() => undefined)]),
    ],
    ['a truncated header', /unexpected EOF/, () => header(() => undefined).subarray(0, 200)],
    ['a pax header without an entry', /unexpected EOF/, () => pax('8 uid=7\n')],
    ['text in place of an archive', /invalid tar header/, () => Buffer.alloc(2048, 'this is text. ')],
  ])('rejects %s [tar-header-bounds]', (_name, message, make) => {
    expect(() => read(make())).toThrow(message);
    expect(() => read(make())).toThrow(TarError);
  });

  test('accept an empty archive, and one without its trailer', () => {
    expect(read(Buffer.alloc(0))).toEqual([]);
    expect(read(header(() => undefined))).toHaveLength(1);
  });

  test('any bytes are an archive or throw a TarError [tar-any-bytes]', () => {
    const valid = archive(
      { entry: newEntry('file', 'a'.repeat(120), { size: 700 }), body: Buffer.alloc(700, 1) },
      { entry: newEntry('symlink', 'b', { link: Buffer.from('c') }) },
    );
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
