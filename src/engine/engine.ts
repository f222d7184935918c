/** The engine: opens the store and wires the domain's objects. */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { isRunning } from '../model/container-status.ts';
import { ContainerRows } from '../store/containers.ts';
import { openDatabase } from '../store/database.ts';
import { DistributionRows } from '../store/distribution.ts';
import { EventStore } from '../store/events.ts';
import { ExecRows } from '../store/execs.ts';
import { ImageRows } from '../store/images.ts';
import { LayerRows } from '../store/layers.ts';
import { NetworkStore } from '../store/networks.ts';
import { Reserve } from '../store/reserve.ts';
import { VolumeStore } from '../store/volumes.ts';
import { wallNow } from './clock.ts';
import { ContainerFiles } from './files/container-files.ts';
import { ContainerIndex } from './containers/container-index.ts';
import { Containers } from './containers/containers.ts';
import { Execs } from './containers/execs.ts';
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
import { Unpacker } from './images/unpacker.ts';
import { Networks } from './networks/networks.ts';
import type { Paths } from './paths.ts';
import { installShimBundle } from './shims/bundle.ts';
import { ShimPool } from './shims/pool.ts';
import { System } from './system.ts';
import { Volumes } from './volumes/volumes.ts';

/** Where the programs that run as processes of their own are, built. */
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
  /**
   * Finishes what a dead daemon left half done and finds every shim again; resolves when all that answer are restored.
   * When it returns, all containers of the store can be asked for: requests wait for their own container.
   */
  restore(): Promise<void>;
  /** Closes connections and the store; containers go on. */
  close(): Promise<void>;
}

/** Opens the store, makes each object after those it uses. @throws SystemFault when a newer release wrote the store */
export async function openEngine(config: Config, paths: Paths, built: Built, log: Logger): Promise<Engine> {
  const db = openDatabase(paths.database());
  const reserve = new Reserve(paths.database());
  const rows = new ContainerRows(db);
  const distribution = new DistributionRows(db);
  const events = new EventLog(new EventStore(db));
  const execs = new Execs(new ExecRows(db));

  const shimLog = join(config.dataRoot, 'shims', 'log');
  const pool = new ShimPool(installShimBundle(built.shim, paths.shimBundles()), config.warmShims, shimLog);
  // Before everything that asks which containers use it.
  const index = new ContainerIndex({ config, paths, rows, execs, events, log, pool });

  const archives = new Archives(built.packer, paths.images());
  const layers = new Layers(new LayerRows(db), paths.images(), new Unpacker(built.unpacker), archives);
  const snapshots = new Snapshots(paths, layers);
  const images = new Images({
    rows: new ImageRows(db),
    layers,
    events,
    directory: paths.images(),
    chainsInUse: () => snapshots.chainsInUse(),
    now: wallNow,
    usersOf: (imageId) => {
      const users = index.containers().filter((c) => c.imageId === imageId);
      return users.map((c) => ({ id: c.id, running: isRunning(c) }));
    },
  });
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
  const pusher = new Pusher({
    endpoints,
    layers,
    images,
    rows: distribution,
    concurrent: config.maxConcurrentUploads,
  });

  const volumes = new Volumes({
    store: new VolumeStore(db),
    events,
    root: paths.volumes(),
    usersOf: (name) => {
      const users = index.containers().filter((c) => c.mounts.some((mount) => mount.name === name));
      return users.map((c) => c.id);
    },
    log,
  });
  // Not awaited: a removal takes as long as the volume has files, and requests wait for their own volume only.
  volumes.start().catch((err: unknown) => log.error({ err }, 'could not read which volumes are unfinished'));
  const networks = new Networks({
    store: new NetworkStore(db),
    config,
    paths,
    events,
    log,
    proxyBundle: built.portProxy,
  });

  const containers = new Containers({
    config,
    paths,
    log,
    rows,
    execs,
    events,
    pool,
    index,
    images,
    archives,
    snapshots,
    networks,
    volumes,
    files: new ContainerFiles({ script: built.archiver, paths, snapshots, volumes, events, log }),
  });
  const everyImage = { labels: [], references: [], before: [], since: [] };
  const system = new System({
    config,
    containers: index.containers,
    images: () => images.list(everyImage, { all: false }).length,
    listeners: () => events.subscribers,
  });

  return {
    config,
    paths,
    containers,
    images,
    puller,
    pusher,
    registries: new Registries(endpoints),
    snapshots,
    networks,
    volumes,
    events,
    system,
    async restore() {
      // What fails with one part must not keep the others from working.
      const attempt = (what: string, work: () => Promise<void>): Promise<boolean> =>
        work().then(
          () => true,
          (err: unknown) => {
            log.error({ err }, `could not ${what}`);
            return false;
          },
        );
      const [allKnown] = await Promise.all([
        attempt('restore the containers', () => containers.restore()),
        attempt('restore the networks', () => networks.start()),
      ]);
      // Afterwards: on a busy host, spawning shims would take the CPU time that the first list needs.
      pool.fill();
      // Otherwise a container that is not known may be using what these release.
      if (allKnown) {
        await attempt("release ended containers' networks", () => networks.sweep((id) => containers.holdsNetwork(id)));
        await attempt('unmount unused volumes', () => volumes.sweep());
      }
      await attempt('delete unused layers', () => images.sweep());
      await attempt('delete finished downloads', () => {
        distribution.sweep();
        return downloads.sweep(distribution.knows);
      });
    },
    async close() {
      endpoints.close();
      pool.close();
      containers.close();
      await networks.close();
      rows.close();
      db.close();
      reserve.close();
    },
  };
}
