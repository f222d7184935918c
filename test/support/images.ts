/** An images part of its own, on a directory of its own, for tests. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { NewEvent } from '../../src/model/event.ts';
import { Archives } from '../../src/engine/images/archive.ts';
import { Images } from '../../src/engine/images/images.ts';
import { Layers, type Layer } from '../../src/engine/images/layers.ts';
import type { User } from '../../src/engine/images/removal.ts';
import { Snapshots } from '../../src/engine/images/snapshots.ts';
import type { TarEntry } from '../../src/engine/images/tar.ts';
import { bodyPadding, encodeHeader, newEntry, TRAILER } from '../../src/engine/images/tar-writer.ts';
import { Unpacker } from '../../src/engine/images/unpack.ts';
import { Paths } from '../../src/engine/paths.ts';
import { openDatabase } from '../../src/store/database.ts';
import { DistributionRows } from '../../src/store/distribution.ts';
import { ImageRows } from '../../src/store/images.ts';
import { LayerRows } from '../../src/store/layers.ts';
import { unmount } from '../../src/sys/mount.ts';
import { mountsUnder } from '../../src/sys/mountinfo.ts';
import type { Bundles } from './unpacker.ts';

export interface Place {
  root: string;
  paths: Paths;
  rows: ImageRows;
  layerRows: LayerRows;
  distribution: DistributionRows;
  layers: Layers;
  archives: Archives;
  snapshots: Snapshots;
  images: Images;
  events: NewEvent[];
  /** By image id. */
  users: Map<string, User[]>;
  /** Unpacks one archive. */
  unpack(archive: Buffer | Readable, below?: string[]): Promise<Layer>;
  [Symbol.dispose](): void;
}

export function place(
  { unpacker, packer }: Pick<Bundles, 'unpacker' | 'packer'>,
  root = mkdtempSync(join(tmpdir(), 'holdfast-images-')),
): Place {
  const paths = new Paths(join(root, 'data'), join(root, 'run'));
  mkdirSync(paths.dataRoot, { recursive: true });
  const events: NewEvent[] = [];
  const users = new Map<string, User[]>();
  let clock = 1_700_000_000_000_000_000n;
  const db = openDatabase(paths.database());
  const layerRows = new LayerRows(db);
  const archives = new Archives(packer, paths.images());
  const layers = new Layers(layerRows, paths.images(), new Unpacker(unpacker), archives);
  const rows = new ImageRows(db);
  const snapshots = new Snapshots(paths, layers);
  const images = new Images({
    rows,
    layers,
    directory: paths.images(),
    events: { record: (...each) => void events.push(...each) },
    usersOf: (id) => users.get(id) ?? [],
    claimed: () => snapshots.claimed(),
    now: () => String((clock += 1_000_000_001n)),
  });
  return {
    root,
    paths,
    rows,
    layerRows,
    distribution: new DistributionRows(db),
    layers,
    archives,
    snapshots,
    images,
    events,
    users,
    unpack: async (archive, below = []) => {
      const hold = layers.hold();
      try {
        return await layers.add(
          hold,
          Buffer.isBuffer(archive) ? Readable.from([archive], { objectMode: false }) : archive,
          below,
        );
      } finally {
        hold.release();
      }
    },
    [Symbol.dispose]: () => {
      db.close();
      for (const point of mountsUnder(root)) unmount(point);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** An entry and its body, or the name of a file and its text. */
export type Item = [path: string, text: string] | { entry: TarEntry; body?: Buffer };

export const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A file by that name. */
export const part = (name: string, body: Buffer | string): Item => ({
  entry: newEntry('file', name, { size: Buffer.byteLength(body) }),
  body: Buffer.from(body as string),
});

/** A tar archive. */
export function archive(...items: Item[]): Buffer {
  const parts = items.flatMap((item) => {
    const { entry, body = Buffer.alloc(0) } = Array.isArray(item)
      ? { entry: newEntry('file', item[0], { size: Buffer.byteLength(item[1]) }), body: Buffer.from(item[1]) }
      : item;
    return [encodeHeader(entry), body, bodyPadding(body.length)];
  });
  return Buffer.concat([...parts, TRAILER]);
}

export const directory = (path: string, rest: Parameters<typeof newEntry>[2] = {}): Item => ({
  entry: newEntry('directory', path, rest),
});
export const symlink = (path: string, target: string): Item => ({
  entry: newEntry('symlink', path, { link: Buffer.from(target) }),
});
export const hardlink = (path: string, target: string): Item => ({
  entry: newEntry('hardlink', path, { link: Buffer.from(target) }),
});
