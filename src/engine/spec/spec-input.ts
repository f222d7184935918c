import type { Config } from '../../config/config.ts';
import type { Container } from '../../model/container.ts';
import type { Paths } from '../paths.ts';
import type { Donors } from './mounts.ts';

/** What a container's OCI configuration depends on besides the host. */
export interface SpecInput {
  container: Container;
  config: Config;
  paths: Paths;
  /** Path of the network namespace to join; '' = the host's. */
  netns: string;
  /** By default the containers that the modes name. */
  donors?: Donors;
  /** Environment variables about linked containers (legacy `--link`). */
  linkEnv?: readonly string[];
  /** PID of a running container whose PID or IPC namespace this one joins, by full id. */
  pidOf: (containerId: string) => number;
}
