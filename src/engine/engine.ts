/** The engine: the domain's parts, put together. */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { ContainerRows } from '../store/containers.ts';
import { openDatabase } from '../store/database.ts';
import { DistributionRows } from '../store/distribution.ts';
import { EventStore } from '../store/events.ts';
import { ExecRows } from '../store/execs.ts';
import { ImageRows } from '../store/images.ts';
import { LayerRows } from '../store/layers.ts';
import { NetworkStore } from '../store/networks.ts';
import { VolumeStore } from '../store/volumes.ts';
import { wallNow } from './clock.ts';
import { ContainerFiles } from './files/container-files.ts';
import { Containers } from './containers/containers.ts';
import { Execs } from './containers/execs.ts';
import { isRunning } from './containers/moves.ts';
import { EventLog } from './events/event-log.ts';
import { Archives } from './images/archive.ts';
import { Downloads } from './images/downloads.ts';
import { Images } from './images/images.ts';
import { Layers } from './images/layers.ts';
import { Puller } from './images/pull.ts';
import { Pusher } from './images/push.ts';
import { Endpoints } from './images/registry/endpoints.ts';
import { Registries } from './images/registry/registries.ts';
import { Snapshots } from './images/snapshots.ts';
import { Unpacker } from './images/unpack.ts';
import { Networks } from './networks/networks.ts';
import type { Paths } from './paths.ts';
import { installShimBundle } from './shims/bundle.ts';
import { ShimPool } from './shims/pool.ts';
import { System } from './system.ts';
import { Volumes } from './volumes/volumes.ts';

/** Where the pieces that run as processes of their own lie, built. */
export interface Built {
  /** Directory of the shim's bundle. */
  shim: string;
  /** Scripts. */
  unpacker: string;
  packer: string;
  archiver: string;
  portProxy: string;
}

export interface Engine {
  readonly config: Config;
  readonly paths: Paths;
  readonly containers: Containers;
  readonly images: Images;
  readonly puller: Puller;
  readonly pusher: Pusher;
  readonly registries: Registries;
  readonly snapshots: Snapshots;
  readonly networks: Networks;
  readonly volumes: Volumes;
  readonly events: EventLog;
  readonly system: System;
  /** Sweeps up what a dead daemon left half done, and finds every shim again; resolves when all that answer are
   * restored.
   *  When it returns, everything that the store knows can be asked for: what is not restored yet makes its askers
   * wait. */
  restore(): Promise<void>;
  /** Closes connections and the store; containers go on. */
  close(): Promise<void>;
}

/** Opens the store and joins the parts. @throws SystemFault when the store is a newer release's */
export async function openEngine(config: Config, paths: Paths, built: Built, log: Logger): Promise<Engine> {
  const db = openDatabase(paths.database());
  const events = new EventLog(new EventStore(db));
  const execs = new Execs(new ExecRows(db));
  const archives = new Archives(built.packer, paths.images());
  const layers = new Layers(new LayerRows(db), paths.images(), new Unpacker(built.unpacker), archives);
  const snapshots = new Snapshots(paths, layers);
  // The parts need each other's answers; the containers, made last, give them.
  const late: { containers?: Containers } = {};
  const all = () => late.containers?.all() ?? [];
  const images = new Images({
    rows: new ImageRows(db),
    layers,
    events,
    directory: paths.images(),
    claimed: () => snapshots.claimed(),
    now: wallNow,
    usersOf: (imageId) =>
      all()
        .filter((c) => c.imageId === imageId)
        .map((c) => ({ id: c.id, running: isRunning(c) })),
  });
  const distribution = new DistributionRows(db);
  const endpoints = new Endpoints({
    mirrors: config.registryMirrors,
    insecure: config.insecureRegistries,
    certificates: config.registryCerts,
  });
  const downloads = new Downloads(join(paths.images(), 'downloads'), {
    concurrent: config.maxConcurrentDownloads,
    attempts: config.maxDownloadAttempts,
  });
  const puller = new Puller({ endpoints, downloads, layers, images, rows: distribution });
  const pusher = new Pusher({ endpoints, layers, images, rows: distribution, concurrent: config.maxConcurrentUploads });
  const registries = new Registries(endpoints);
  const volumes = new Volumes({
    store: new VolumeStore(db),
    events,
    root: paths.volumes(),
    usersOf: (name) =>
      all()
        .filter((c) => c.mounts.some((m) => m.name === name))
        .map((c) => c.id),
  });
  const networks = new Networks({
    store: new NetworkStore(db),
    config,
    paths,
    events,
    log,
    proxyBundle: built.portProxy,
  });
  await volumes.start();
  const pool = new ShimPool(
    installShimBundle(built.shim, paths.shimBundles()),
    config.warmShims,
    join(config.dataRoot, 'shims', 'log'),
  );
  const rows = new ContainerRows(db);
  const containers = new Containers({
    config,
    paths,
    log,
    rows,
    execs,
    events,
    images,
    archives,
    snapshots,
    networks,
    volumes,
    files: new ContainerFiles({ script: built.archiver, paths, snapshots, volumes, events, log }),
    pool,
  });
  late.containers = containers;
  const system = new System({
    config,
    containers: all,
    images: () => images.list({ labels: [], references: [], before: [], since: [] }, { all: false }).length,
    listeners: () => events.subscribers,
  });
  return {
    config,
    paths,
    containers,
    images,
    puller,
    pusher,
    registries,
    snapshots,
    networks,
    volumes,
    events,
    system,
    async restore() {
      const restored = containers.restore();
      const connected = networks.start();
      await Promise.all([restored, connected]);
      // Not before: on a busy host their start would take the CPU time that somebody's list is waiting for.
      pool.fill();
      await networks.sweep((id) => containers.holdsNetwork(id));
      await volumes.sweep();
      await images.sweep();
      distribution.sweep();
      await downloads.sweep(distribution.knows);
    },
    async close() {
      endpoints.close();
      pool.close();
      containers.close();
      await networks.close();
      rows.close();
      db.close();
    },
  };
}
