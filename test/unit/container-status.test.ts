/** What state a container is in, and which operation it refuses. */
import { describe, expect, test } from 'vitest';
import {
  assertAllowed,
  dockerStatus,
  isRunning,
  type DockerStatus,
  type Operation,
} from '../../src/model/container-status.ts';
import type { Container, Phase } from '../../src/model/container.ts';
import { Conflict, NotModified, SystemFault, type EngineError } from '../../src/model/errors.ts';
import { initialRunState, type RunStatus } from '../../src/protocol/runstate.ts';

const container = (phase: Phase, status: RunStatus, startedAt = '1'): Container =>
  ({ id: 'abc', name: 'web', phase, state: { ...initialRunState(), status, startedAt } }) as Container;

describe('status', () => {
  test.each<[phase: Phase, status: RunStatus, startedAt: string, docker: DockerStatus, running: boolean]>([
    ['ready', 'created', '', 'created', false],
    ['ready', 'starting', '', 'created', false],
    ['ready', 'starting', '1', 'exited', false],
    ['ready', 'running', '1', 'running', true],
    ['ready', 'paused', '1', 'paused', true],
    ['ready', 'restarting', '1', 'restarting', true],
    ['ready', 'exited', '1', 'exited', false],
    ['removing', 'exited', '1', 'removing', false],
    ['dead', 'exited', '1', 'dead', false],
    // A process that runs decides, whatever becomes of the container (moby container/state.go).
    ['removing', 'running', '1', 'running', true],
    ['removing', 'paused', '1', 'paused', true],
    ['dead', 'running', '1', 'running', true],
  ])('%s and %s (started at "%s") is %s, Running %s', (phase, status, startedAt, docker, running) => {
    const c = container(phase, status, startedAt);
    expect(dockerStatus(c)).toBe(docker);
    expect(isRunning(c)).toBe(running);
  });
});

describe('refusals', () => {
  const states: Record<DockerStatus, Container> = {
    created: container('ready', 'created', ''),
    running: container('ready', 'running'),
    paused: container('ready', 'paused'),
    restarting: container('ready', 'restarting'),
    exited: container('ready', 'exited'),
    removing: container('removing', 'exited'),
    dead: container('dead', 'exited'),
  };
  const refused = new Map<Operation, Partial<Record<DockerStatus, typeof EngineError>>>([
    ['start', { running: NotModified, restarting: NotModified, paused: Conflict, removing: Conflict, dead: Conflict }],
    ['stop', { created: NotModified, exited: NotModified, removing: NotModified, dead: NotModified }],
    ['kill', { created: Conflict, exited: Conflict, removing: Conflict, dead: Conflict }],
    [
      'pause',
      {
        created: Conflict,
        exited: Conflict,
        removing: Conflict,
        dead: Conflict,
        restarting: Conflict,
        paused: Conflict,
      },
    ],
    [
      'unpause',
      {
        created: SystemFault,
        running: SystemFault,
        restarting: SystemFault,
        exited: SystemFault,
        removing: SystemFault,
        dead: SystemFault,
      },
    ],
    [
      'exec',
      {
        created: Conflict,
        exited: Conflict,
        removing: Conflict,
        dead: Conflict,
        restarting: Conflict,
        paused: Conflict,
      },
    ],
    ['attach', { paused: Conflict, restarting: Conflict }],
    ['resize', { created: Conflict, exited: Conflict, removing: Conflict, dead: Conflict, restarting: Conflict }],
    ['top', { created: Conflict, exited: Conflict, removing: Conflict, dead: Conflict, restarting: Conflict }],
  ]);
  for (const [operation, byStatus] of refused) {
    test.each(Object.entries(states) as [DockerStatus, Container][])(`${operation} while %s`, (status, c) => {
      const refusal = byStatus[status];
      if (refusal) expect(() => assertAllowed(operation, c)).toThrow(refusal);
      else expect(() => assertAllowed(operation, c)).not.toThrow();
    });
  }

  test.each<[operation: Operation, c: Container, text: string]>([
    ['start', states.paused, 'cannot start a paused container, try unpause instead'],
    ['start', states.dead, 'container is marked for removal and cannot be started'],
    ['kill', states.exited, 'container abc is not running'],
    ['pause', states.paused, 'container abc is already paused'],
    ['unpause', states.exited, 'Container abc is not paused'],
    ['exec', states.paused, 'Container web is paused, unpause the container before exec'],
    ['exec', states.restarting, 'Container abc is restarting, wait until the container is running'],
    ['attach', states.paused, 'container abc is paused, unpause the container before attach'],
  ])("%s is refused with Docker's text", (operation, c, text) => {
    expect(() => assertAllowed(operation, c)).toThrow(text);
  });
});
