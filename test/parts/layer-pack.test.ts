import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:net';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { SystemFault } from '../../src/model/errors.ts';
import { newEntry } from '../../src/engine/images/tar-writer.ts';
import { S_IFBLK, S_IFCHR, makeNode } from '../../src/sys/inode.ts';
import { mkfifo } from '../../src/sys/file.ts';
import { unmount } from '../../src/sys/mount.ts';
import { getXattr, listXattrs, setXattr } from '../support/xattr.ts';
import { overlay } from '../../src/engine/images/overlay.ts';
import { type ImageFixture, useImageFixture } from '../support/image-fixture.ts';
import { archive, directory, symlink } from '../support/tar.ts';
import type { Bundles } from '../support/bundles.ts';
import { until } from '../support/until.ts';

let built: Bundles;
let at: ImageFixture;
let root: string;
useImageFixture((...own) => ([at, built] = own));
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'holdfast-pack-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
const make = (...path: string[]): string => {
  const whole = join(root, ...path);
  mkdirSync(whole, { recursive: true });
  return whole;
};

async function whole(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(Buffer.from(chunk));
  return Buffer.concat(all);
}

/** What GNU tar extracts from an archive. */
function untar(bytes: Buffer): string {
  const to = mkdtempSync(join(root, 'untar-'));
  execFileSync('tar', ['-C', to, '--numeric-owner', '--xattrs', '--xattrs-include=*', '-xpf', '-'], {
    input: bytes,
    maxBuffer: 1 << 30,
  });
  return to;
}

/** Everything that must be equal, by path. */
function listing(tree: string): Record<string, { mode: string; [key: string]: unknown }> {
  const found: Record<string, { mode: string; [key: string]: unknown }> = {};
  const walk = (path: string): void => {
    const s = lstatSync(join(tree, path), { bigint: true });
    const isRoot = path === '.';
    found[path] = {
      mode: isRoot ? '' : s.mode.toString(8),
      uid: s.uid,
      gid: s.gid,
      rdev: s.rdev,
      nlink: s.isDirectory() ? 0n : s.nlink,
      size: s.isDirectory() ? 0n : s.size,
      mtime: isRoot ? 0n : s.mtimeNs / 1_000_000_000n,
      xattrs: isRoot
        ? {}
        : Object.fromEntries(
            listXattrs(join(tree, path)).map((name) => [name, getXattr(join(tree, path), name)?.toString('hex')]),
          ),
      text:
        s.isFile() && s.size < 1_000_000n
          ? readFileSync(join(tree, path), 'latin1')
          : s.isSymbolicLink()
            ? readlinkSync(join(tree, path))
            : '',
    };
    if (s.isDirectory()) for (const name of readdirSync(join(tree, path))) walk(join(path, name));
  };
  walk('.');
  return found;
}

/** Everything except directories: those that no entry names were created just now. */
const filesIn = (tree: string): unknown[] =>
  Object.entries(listing(tree)).filter(([, { mode }]) => !(mode || '4').startsWith('4'));

