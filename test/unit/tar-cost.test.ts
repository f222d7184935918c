/** What headers cost: a small compressed archive may have a hundred thousand of them, each with as many values. */
import { describe, expect, test } from 'vitest';
import { newEntry, encodeHeader, TRAILER } from '../../src/engine/images/tar-writer.ts';
import { TarReader } from '../../src/engine/images/tar-reader.ts';
import type { TarEntry } from '../../src/engine/images/tar.ts';
import { checksum } from '../../src/engine/images/tar.ts';

const record = (key: string, value: string): string => {
  const rest = key.length + value.length + 3;
  const length = rest + String(rest).length;
  return `${rest + String(length).length} ${key}=${value}\n`;
};
const many = (count: number, prefix: string): string =>
  Array.from({ length: count }, (_, i) => record(`${prefix}${i.toString(36)}`, 'x')).join('');

/** A pax header of the type `x` or `g`. */
function pax(text: string, type: string): Buffer {
  const header = encodeHeader(newEntry('file', 'pax', { size: text.length }));
  header.write(type, 156);
  header.write(`${checksum(header).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([header, Buffer.from(text), Buffer.alloc((512 - (text.length % 512)) % 512)]);
}

const ENTRY = encodeHeader(newEntry('directory', 'd'));

/** Reads `head`, and then `count` times `repeated`. @returns the last entry */
function read(head: Buffer, repeated: Buffer, count: number): TarEntry {
  let last: TarEntry | undefined;
  const reader = new TarReader({
    entry: (entry) => (last = entry),
    data: () => undefined,
    end: () => undefined,
    meta: () => undefined,
  });
  reader.push(head);
  for (let i = 0; i < count; i++) reader.push(repeated);
  reader.push(TRAILER);
  reader.end();
  return last!;
}

// Each of them took minutes when every entry was given every value. The test's timeout is what fails them.
describe('values in pax headers', () => {
  test('global ones are not copied to each entry [tar-cost-global]', () => {
    const global = pax(many(5000, 'k') + record('uid', '7'), 'g');
    expect(read(global, ENTRY, 200_000)).toMatchObject({ path: 'd/', uid: 7 });
  });

  test('a global header that replaces one of many is cheap [tar-cost-global-update]', () => {
    const update = Buffer.concat([pax(record('k1', 'y'), 'g'), ENTRY]);
    expect(read(pax(many(5000, 'k'), 'g'), update, 100_000)).toMatchObject({ uid: 0 });
  });

  test('those of an entry that mean nothing here are skipped [tar-cost-entry]', () => {
    const own = Buffer.concat([pax(many(90_000, 'k') + record('gid', '8'), 'x'), ENTRY]);
    expect(read(Buffer.alloc(0), own, 400)).toMatchObject({ gid: 8 });
  });

  test('global extended attributes are limited in number [tar-global-count]', () => {
    const global = (count: number): Buffer => pax(many(count, 'SCHILY.xattr.user.'), 'g');
    expect(read(global(32), ENTRY, 1).xattrs.size).toBe(32);
    expect(() => read(global(33), ENTRY, 1)).toThrow('global headers with more than 32 values');
  });
});
