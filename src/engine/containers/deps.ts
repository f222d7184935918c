/** The services that the container operations use. Each operation names those it needs: `Pick<ContainerDeps, …>`. */
import type { Logger } from 'pino';
import type { Config } from '../../config/config.ts';
import type { ContainerRows } from '../../store/containers.ts';
import type { EventLog } from '../events/event-log.ts';
import type { ContainerFiles } from '../files/container-files.ts';
import type { Archives } from '../images/archive.ts';
import type { Images } from '../images/images.ts';
import type { Snapshots } from '../images/snapshots.ts';
import type { Networks } from '../networks/networks.ts';
import type { Paths } from '../paths.ts';
import type { ShimPool } from '../shims/pool.ts';
import type { Volumes } from '../volumes/volumes.ts';
import type { ContainerIndex } from './container-index.ts';
import type { Execs } from './execs.ts';

export interface ContainerDeps {
  config: Config;
  paths: Paths;
  log: Logger;
  rows: ContainerRows;
  execs: Execs;
  events: EventLog;
  pool: ShimPool;
  index: ContainerIndex;
  images: Images;
  archives: Archives;
  snapshots: Snapshots;
  networks: Networks;
  volumes: Volumes;
  files: ContainerFiles;
}
