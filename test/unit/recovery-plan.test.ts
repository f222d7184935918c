/** What a starting daemon does with a container, by where the last daemon died. */
import { describe, expect, test } from 'vitest';
import {
  orphanFate,
  planRecovery,
  startsWithDaemon,
  type Found,
  type Step,
} from '../../src/engine/containers/recovery/plan.ts';
import { initialRunState, type RunState } from '../../src/protocol/runstate.ts';

const created: Found = {
  phase: 'ready',
  state: { status: 'created', final: true, gen: 0 },
  ofEarlierBoot: false,
  shimAnswers: false,
  pausedForCommit: false,
  mayLive: false,
  holdsResources: false,
  autoRemove: false,
};
const running: Found = { ...created, state: { status: 'running', final: false, gen: 1 }, shimAnswers: true };
const exited: Found = { ...created, state: { status: 'exited', final: true, gen: 1 } };

describe('recovery of a container', () => {
  test.each<[point: string, found: Found, steps: Step[]]>([
    ['after create', created, []],
    [
      'within a start, before the shim was asked: the network is set up',
      { ...created, holdsResources: true },
      ['tear-down'],
    ],
    [
      'within a start, the shim has created it',
      { ...running, state: { status: 'starting', final: false, gen: 1 } },
      ['abandon-start'],
    ],
    [
      'within a start, and the shim died too',
      { ...running, state: { status: 'starting', final: false, gen: 1 }, shimAnswers: false },
      [],
    ],
    ['after an abandoned start', { ...exited, shimAnswers: true, holdsResources: true }, ['tear-down']],
    ['while it runs', running, []],
    ['while it runs with --rm', { ...running, autoRemove: true }, []],
    ['while its shim does not answer', { ...running, shimAnswers: false }, []],
    [
      'within a commit',
      { ...running, state: { status: 'paused', final: false, gen: 1 }, pausedForCommit: true },
      ['resume-after-commit'],
    ],
    [
      'within a commit, and the container ended',
      { ...exited, pausedForCommit: true, holdsResources: true },
      ['resume-after-commit', 'tear-down'],
    ],
    ['before the teardown that follows its end', { ...exited, holdsResources: true }, ['tear-down']],
    ['after the teardown', exited, []],
    [
      'before the teardown of --rm',
      { ...exited, autoRemove: true, holdsResources: true },
      ['tear-down', 'auto-remove'],
    ],
    ['between teardown and removal of --rm', { ...exited, autoRemove: true }, ['auto-remove']],
    ['an --rm container that never ran', { ...created, autoRemove: true }, []],
    ['an --rm container of an earlier boot', { ...exited, autoRemove: true, ofEarlierBoot: true }, []],
    ['within the removal of a stopped container', { ...exited, phase: 'removing' }, ['finish-removal']],
    ['within the forced removal of a running one', { ...running, phase: 'removing' }, ['finish-removal']],
    ['after a removal that failed', { ...exited, phase: 'dead' }, []],
  ])('daemon killed %s', (_point, found, steps) => {
    expect(planRecovery(found)).toEqual(steps);
  });

  test('resources of a container that is not final are never released', () => {
    for (const status of ['starting', 'running', 'paused', 'restarting', 'exited'] as const)
      for (const shimAnswers of [true, false])
        for (const autoRemove of [true, false]) {
          const found: Found = { ...running, state: { status, final: false, gen: 2 }, shimAnswers, autoRemove };
          expect(planRecovery({ ...found, holdsResources: true })).not.toContain('tear-down');
          expect(planRecovery({ ...found, holdsResources: true })).not.toContain('auto-remove');
        }
  });
});

describe('restart policy when the daemon starts', () => {
  const ran: RunState = { ...initialRunState(), gen: 1, status: 'exited', startedAt: '1', exitCode: 1 };
  test.each<[policy: string, retries: number, state: Partial<RunState>, starts: boolean]>([
    ['no', 0, {}, false],
    ['', 0, {}, false],
    ['always', 0, {}, true],
    ['always', 0, { gen: 0, startedAt: '' }, false],
    ['always', 0, { gen: 1, startedAt: '' }, false],
    ['always', 0, { stoppedByUser: true }, true],
    ['unless-stopped', 0, {}, true],
    ['unless-stopped', 0, { stoppedByUser: true }, false],
    ['on-failure', 0, {}, true],
    ['on-failure', 0, { exitCode: 0 }, false],
    ['on-failure', 0, { stoppedByUser: true, exitCode: 137 }, true],
    ['on-failure', 0, { stoppedByUser: true, exitCode: 0 }, false],
    ['on-failure', 2, { restartCount: 1 }, true],
    ['on-failure', 2, { restartCount: 2 }, false],
  ])('%s:%d with %j: starts = %s [policy-table]', (Name, MaximumRetryCount, state, starts) => {
    expect(startsWithDaemon({ Name, MaximumRetryCount }, { ...ran, ...state })).toBe(starts);
  });
});

test.each([
  [false, false, false, 'delete'],
  [false, false, true, 'report'],
  [false, true, false, 'report'],
  [false, true, true, 'report'],
  [true, false, false, 'report'],
  [true, false, true, 'report'],
  [true, true, false, 'report'],
  [true, true, true, 'report'],
])('a directory without a row, journal %s, lock held %s, traces %s: %s', (hasJournal, isLocked, hasTraces, fate) => {
  expect(orphanFate({ hasJournal, isLocked, hasTraces })).toBe(fate);
});