describe('packing a directory tree', () => {
  test('makes an archive that GNU tar unpacks to the same tree [pack-gnu-tar]', async () => {
    const tree = make('tree');
    make('tree/etc/deep/er');
    writeFileSync(join(tree, 'etc/passwd'), 'root\n');
    writeFileSync(join(tree, 'big'), Buffer.alloc(3_000_001, 'abcdefg'));
    writeFileSync(join(tree, 'owned'), 'x');
    chownSync(join(tree, 'owned'), 3_000_000, 2_500_000);
    chmodSync(join(tree, 'owned'), 0o6755);
    chownSync(join(tree, 'etc/deep'), 70_000, 300_000);
    linkSync(join(tree, 'etc/passwd'), join(tree, 'etc/passwd-'));
    symlinkSync('../etc/passwd', join(tree, 'etc/link'));
    symlinkSync('x'.repeat(300), join(tree, 'etc/long'));
    writeFileSync(join(tree, 'etc', 'n'.repeat(200)), 'long name');
    writeFileSync(join(tree, 'etc', 'näme'), 'not ascii');
    mkfifo(join(tree, 'fifo'));
    makeNode(Buffer.from(join(tree, 'null')), S_IFCHR | 0o666, 1, 3);
    makeNode(Buffer.from(join(tree, 'disk')), S_IFBLK | 0o600, 259, 70_000);
    writeFileSync(join(tree, 'ping'), 'ping');
    setXattr(join(tree, 'ping'), 'security.capability', capability);
    setXattr(join(tree, 'ping'), 'user.note', Buffer.from([0, 1, 0xff, 0x0a]));
    utimesSync(join(tree, 'ping'), 1, -5);
    chmodSync(tree, 0o755);
    expect(listing(untar(await whole(at.archives.tree(tree))))).toEqual(listing(tree));
  });

  test('keeps names that are not text', async () => {
    const tree = make('tree');
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xfe])]), 'no utf-8');
    expect(readdirSync(untar(await whole(at.archives.tree(tree))), 'buffer')).toEqual([Buffer.from([0xff, 0xfe])]);
  });

  test('packs a file of 8 GiB [pack-8-gib]', async () => {
    const tree = make('tree');
    writeFileSync(join(tree, 'huge'), '');
    truncateSync(join(tree, 'huge'), 8 * 1024 ** 3 + 5);
    const chunks = at.archives.tree(tree);
    let first: Buffer | undefined;
    let size = 0;
    for await (const chunk of chunks) {
      first ??= Buffer.from(chunk);
      size += chunk.length;
      if (size > 1 << 26) break;
    }
    expect(
      execFileSync('sh', ['-c', 'tar --numeric-owner -tvf - 2>/dev/null || true'], {
        input: first!.subarray(0, 4096),
        encoding: 'utf8',
      }).split(/\s+/)[2],
    ).toBe(String(8 * 1024 ** 3 + 5));
  }, 30_000);

  test('leaves out sockets', async () => {
    const tree = make('tree');
    const server = createServer().listen(join(tree, 'socket'));
    try {
      await new Promise((resolve) => server.once('listening', resolve));
      writeFileSync(join(tree, 'file'), '');
      expect(readdirSync(untar(await whole(at.archives.tree(tree))))).toEqual(['file']);
    } finally {
      server.close();
    }
  });

  test('is deterministic', async () => {
    const tree = make('tree');
    for (let i = 0; i < 50; i++) writeFileSync(join(tree, `f${(i * 7919) % 50}`), String(i));
    expect((await whole(at.archives.tree(tree))).equals(await whole(at.archives.tree(tree)))).toBe(true);
  });

  test('does not follow links out of the tree', async () => {
    const tree = make('tree');
    symlinkSync('/etc', join(tree, 'etc'));
    expect(readlinkSync(join(untar(await whole(at.archives.tree(tree))), 'etc'))).toBe('/etc');
    await expect(whole(at.archives.tree(join(tree, 'missing')))).rejects.toThrow(SystemFault);
  });

  test('ends when the reader leaves', async () => {
    const tree = make('tree');
    writeFileSync(join(tree, 'f'), Buffer.alloc(50_000_000));
    for await (const chunk of at.archives.tree(tree)) if (chunk.length > 0) break;
    await until(
      () =>
        !execFileSync('ps', ['-eo', 'stat,args'], { encoding: 'utf8' })
          .split('\n')
          .some((line) => line.includes(built.packer) && !line.startsWith('Z')),
    );
  });
});

