/**
 * A container's shim is killed at each of its fault points while two operations are under way: a running daemon makes a
 * successor finish or undo them. Then shim and daemon are killed, each at a point of its own, in the same operation.
 *
 * Each point is hit once; HOLDFAST_PAIRS_EVERY=n takes each n-th of all combinations (1 = all, which takes hours).
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CrashLanes, type Lane, type Shot } from '../support/crash-lanes.ts';
import {
  harmlessLane,
  lane,
  passingsOf,
  pieces,
  SECONDS,
  someOf,
  type Dying,
  type Passings,
} from '../support/shot-plan.ts';

const EVERY = Number(process.env.HOLDFAST_PAIRS_EVERY ?? 0);
const LANES = 6;
const DYING: readonly Dying[] = [
  { base: 'created', operation: 'start' },
  { base: 'running', operation: 'stop' },
  { base: 'running', operation: 'kill' },
  { base: 'running', operation: 'restart' },
  { base: 'running', operation: 'rm -f' },
  { base: 'running', operation: 'pause' },
  { base: 'running', operation: 'exec' },
  { base: 'running', operation: 'attach' },
  { base: 'running', operation: 'commit' },
  { base: 'restarting', operation: 'crash' },
  { base: 'running', operation: 'write' },
];

/** Lanes of a shot in which the daemon dies too. */
const BOTH_LANES = 4;
const BOTH_SHOTS = 6;
/** Deaths after which a successor has something to do. */
const FIRST_DEATHS: readonly { dying: Dying; point: string }[] = [
  { dying: { base: 'created', operation: 'start' }, point: 'init.opened' },
  { dying: { base: 'created', operation: 'start' }, point: 'journal.after.created' },
  { dying: { base: 'running', operation: 'stop' }, point: 'signal.sent' },
  { dying: { base: 'running', operation: 'restart' }, point: 'journal.after.exited' },
  { dying: { base: 'running', operation: 'pause' }, point: 'runtime.ended.pause' },
  { dying: { base: 'restarting', operation: 'crash' }, point: 'journal.after.restarting' },
];
const SUCCESSORS_EVERY = 3;
const DEADLINE_MS = EVERY === 0 ? 900_000 : 10 * 3_600_000;

let lanes: CrashLanes;
const recorded: { dying: Dying; shim: Passings; daemon: Passings }[] = [];
beforeAll(async () => {
  lanes = await CrashLanes.start();
  for (const dying of DYING) {
    const { shim, daemon } = await lanes.recorded(dying.base, dying.operation);
    recorded.push({ dying, shim: passingsOf(shim), daemon: passingsOf(daemon) });
  }
}, DEADLINE_MS);
afterAll(async () => lanes?.[Symbol.asyncDispose]());

interface Passing {
  dying: Dying;
  point: string;
  n: number;
}

/** Once per point, in turn in each operation that passes it. */
function once(): Passing[] {
  const names = [...new Set(recorded.flatMap(({ shim }) => [...shim.keys()]))].sort();
  return names.map((point, i) => {
    const passing = recorded.filter(({ shim }) => shim.has(point));
    const { dying, shim } = passing[i % passing.length]!;
    const some = someOf(shim.get(point)!);
    return { dying, point, n: some[i % some.length]! };
  });
}

const everywhere = (): Passing[] =>
  recorded.flatMap(({ dying, shim }) =>
    [...shim].flatMap(([point, often]) => someOf(often).map((n) => ({ dying, point, n }))),
  );

function lanesOf(): Lane[] {
  const dying = ({ dying, point, n }: Passing, k: number): Lane => lane(dying, k, { shim: `${point}#${n}` });
  if (EVERY === 0) return once().map(dying);
  return everywhere()
    .flatMap((passing) => Array.from({ length: SECONDS.length * 2 }, (_, k) => dying(passing, k)))
    .filter((_, i) => i % EVERY === 0);
}

