/** The engine's images on a directory and database of their own, without a daemon. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import type { NewEvent } from '../../src/model/event.ts';
import { Archives } from '../../src/engine/images/archive.ts';
import { Images } from '../../src/engine/images/images.ts';
import { Layers, type Layer } from '../../src/engine/images/layers.ts';
import type { ImageUser } from '../../src/engine/images/removal.ts';
import { Snapshots } from '../../src/engine/images/snapshots.ts';
import { Unpacker } from '../../src/engine/images/unpacker.ts';
import { Paths } from '../../src/engine/paths.ts';
import { openDatabase } from '../../src/store/database.ts';
import { DistributionRows } from '../../src/store/distribution.ts';
import { ImageRows } from '../../src/store/images.ts';
import { LayerRows } from '../../src/store/layers.ts';
import { unmount } from '../../src/sys/mount.ts';
import { mountsUnder } from '../../src/sys/mountinfo.ts';
import { bundles, type Bundles } from './bundles.ts';

export interface ImageFixture {
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
  /** Containers that use an image, by image id. */
  users: Map<string, ImageUser[]>;
  /** Unpacks one archive. */
  unpack(archive: Buffer | Readable, below?: string[]): Promise<Layer>;
  [Symbol.dispose](): void;
}

export function imageFixture(
  { unpacker, packer }: Pick<Bundles, 'unpacker' | 'packer'>,
  root = mkdtempSync(join(tmpdir(), 'holdfast-images-')),
): ImageFixture {
  const paths = new Paths(join(root, 'data'), join(root, 'run'));
  mkdirSync(paths.dataRoot, { recursive: true });
  const events: NewEvent[] = [];
  const users = new Map<string, ImageUser[]>();
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
    chainsInUse: () => snapshots.chainsInUse(),
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
      const pin = layers.pin();
      try {
        return await layers.add(
          pin,
          Buffer.isBuffer(archive) ? Readable.from([archive], { objectMode: false }) : archive,
          below,
        );
      } finally {
        pin.release();
      }
    },
    [Symbol.dispose]: () => {
      db.close();
      for (const point of mountsUnder(root)) unmount(point);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/**
 * Gives each test an image store of its own: bundles the jailed programs once a file, calls `use` before each test, and
 * removes the store after it.
 */
export function useImageFixture(use: (fixture: ImageFixture, built: Bundles) => void): void {
  let built: Bundles;
  let fixture: ImageFixture;
  beforeAll(async () => void (built = await bundles()));
  afterAll(() => built[Symbol.dispose]());
  beforeEach(() => use((fixture = imageFixture(built)), built));
  afterEach(() => fixture[Symbol.dispose]());
}
