/**
 * The one owner of what state a container is in, in Docker's terms: its status, `Running`, its health, the text of
 * `docker ps`, and which operation a state refuses.
 */
import type { HealthStatus } from '../protocol/records.ts';
import { alreadyPaused, execWhilePaused, isRestarting, notPaused, notRunning } from '../protocol/refusals.ts';
import type { RunState } from '../protocol/runstate.ts';
import { Conflict, NotModified, SystemFault, type EngineError } from './errors.ts';
import type { Container } from './container.ts';

type WithState = Pick<Container, 'phase' | 'state'>;

export const DOCKER_STATUSES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'] as const;
export type DockerStatus = (typeof DOCKER_STATUSES)[number];

/** Docker's State.Status: running wins over a removal in progress (moby container/state.go, StateString). */
export function dockerStatus({ phase, state }: WithState): DockerStatus {
  if (state.status === 'running' || state.status === 'paused' || state.status === 'restarting') return state.status;
  if (phase === 'removing') return 'removing';
  if (phase === 'dead') return 'dead';
  // While it starts, a container has the status it had before.
  return state.startedAt === '' ? 'created' : 'exited';
}

/** Docker's `Running`: true also while paused, between two attempts of the restart policy, and during its removal. */
export const isRunning = ({ state: { status } }: { state: RunState }): boolean =>
  status === 'running' || status === 'paused' || status === 'restarting';

/** Whether its shim is starting it: Docker shows the earlier status until the process runs. */
export const isStarting = ({ state }: { state: RunState }): boolean => state.status === 'starting';

/** Being removed, or left behind by a removal that failed: moby's `RemovalInProgress || Dead`. */
export const isDeadOrRemoving = ({ phase }: Pick<Container, 'phase'>): boolean =>
  phase === 'removing' || phase === 'dead';

export type Operation = 'start' | 'stop' | 'kill' | 'pause' | 'unpause' | 'exec' | 'attach' | 'resize' | 'top';

type Refusal = (c: Container) => EngineError;

const refuseNotRunning: Refusal = (c) => new Conflict(notRunning(c.id));
const refuseNoChange: Refusal = () => new NotModified('');
const refuseRestarting: Refusal = (c) => new Conflict(isRestarting(c.id));
const refuseRemoving: Refusal = () => new Conflict('container is marked for removal and cannot be started');
// moby's error has no type, so its status is 500 (daemon/unpause.go).
const refuseNotPaused: Refusal = (c) => new SystemFault(notPaused(c.id));

const unlessRunning = {
  created: refuseNotRunning,
  exited: refuseNotRunning,
  removing: refuseNotRunning,
  dead: refuseNotRunning,
};

/** Docker's refusals (moby daemon/{start,stop,kill,pause,unpause,exec,attach,resize,top_unix}.go). */
const refusals: Record<Operation, Partial<Record<DockerStatus, Refusal>>> = {
  start: {
    running: refuseNoChange,
    restarting: refuseNoChange,
    paused: () => new Conflict('cannot start a paused container, try unpause instead'),
    removing: refuseRemoving,
    dead: refuseRemoving,
  },
  stop: { created: refuseNoChange, exited: refuseNoChange, removing: refuseNoChange, dead: refuseNoChange },
  kill: unlessRunning,
  pause: { ...unlessRunning, restarting: refuseRestarting, paused: (c) => new Conflict(alreadyPaused(c.id)) },
  unpause: {
    created: refuseNotPaused,
    running: refuseNotPaused,
    restarting: refuseNotPaused,
    exited: refuseNotPaused,
    removing: refuseNotPaused,
    dead: refuseNotPaused,
  },
  exec: { ...unlessRunning, restarting: refuseRestarting, paused: (c) => new Conflict(execWhilePaused(c.name)) },
  attach: {
    paused: (c) => new Conflict(`container ${c.id} is paused, unpause the container before attach`),
    restarting: (c) => new Conflict(`container ${c.id} is restarting, wait until the container is running`),
  },
  resize: { ...unlessRunning, restarting: refuseRestarting },
  top: { ...unlessRunning, restarting: refuseRestarting },
};

/** @throws the refusal that Docker gives for `operation` in this container's state */
export function assertAllowed(operation: Operation, c: Container): void {
  const refuse = refusals[operation][dockerStatus(c)];
  if (refuse) throw refuse(c);
}

/** `none` without a healthcheck. Where nothing is probed (paused, ended) it is `unhealthy`, as in dockerd. */
export function healthOf(container: WithState): HealthStatus | 'none' {
  const { health } = container.state;
  if (!health) return 'none';
  return container.state.status === 'running' ? health.status : 'unhealthy';
}

/** `Up 5 minutes (healthy)`, `Exited (137) 3 seconds ago`. `now` is wall ns. */
export function describeStatus(container: WithState, now: bigint): string {
  const { startedAt, finishedAt, exitCode } = container.state;
  const since = (moment: string): string => humanDuration(moment === '' ? 0n : now - BigInt(moment));
  switch (dockerStatus(container)) {
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
