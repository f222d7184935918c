/**
 * Deaths at a fault point beside two operations that once left something wrong. shim-points.test.ts, which goes through
 * all points, has found them.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CrashLanes, type Lane } from '../support/crash-lanes.ts';
import { pieces } from '../support/shot-plan.ts';

const SIDE_BY_SIDE = 4;

const running = (operations: Lane['operations'], shim: string, apart = 8): Lane => ({
  base: 'running',
  operations,
  apart,
  shim,
});
const created = (operations: Lane['operations'], shim: string): Lane => ({
  base: 'created',
  operations,
  apart: 8,
  shim,
});

const cases: Record<string, Lane> = {
  'a start whose shim dies after it let the init go is answered as a success [crash-start-answer]': created(
    ['start', 'attach'],
    'init.opened#1',
  ),
  'a commit resumes a container whose shim dies right after the pause [crash-commit-pause]': running(
    ['prune', 'commit'],
    'answer.after.pause#1',
  ),
  'a stop whose shim dies right after its answer is a success [crash-stop-answer]': running(
    ['pause', 'stop'],
    'answer.after.stop#1',
  ),
  'a forced removal whose shim dies while it deletes is done [crash-remove-delete]': running(
    ['rm -f', 'pause'],
    'runtime.ended.delete#1',
    0,
  ),
  'an attach whose shim dies after it took the client is answered once [crash-attach-twice]': running(
    ['attach', 'cp'],
    'answer.before.attach#1',
    40,
  ),
  'an exec whose shim dies after it took the client leaves nothing [crash-exec]': running(
    ['exec', 'attach'],
    'runtime.spawned.exec#1',
  ),
  'no successor makes the directory of a removed container again [crash-remove-directory]': running(
    ['stop', 'rm -f'],
    'death.removed#1',
    0,
  ),
  'a keeper that no file names does not outlive the restart [crash-keeper-spawned]': running(
    ['kill', 'restart'],
    'keeper.spawned#1',
  ),
  'nor one whose file was not renamed [crash-keeper-draft]': running(['commit', 'restart'], 'keeper.before#1'),
  'the cgroup of a shim that dies while it ends is removed with its container [crash-shim-cgroup]': running(
    ['connect', 'rm -f'],
    'shim.unlistened#1',
    40,
  ),
  'nor does one that dies as it hears of the removal leave its cgroup [crash-removed-cgroup]': running(
    ['rm -f', 'attach'],
    'answer.after.removed#1',
    0,
  ),
  'a stop waits until it is decided whether a restart follows [crash-stop-undecided]': {
    ...running(['crash', 'stop'], 'journal.after.exited#1'),
    base: 'restarting',
  },
  'a pause without its record is a pause [crash-pause-record]': running(['pause', 'rename'], 'journal.before.paused#1'),
  'a pause that ends after its shim is seen by the successor [crash-pause-in-flight]': running(
    ['pause', 'update'],
    'runtime.spawned.pause#1',
  ),
  'a create that ends after its shim leaves no container [crash-create-in-flight]': created(
    ['start', 'rename'],
    'runtime.spawned.create#1',
  ),
  'a restart is not done again by the successor [crash-restart-again]': running(
    ['restart', 'update'],
    'answer.before.restart#1',
  ),
};

let lanes: CrashLanes;
const wrong: string[] = [];
const hits = new Set<string>();
beforeAll(async () => {
  lanes = await CrashLanes.start();
  for (const some of pieces(Object.values(cases), SIDE_BY_SIDE)) {
    const result = await lanes.fire({ daemon: '', lanes: some });
    wrong.push(...result.wrong);
    for (const point of result.hits.flat()) hits.add(point);
  }
}, 600_000);
afterAll(async () => lanes?.[Symbol.asyncDispose]());

test.each(Object.entries(cases))('%s', (_, { shim }) => {
  expect(wrong.filter((text) => text.includes(`dying at ${shim};`))).toEqual([]);
  expect([...hits]).toEqual(expect.arrayContaining(shim.split(' ')));
});
