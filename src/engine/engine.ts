/** The engine: the domain's parts, put together. */
import type { Config } from '../config/config.ts';
import type { Containers } from './containers/containers.ts';
import type { EventLog } from './events/event-log.ts';
import type { Images } from './images/images.ts';
import type { Snapshots } from './images/snapshots.ts';
import type { Networks } from './networks/networks.ts';
import type { Paths } from './paths.ts';
import type { System } from './system.ts';
import type { Volumes } from './volumes/volumes.ts';

export interface Engine {
  readonly config: Config;
  readonly paths: Paths;
  readonly containers: Containers;
  readonly images: Images;
  readonly snapshots: Snapshots;
  readonly networks: Networks;
  readonly volumes: Volumes;
  readonly events: EventLog;
  readonly system: System;
}
