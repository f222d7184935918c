/** What the containers' part of the engine is made of. */
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import type { ContainerRows } from '../../store/containers.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Archives } from '../images/archive.ts';
import type { Images } from '../images/images.ts';
import type { Snapshots } from '../images/snapshots.ts';
import type { Networks } from '../networks/networks.ts';
import type { Paths } from '../paths.ts';
import type { ShimPool } from '../shims/pool.ts';
import type { Volumes } from '../volumes/volumes.ts';
import type { ContainerFiles } from '../files/container-files.ts';
import type { Execs } from './execs.ts';

export interface Parts {
  config: Config;
  paths: Paths;
  log: Logger;
  rows: ContainerRows;
  execs: Execs;
  events: EventLog;
  images: Images;
  archives: Archives;
  snapshots: Snapshots;
  networks: Networks;
  volumes: Volumes;
  files: ContainerFiles;
  pool: ShimPool;
}