/** Each operation in turn; the points of shim and daemon run through the lists at different speeds. */
function bothShots(): Shot[] {
  const shots = recorded.flatMap(({ dying, shim, daemon }, k) => {
    const [shimPoints, daemonPoints] = [[...shim.keys()], [...daemon.keys()]];
    return daemonPoints.map((point, i): Shot => ({
      daemon: `${point}#1`,
      lanes: Array.from({ length: BOTH_LANES }, (_, j) => {
        const at = i * BOTH_LANES + j;
        return lane(dying, k + at, { shim: `${shimPoints[(at * 7) % shimPoints.length]!}#1` });
      }),
    }));
  });
  const every = EVERY === 0 ? Math.ceil(shots.length / BOTH_SHOTS) : EVERY;
  return shots.filter((_, i) => i % every === 0);
}

const nameOf = (point: string): string => point.split('#')[0]!;

/** What was wrong, and at which points shims died. */
interface Outcome {
  wrong: string[];
  hit: Set<string>;
  daemonDeaths: number;
}

async function fireAll(shots: readonly Shot[], outcome: Outcome): Promise<void> {
  for (const shot of shots) {
    const result = await lanes.fire(shot);
    outcome.wrong.push(...result.wrong);
    if (result.daemonDied) outcome.daemonDeaths++;
    for (const points of result.hits) outcome.hit.add(nameOf(points.at(-1) ?? ''));
  }
}

const newOutcome = (): Outcome => ({ wrong: [], hit: new Set(), daemonDeaths: 0 });
const withoutDaemon = (all: readonly Lane[]): Shot[] => pieces(all, LANES).map((some) => ({ daemon: '', lanes: some }));

test(
  'a shim killed at each of its points beside another operation leaves what a serial order allows [crash-pairs-shim]',
  async () => {
    const outcome = newOutcome();
    const all = lanesOf();
    await fireAll(withoutDaemon(all), outcome);
    // The second operation may have kept the first from its point.
    const missed = once().filter(({ point }) => !outcome.hit.has(point));
    const again = missed.map(({ dying, point }, i) => harmlessLane(dying, i, { shim: `${point}#1` }));
    await fireAll(withoutDaemon(again), outcome);
    const points = once().map(({ point }) => point);
    const hit = points.filter((point) => outcome.hit.has(point));
    console.log(`shim: ${hit.length} of ${points.length} points hit, ${all.length} pairs`);
    expect(outcome.wrong).toEqual([]);
    expect(points.filter((point) => !outcome.hit.has(point))).toEqual([]);
  },
  DEADLINE_MS,
);

test(
  'a shim killed at a point and its daemon at another leave what a serial order allows [crash-pairs-both]',
  async () => {
    const outcome = newOutcome();
    const shots = bothShots();
    await fireAll(shots, outcome);
    console.log(`both: ${outcome.daemonDeaths} of ${shots.length} daemons died, ${shots.length * BOTH_LANES} pairs`);
    expect(outcome.wrong).toEqual([]);
    expect(outcome.daemonDeaths).toBeGreaterThan(0);
  },
  DEADLINE_MS,
);

test(
  'a shim killed while it takes over leaves what a serial order allows [crash-pairs-successor]',
  async () => {
    const outcome = newOutcome();
    const all: Lane[] = [];
    const names = new Set<string>();
    for (const { dying, point } of FIRST_DEATHS) {
      const { successor } = await lanes.recorded(dying.base, dying.operation, `${point}#1`);
      for (const name of passingsOf(successor).keys()) {
        if (EVERY === 0 && names.has(name)) continue;
        names.add(name);
        all.push(harmlessLane(dying, all.length, { shim: `${point}#1 ${name}#1` }));
      }
    }
    const some = all.filter((_, i) => (EVERY === 0 ? i % SUCCESSORS_EVERY === 1 : i % EVERY === 0));
    await fireAll(withoutDaemon(some), outcome);
    console.log(`successor: ${outcome.hit.size} of ${names.size} points hit, ${some.length} pairs`);
    expect(outcome.wrong).toEqual([]);
  },
  DEADLINE_MS,
);
