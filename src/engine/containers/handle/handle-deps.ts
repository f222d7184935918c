/** The services that a container's handle uses. */
import type { Logger } from 'pino';
import type { Config } from '../../../config/config.ts';
import type { ContainerRows } from '../../../store/containers.ts';
import type { EventLog } from '../../events/event-log.ts';
import type { Paths } from '../../paths.ts';
import type { ShimPool } from '../../shims/pool.ts';
import type { Execs } from '../execs.ts';

export interface HandleDeps {
  config: Config;
  paths: Paths;
  log: Logger;
  rows: ContainerRows;
  execs: Execs;
  events: EventLog;
  pool: ShimPool;
}
