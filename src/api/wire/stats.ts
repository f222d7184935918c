/** JSON of a container's resource usage. */
import type { Container } from '../../model/container.ts';
import { NO_CPU, type Stats } from '../../engine/containers/views/stats.ts';
import { ZERO_TIME } from '../../engine/time.ts';
import type { Schemas } from './schemas.ts';

/**
 * An object of GET /containers/{id}/stats. Clients compute the CPU usage from this sample and the one before it, which
 * is zero in the first object of a stream.
 */
export function containerStats({ id, name }: Container, now: Stats, before?: Stats): Schemas['ContainerStats'] {
  return {
    ...now,
    preread: before?.read ?? ZERO_TIME,
    precpu_stats: before?.cpu_stats ?? NO_CPU,
    num_procs: 0,
    storage_stats: {},
    name: `/${name}`,
    id,
  };
}
