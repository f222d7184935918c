/** A container's state in Docker's words: the status enum, its flags, and the text of `docker ps`. */
import type { HealthStatus } from '../protocol/records.ts';
import type { Container } from './container.ts';

type Stated = Pick<Container, 'phase' | 'state'>;

export const DOCKER_STATUSES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'] as const;
export type DockerStatus = (typeof DOCKER_STATUSES)[number];

/** Docker's order: what runs is running, whatever is to become of it. */
export function statusOf({ phase, state }: Stated): DockerStatus {
  if (state.status === 'running' || state.status === 'paused' || state.status === 'restarting') return state.status;
  if (phase === 'removing') return 'removing';
  if (phase === 'dead') return 'dead';
  // One that is being started is still what it was before.
  return state.startedAt === '' ? 'created' : 'exited';
}

/** Docker's `Running`: also while paused or between two attempts of the restart policy. */
export const isRunning = ({ state: { status } }: Stated): boolean =>
  status === 'running' || status === 'paused' || status === 'restarting';

/** `none` without a healthcheck. Where nothing is probed (paused, ended) it is `unhealthy`, as in dockerd. */
export function healthOf(container: Stated): HealthStatus | 'none' {
  const { health } = container.state;
  if (!health) return 'none';
  return container.state.status === 'running' ? health.status : 'unhealthy';
}

/** `Up 5 minutes (healthy)`, `Exited (137) 3 seconds ago`. `now` is wall ns. */
export function describeStatus(container: Stated, now: bigint): string {
  const { startedAt, finishedAt, exitCode } = container.state;
  const since = (moment: string): string => humanDuration(moment === '' ? 0n : now - BigInt(moment));
  switch (statusOf(container)) {
    case 'paused':
      return `Up ${since(startedAt)} (Paused)`;
    case 'restarting':
      return `Restarting (${exitCode}) ${since(finishedAt)} ago`;
    case 'running':
      return `Up ${since(startedAt)}${healthSuffix(healthOf(container))}`;
    case 'removing':
      return 'Removal In Progress';
    case 'dead':
      return 'Dead';
    case 'created':
      return 'Created';
    case 'exited':
      return finishedAt === '' ? '' : `Exited (${exitCode}) ${since(finishedAt)} ago`;
  }
}

function healthSuffix(health: HealthStatus | 'none'): string {
  if (health === 'none') return '';
  return health === 'starting' ? ' (health: starting)' : ` (${health})`;
}

/** The wording of Docker's units.HumanDuration. */
function humanDuration(ns: bigint): string {
  const seconds = Number(ns / 1_000_000_000n);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.round(seconds / 3600);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  const days = Math.floor(hours / 24);
  if (days < 14) return `${days} days`;
  if (days < 60) return `${Math.floor(days / 7)} weeks`;
  if (days < 730) return `${Math.floor(days / 30)} months`;
  return `${Math.floor(seconds / 3600 / 24 / 365)} years`;
}
