/**
 * Which operation may begin in which state, and Docker's words when it may not (moby
 * daemon/{start,stop,pause,unpause,exec}.go).
 */
import { Conflict, EngineError, NotModified, SystemFault } from '../../model/errors.ts';
import type { Container } from '../../model/container.ts';

export type Operation = 'start' | 'stop' | 'kill' | 'pause' | 'unpause' | 'exec' | 'attach' | 'resize' | 'top';
export type Standing = 'created' | 'running' | 'paused' | 'restarting' | 'exited' | 'removing' | 'dead';

/** Docker's State.Status of a container. */
export function standing(c: Container): Standing {
  if (c.phase === 'removing') return 'removing';
  if (c.phase === 'dead') return 'dead';
  const { status } = c.state;
  return status === 'starting' ? (c.state.startedAt ? 'exited' : 'created') : status;
}

/** Whether a process of it lives or is about to (Docker's State.Running, true while restarting). */
export const isRunning = (c: Container): boolean =>
  ['running', 'paused', 'restarting'].includes(c.state.status) && c.phase === 'ready';

type Refusal = (c: Container) => EngineError;

const notRunning: Refusal = (c) => new Conflict(`container ${c.id} is not running`);
const already: Refusal = () => new NotModified('');
const restarting: Refusal = (c) => new Conflict(`Container ${c.id} is restarting, wait until the container is running`);
const doomed: Refusal = () => new Conflict('container is marked for removal and cannot be started');

const refusals: Record<Operation, Partial<Record<Standing, Refusal>>> = {
  start: {
    running: already,
    restarting: already,
    paused: () => new Conflict('cannot start a paused container, try unpause instead'),
    removing: doomed,
    dead: doomed,
  },
  stop: { created: already, exited: already, removing: already, dead: already },
  kill: { created: notRunning, exited: notRunning, removing: notRunning, dead: notRunning },
  pause: {
    created: notRunning,
    exited: notRunning,
    removing: notRunning,
    dead: notRunning,
    restarting,
    paused: (c) => new Conflict(`container ${c.id} is already paused`),
  },
  unpause: {
    // moby's is untyped, so a 500.
    created: (c) => new SystemFault(`Container ${c.id} is not paused`),
    exited: (c) => new SystemFault(`Container ${c.id} is not paused`),
    running: (c) => new SystemFault(`Container ${c.id} is not paused`),
    restarting: (c) => new SystemFault(`Container ${c.id} is not paused`),
  },
  exec: {
    created: notRunning,
    exited: notRunning,
    removing: notRunning,
    dead: notRunning,
    restarting,
    paused: (c) => new Conflict(`Container ${c.name} is paused, unpause the container before exec`),
  },
  attach: {
    paused: (c) => new Conflict(`container ${c.id} is paused, unpause the container before attach`),
    restarting: (c) => new Conflict(`container ${c.id} is restarting, wait until the container is running`),
  },
  resize: { created: notRunning, exited: notRunning, removing: notRunning, dead: notRunning, restarting },
  top: { created: notRunning, exited: notRunning, removing: notRunning, dead: notRunning, restarting },
};

/** @throws the refusal that Docker gives for `operation` in this container's state */
export function allow(operation: Operation, c: Container): void {
  const refuse = refusals[operation][standing(c)];
  if (refuse) throw refuse(c);
}
