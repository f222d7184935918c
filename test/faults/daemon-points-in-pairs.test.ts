/**
 * The daemon is killed at each fault point of one operation while another one is queued or in flight on the same
 * container. The next daemon leaves what some serial order of the two allows, each done or not done.
 *
 * Each point is hit once; HOLDFAST_PAIRS_EVERY=n takes each n-th of all combinations (1 = all, which takes hours).
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CrashLanes, type Shot } from '../support/crash-lanes.ts';
import { harmlessLane, lane, passingsOf, SECONDS, someOf, type Dying, type Passings } from '../support/shot-plan.ts';

const EVERY = Number(process.env.HOLDFAST_PAIRS_EVERY ?? 0);
/** Containers that a death meets at the same time. */
const LANES = EVERY === 0 ? 2 : 4;
/** Together they pass all points of the daemon. */
const FEW: readonly Dying[] = [
  ...(['start', 'prune'] as const).map(created),
  ...(['rm -f', 'restart', 'rename', 'exec', 'connect', 'disconnect', 'commit', 'attach'] as const).map(running),
];
const DYING: readonly Dying[] =
  EVERY === 0
    ? FEW
    : [
        ...FEW,
        ...(['rm', 'connect', 'restart'] as const).map(created),
        ...(['stop', 'kill', 'pause', 'update', 'cp'] as const).map(running),
      ];
/** Those of the images that a commit makes are in images-killed.test.ts. */
const ELSEWHERE = 'layer.';

function created(operation: Dying['operation']): Dying {
  return { base: 'created', operation };
}

function running(operation: Dying['operation']): Dying {
  return { base: 'running', operation };
}

let lanes: CrashLanes;
beforeAll(async () => {
  lanes = await CrashLanes.start();
});
afterAll(async () => lanes?.[Symbol.asyncDispose]());

interface Passing {
  dying: Dying;
  point: string;
  n: number;
}

async function recordAll(): Promise<[Dying, Passings][]> {
  const all: [Dying, Passings][] = [];
  for (const dying of DYING) {
    const { daemon } = await lanes.recorded(dying.base, dying.operation);
    all.push([dying, passingsOf(daemon.filter((point) => !point.startsWith(ELSEWHERE)))]);
  }
  return all;
}

/** Once per point, in turn in each operation that passes it. */
function once(recorded: [Dying, Passings][]): Passing[] {
  const names = [...new Set(recorded.flatMap(([, passings]) => [...passings.keys()]))].sort();
  return names.map((point, i) => {
    const passing = recorded.filter(([, passings]) => passings.has(point));
    const [dying, passings] = passing[i % passing.length]!;
    const some = someOf(passings.get(point)!);
    return { dying, point, n: some[i % some.length]! };
  });
}

const everywhere = (recorded: [Dying, Passings][]): Passing[] =>
  recorded.flatMap(([dying, passings]) =>
    [...passings].flatMap(([point, often]) => someOf(often).map((n) => ({ dying, point, n }))),
  );

function shotsOf(recorded: [Dying, Passings][]): Shot[] {
  const shot = ({ dying, point, n }: Passing, k: number): Shot => ({
    daemon: `${point}#${n}`,
    lanes: Array.from({ length: LANES }, (_, i) => lane(dying, k * LANES + i)),
  });
  if (EVERY === 0) return once(recorded).map(shot);
  // Each second operation, sent before the dying one and after it.
  const rounds = (SECONDS.length * 2) / LANES;
  return everywhere(recorded)
    .flatMap((passing) => Array.from({ length: rounds }, (_, k) => shot(passing, k)))
    .filter((_, i) => i % EVERY === 0);
}

test(
  'the daemon killed at each point of one operation beside another leaves what a serial order allows [crash-pairs-daemon]',
  async () => {
    const recorded = await recordAll();
    const shots = shotsOf(recorded);
    const wrong: string[] = [];
    const hit = new Set<string>();
    const fire = async (shot: Shot): Promise<void> => {
      const result = await lanes.fire(shot);
      wrong.push(...result.wrong);
      if (result.daemonDied) hit.add(shot.daemon.split('#')[0]!);
    };
    for (const shot of shots) await fire(shot);
    // The second operation may have kept the first from its point.
    const missed = once(recorded).filter(({ point }) => !hit.has(point));
    for (const [i, { dying, point }] of missed.entries())
      await fire({ daemon: `${point}#1`, lanes: [harmlessLane(dying, i)] });
    const points = once(recorded).map(({ point }) => point);
    console.log(
      `daemon: ${hit.size} of ${points.length} points hit, ${shots.length} deaths in ${shots.length * LANES} pairs`,
    );
    expect(wrong).toEqual([]);
    expect(points.filter((point) => !hit.has(point))).toEqual([]);
  },
  EVERY === 0 ? 900_000 : 10 * 3_600_000,
);