describe('repacking a layer', () => {
  test('reproduces archives of any program', async () => {
    const tree = make('tree/sub').slice(0, -4);
    for (const [name, text] of [
      ['a', 'x'],
      ['sub/b', 'y'.repeat(10_000)],
      ['n'.repeat(120), 'z'],
      ['empty', ''],
    ] as const)
      writeFileSync(join(tree, name), text);
    linkSync(join(tree, 'a'), join(tree, 'sub/a'));
    for (const format of ['gnu', 'pax', 'ustar', 'v7']) {
      const made = execFileSync('tar', [
        '-C',
        tree,
        `--format=${format}`,
        ...(format === 'v7' || format === 'ustar' ? ['--exclude=nnn*'] : []),
        '-cf',
        '-',
        '.',
      ]);
      expect((await whole(at.layers.archive(await at.unpack(made)))).equals(made), format).toBe(true);
    }
  });

  test('follows the layer’s own links, never into the host', async () => {
    const made = archive(directory('usr/lib'), symlink('lib', '/usr/lib'), ['lib/x', 'text']);
    const layer = await at.unpack(made);
    expect((await whole(at.layers.archive(layer))).equals(made)).toBe(true);
  });

  test('fails when the layer’s files were modified', async () => {
    const layer = await at.unpack(archive(['x', 'text'], ['y', 'more']));
    writeFileSync(join(at.layers.directory(layer), 'x'), 'TEXT');
    await expect(whole(at.layers.archive(layer))).rejects.toThrow(/have changed on disk/);
    unlinkSync(join(at.layers.directory(layer), 'x'));
    await expect(whole(at.layers.archive(layer))).rejects.toThrow(/is no longer a regular file/);
  });

  test('reproduces anything that GNU tar packs, byte for byte [repack-identical]', async () => {
    const name = fc.stringMatching(/^[a-zé]{1,4}$/);
    const file = fc.record({
      path: fc.array(name, { minLength: 1, maxLength: 3 }),
      body: fc.uint8Array({ maxLength: 2000 }),
      mode: fc.integer({ min: 0, max: 0o7777 }),
      uid: fc.integer({ min: 0, max: 2 ** 22 }),
      mtime: fc.integer({ min: -1e6, max: 2 ** 33 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(file, { maxLength: 8 }), async (files) => {
        const seen = new Set<string>();
        const entries = files
          .filter(({ path }) => {
            const text = path.join('/');
            const clashes = [...seen].some(
              (other) => other === text || other.startsWith(`${text}/`) || text.startsWith(`${other}/`),
            );
            seen.add(text);
            return !clashes;
          })
          .map(({ path, body, mode, uid, mtime }) => ({
            entry: newEntry('file', path.join('/'), {
              mode,
              uid,
              gid: uid,
              size: body.length,
              mtime: BigInt(mtime) * 1_000_000_000n,
            }),
            body: Buffer.from(body),
          }));
        const made = archive(...entries);
        const layer = await at.unpack(made);
        expect((await whole(at.layers.archive(layer))).equals(made)).toBe(true);
        expect(filesIn(at.layers.directory(layer))).toEqual(filesIn(untar(made)));
      }),
      { numRuns: 15, endOnFailure: true },
    );
  });
});

describe('the changes of a container', () => {
  let merged: string;
  let lower: string;
  let upper: string;
  beforeEach(() => {
    [merged, lower, upper] = [make('merged'), make('lower'), make('upper')];
    make('lower/etc/sub');
    make('lower/var/empty');
    make('lower/opt/tool/bin');
    for (const path of ['etc/a', 'etc/b', 'etc/sub/c', 'opt/tool/bin/x', 'opt/tool/y', 'plain'])
      writeFileSync(join(lower, path), path);
    overlay(merged, [lower], { upper, work: make('work') });
  });
  afterEach(() => void unmount(merged));

  const changes = async (): Promise<string[]> =>
    (await at.archives.changes(upper, [lower, make('none')])).map(({ kind, path }) => `${'CAD'[kind]} ${path}`);

  test('are none at first, then of Docker’s kinds, with parents as changed', async () => {
    expect(await changes()).toEqual([]);
    writeFileSync(join(merged, 'etc/a'), 'changed');
    unlinkSync(join(merged, 'etc/b'));
    writeFileSync(join(merged, 'etc/new'), '');
    chmodSync(join(merged, 'plain'), 0o600);
    rmSync(join(merged, 'opt/tool'), { recursive: true });
    mkdirSync(join(merged, 'opt/tool'));
    writeFileSync(join(merged, 'opt/tool/y'), 'other');
    rmSync(join(merged, 'var/empty'), { recursive: true });
    mkdirSync(join(merged, 'fresh/deep'), { recursive: true });
    symlinkSync('/', join(merged, 'fresh/root'));
    expect(await changes()).toEqual([
      'C /etc',
      'C /etc/a',
      'D /etc/b',
      'A /etc/new',
      'A /fresh',
      'A /fresh/deep',
      'A /fresh/root',
      'C /opt',
      'C /opt/tool',
      'D /opt/tool/bin',
      'C /opt/tool/y',
      'C /plain',
      'C /var',
      'D /var/empty',
    ]);
  });

  test('leave out touched directories and files that were made and removed again', async () => {
    writeFileSync(join(merged, 'etc/sub/passing'), '');
    unlinkSync(join(merged, 'etc/sub/passing'));
    expect(await changes()).toEqual([]);
  });

  test('show a directory replaced by a file, and a file by a directory', async () => {
    rmSync(join(merged, 'etc/sub'), { recursive: true });
    writeFileSync(join(merged, 'etc/sub'), '');
    unlinkSync(join(merged, 'plain'));
    mkdirSync(join(merged, 'plain/now'), { recursive: true });
    expect(await changes()).toEqual(['C /etc', 'C /etc/sub', 'C /plain', 'A /plain/now']);
  });

  test('can be exported while the container runs, and from its layers when it does not', async () => {
    writeFileSync(join(merged, 'etc/new'), 'new');
    unlinkSync(join(merged, 'etc/b'));
    const running = await whole(at.archives.tree(merged));
    expect((await whole(at.archives.stack([upper, lower]))).equals(running)).toBe(true);
    const seen = listing(merged);
    expect(listing(untar(running))).toEqual(seen);
  });

  test('become a layer that makes the same tree over the same image [commit-layer-same]', async () => {
    const base = await at.unpack(execFileSync('tar', ['-C', lower, '-cf', '-', '.']));
    rmSync(join(merged, 'opt/tool'), { recursive: true });
    mkdirSync(join(merged, 'opt/tool/again'), { recursive: true });
    unlinkSync(join(merged, 'etc/b'));
    writeFileSync(join(merged, 'etc/cap'), 'x');
    setXattr(join(merged, 'etc/cap'), 'security.capability', capability);
    linkSync(join(merged, 'etc/cap'), join(merged, 'etc/cap2'));
    const packed = await whole(at.archives.upper(upper));
    expect(execFileSync('tar', ['-tf', '-'], { input: packed, encoding: 'utf8' }).trim().split('\n')).toEqual([
      'etc/',
      'etc/.wh.b',
      'etc/cap',
      'etc/cap2',
      'opt/',
      'opt/tool/',
      'opt/tool/.wh..wh..opq',
      'opt/tool/again/',
    ]);
    const layer = await at.unpack(packed, [base.chainId]);
    const again = make('again');
    overlay(again, [at.layers.directory(layer), at.layers.directory(base)]);
    try {
      expect(listing(again)).toEqual(listing(merged));
    } finally {
      unmount(again);
    }
  });
});

test('every container has Docker’s mount points in addition to the image’s, and they are not changes', async () => {
  const layer = await at.unpack(
    archive(directory('etc', { mode: 0o700, uid: 5, mtime: 9_000_000_000n }), ['etc/hosts', 'own']),
  );
  at.snapshots.mount('c1', [layer.chainId]);
  const rootfs = at.paths.rootfs('c1');
  expect(readFileSync(join(rootfs, 'etc/hosts'), 'utf8')).toBe('own');
  expect(readlinkSync(join(rootfs, 'etc/mtab'))).toBe('/proc/mounts');
  expect([
    statSync(join(rootfs, 'etc')).mode & 0o777,
    statSync(join(rootfs, 'etc')).uid,
    statSync(join(rootfs, 'etc')).mtimeMs,
  ]).toEqual([0o700, 5, 9000]);
  expect(readdirSync(rootfs).sort()).toEqual(['.dockerenv', 'dev', 'etc', 'proc', 'sys']);
  expect(readdirSync(join(rootfs, 'dev')).sort()).toEqual(['console', 'pts', 'shm']);
  const { upper, lower } = at.snapshots.layerDirectories('c1');
  expect(await at.archives.changes(upper, lower)).toEqual([]);
  expect(readdirSync(join(lower[1]!))).toEqual(['etc']);
});
