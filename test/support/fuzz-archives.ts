/** Archives that try to leave the directory they are unpacked in, and archives with damaged bytes. */
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { newEntry } from '../../src/engine/images/tar-writer.ts';
import { archive, type Item } from './tar.ts';

/** @param outside paths that must not be reached, absolute and relative to where the archive is unpacked */
export function hostileArchive(outside: readonly string[]): fc.Arbitrary<Buffer> {
  const part = fc.constantFrom(
    'a',
    'b',
    'link',
    '..',
    '.',
    '',
    'etc',
    '.wh.a',
    '.wh..wh..opq',
    '.wh..wh.plnk',
    '\u00ff',
    'x'.repeat(255),
  );
  const path = fc.oneof(
    { weight: 3, arbitrary: fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/') || 'a') },
    fc.constantFrom(...outside, '/', '/proc/self/root/tmp', 'link/canary', `${'d/'.repeat(60)}x`),
  );
  const mode = fc.constantFrom(0o644, 0o4755, 0o0, 0o7777);
  const xattrs = fc.constantFrom(
    new Map<string, Buffer>(),
    new Map([['user.x', Buffer.from('1')]]),
    new Map([['trusted.overlay.redirect', Buffer.from('/etc')]]),
    new Map([['trusted.overlay.opaque', Buffer.from('y')]]),
    new Map([['security.capability', Buffer.from('x')]]),
  );
  const item: fc.Arbitrary<Item> = fc
    .record({
      type: fc.constantFrom(
        'file' as const,
        'directory' as const,
        'symlink' as const,
        'hardlink' as const,
        'character' as const,
        'fifo' as const,
      ),
      path,
      target: path,
      mode,
      xattrs,
      size: fc.constantFrom(0, 1, 600),
    })
    .map(({ type, path: name, target, mode: bits, xattrs: attributes, size }) => {
      const isLink = type === 'symlink' || type === 'hardlink';
      const body = Buffer.alloc(type === 'file' ? size : 0, 0x61);
      return {
        entry: newEntry(type, name, {
          mode: bits,
          size: body.length,
          ...(isLink && { link: Buffer.from(target) }),
          ...(attributes.size > 0 && type === 'file' && { xattrs: attributes }),
        }),
        body,
      };
    });
  const whole = fc.array(item, { minLength: 1, maxLength: 8 }).map((items) => archive(...items));
  return fc.oneof(
    { weight: 3, arbitrary: whole },
    damaged(whole),
    whole.map((bytes) => gzipSync(bytes)),
    damaged(whole.map((bytes) => gzipSync(bytes))),
  );
}

/** Some bytes changed, some lost at the end, some repeated. */
export const damaged = (bytes: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> =>
  fc
    .tuple(
      bytes,
      fc.array(fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(255)), { maxLength: 12 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
    )
    .map(([valid, edits, keep]) => {
      const broken = Buffer.from(valid);
      for (const [at, byte] of edits) broken[Math.floor(at * broken.length)] = byte;
      return broken.subarray(0, keep > 0.6 ? broken.length : Math.ceil(keep * broken.length));
    });
