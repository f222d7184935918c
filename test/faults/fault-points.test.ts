/**
 * The daemon is killed at every fault point (src/sys/fault.ts) that an operation passes, each in another run of the
 * operation. The next daemon completes or undoes it: rows, directories, mounts, namespaces and shims agree, and
 * nothing is left over. Of a point that is passed often, the first, the last and each n-th passing is tested:
 * HOLDFAST_FAULT_EVERY=n (1: all).
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseJournal } from '../../src/protocol/journal-format.ts';
import { reduceIntents, initialIntents, type PendingIntents } from '../../src/shim/pending-intents.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { journalOf } from '../support/shims.ts';

const EVERY = Number(process.env.HOLDFAST_FAULT_EVERY ?? 12);
/** How long an operation may continue in the background after its answer, ms: a teardown, a shim that is prepared. */
const AFTERMATH_MS = 1200;
/** Longer than the intervals of the periodic work of the daemon, ms. */
const QUIET_MS = 2500;
const NAME = 'victim';
const SLEEPER = {
  Image: 'busybox',
  Cmd: ['sh', '-c', 'trap "exit 3" TERM; while :; do sleep 1 & wait; done'],
  HostConfig: {},
};

type State = '' | 'created' | 'running' | 'exited';

interface Operation {
  /** State of the container before it; '': no container. */
  from: State;
  run(): Promise<unknown>;
  /** States that its completion or its undoing may leave. */
  leaves: State[];
}

let engine: TestEngine;
let armed = '';
let log = '';
/** How often an idle daemon passes each point in QUIET_MS. */
let idlePassings = new Map<string, number>();

const path = (rest: string): string => `/containers/${NAME}${rest}`;
const operations: Record<string, Operation> = {
  create: {
    from: '',
    leaves: ['', 'created'],
    run: () => engine.api('POST', `/containers/create?name=${NAME}`, SLEEPER),
  },
  start: { from: 'created', leaves: ['created', 'exited', 'running'], run: () => engine.api('POST', path('/start')) },
  exec: {
    from: 'running',
    leaves: ['running'],
    run: async () => {
      const { Id } = (await engine.api('POST', path('/exec'), { Cmd: ['true'] })).json as { Id: string };
      await engine.api('POST', `/exec/${Id}/start`, { Detach: true });
    },
  },
  rename: { from: 'running', leaves: ['running'], run: () => engine.api('POST', path('/rename?name=renamed')) },
  restart: { from: 'running', leaves: ['running'], run: () => engine.api('POST', path('/restart?t=5')) },
  stop: { from: 'running', leaves: ['exited', 'running'], run: () => engine.api('POST', path('/stop?t=5')) },
  rm: { from: 'running', leaves: ['', 'running'], run: () => engine.api('DELETE', path('?force=1')) },
};

beforeAll(async () => {
  engine = await startEngine();
  [armed, log] = [join(engine.root, 'armed'), join(engine.root, 'points')];
  idlePassings = counts(
    await recorded(async () => {
      await toState('running');
      return () => new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    }),
  );
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const under = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);
const mounts = (): string[] =>
  readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((at) => at.startsWith(`${engine.root}/`));
const list = async (): Promise<{ Id: string; State: State; Names: string[] }[]> =>
  (await engine.api('GET', '/containers/json?all=1')).json as { Id: string; State: State; Names: string[] }[];

/** Number of client requests in the journal that the shim has not completed. */
function unfinished(id: string): number {
  const { snapshot, records } = parseJournal(readFileSync(journalOf(engine, id)));
  return records.reduce(reduceIntents, (snapshot?.carried as PendingIntents | undefined) ?? initialIntents()).intents
    .length;
}

/** Counts what the kernel and the roots contain, by kind. */
async function found() {
  const rows = await list();
  const running = rows.filter((c) => c.State === 'running');
  return {
    rows: rows.map((c) => c.Id).sort(),
    state: rows[0]?.State ?? '',
    running: running.length,
    directories: under(join(engine.root, 'data', 'containers')).sort(),
    rootfs: mounts().filter((at) => at.endsWith('/rootfs')).length,
    netns: mounts().filter((at) => at.includes('/netns/')).length,
    pins: under(join(engine.execRoot, 'netns')).length,
    shims: engine.shims().length,
    unfinished: running.map((c) => unfinished(c.Id)).reduce((a, b) => a + b, 0),
  };
}

/** Waits until all kinds agree on one of the states; fails with what does not. */
async function agreement(states: State[], point = 'no fault'): Promise<State> {
  let last: Awaited<ReturnType<typeof found>> | undefined;
  await until(async () => {
    const f = await found();
    last = f;
    return (
      states.includes(f.state) &&
      f.unfinished === 0 &&
      f.directories.join() === f.rows.join() &&
      [f.rootfs, f.netns, f.pins, f.shims].every((n) => n === f.running)
    );
  }, 20_000).catch(() =>
    expect.fail(
      `after ${point}: rows, directories, mounts, namespaces and shims do not agree on ${states.join(' or ')}: ${JSON.stringify(last)}`,
    ),
  );
  return last!.state;
}

const succeeds = async (method: string, at: string, body?: unknown): Promise<unknown> => {
  const { status, text, json } = await engine.api(method, at, body);
  if (status >= 400) expect.fail(`${method} ${at}: ${status} ${text}`);
  return json;
};

/**
 * Brings the container to the state in which an operation starts. An existing container is reused unless it was
 * renamed.
 */
async function toState(wanted: State): Promise<void> {
  const [there] = await list();
  const reusable = there?.Names[0] === `/${NAME}` && (wanted === 'running' || there.State === wanted);
  if (there && !reusable) await succeeds('DELETE', `/containers/${there.Id}?force=1`);
  if (wanted === '') return void (await agreement(['']));
  if (!reusable) await succeeds('POST', `/containers/create?name=${NAME}`, SLEEPER);
  if (wanted === 'running') await succeeds('POST', path('/start'));
  await agreement([wanted]);
}

/** How many daemons have completed their start, plus one. */
const starts = (): number => readFileSync(join(engine.root, 'log'), 'utf8').split('all containers are restored').length;

const withFault = (point: string | undefined): Promise<void> =>
  engine.startAgain(point === undefined ? {} : { HOLDFAST_FAULT: point, HOLDFAST_FAULT_ARMED: armed });

/** The points passed, in order, by the work that `prepare` returns. */
async function recorded(prepare: () => Promise<() => Promise<unknown>>): Promise<string[]> {
  const before = starts();
  await engine.kill9();
  await engine.startAgain({ HOLDFAST_FAULT_LOG: log, HOLDFAST_FAULT_ARMED: armed });
  const work = await prepare();
  // The sweep of a starting daemon is not part of the operation.
  await until(() => starts() > before);
  writeFileSync(armed, '');
  await work();
  rmSync(armed);
  const points = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').filter(Boolean) : [];
  rmSync(log, { force: true });
  return points;
}

function counts(points: string[]): Map<string, number> {
  const seen = new Map<string, number>();
  for (const name of points) seen.set(name, (seen.get(name) ?? 0) + 1);
  return seen;
}

/** How often the operation itself passes each point; points that periodic work alone explains are left out. */
async function passings({ from, run }: Operation): Promise<Map<string, number>> {
  let ms = 0;
  const seen = counts(
    await recorded(async () => {
      await toState(from);
      // Wait for background work of the preparation too, such as the shim that is prepared to replace the used one.
      await new Promise((resolve) => setTimeout(resolve, AFTERMATH_MS));
      return async () => {
        const startedAt = Date.now();
        await run();
        await new Promise((resolve) => setTimeout(resolve, AFTERMATH_MS));
        ms = Date.now() - startedAt;
      };
    }),
  );
  for (const [name, often] of seen)
    if (often <= (idlePassings.get(name) ?? 0) * Math.ceil(1 + ms / QUIET_MS)) seen.delete(name);
  return seen;
}

const chosen = (seen: Map<string, number>): string[] =>
  [...seen].flatMap(([name, often]) =>
    Array.from({ length: often }, (_, i) => i + 1)
      .filter((n) => n === 1 || n === often || n % EVERY === 0)
      .map((n) => `${name}#${n}`),
  );

test.each(Object.keys(operations))(
  '%s is completed or undone after a kill at each of its points [killed-at-each-point]',
  async (name) => {
    const operation = operations[name]!;
    const seen = await passings(operation);
    const points = chosen(seen);
    const hit: string[] = [];
    await engine.kill9();
    await withFault(points[0]);
    for (const [i, point] of points.entries()) {
      await toState(operation.from);
      writeFileSync(armed, '');
      // A request sent after the death waits in the backlog of the kept socket for the next daemon, so do not wait for
      // its answer.
      await Promise.race([operation.run().catch(() => undefined), until(engine.isDead, 60_000).catch(() => undefined)]);
      await until(engine.isDead, AFTERMATH_MS).catch(() => undefined);
      rmSync(armed);
      // Concurrent work may pass a point less often this time, so a late passing can be missed.
      if (engine.isDead()) hit.push(point);
      else await engine.kill9();
      // The next daemon recovers from this kill and is the one killed next.
      await withFault(points[i + 1]);
      await agreement(operation.leaves, point);
    }
    console.log(`${name}: killed at ${hit.length} of ${points.length} passings, ${seen.size} points`);
    const hitNames = new Set(hit.map((point) => point.split('#')[0]!));
    const missed = [...seen.keys()].filter((name) => !hitNames.has(name));
    // A point missed because it was background work at the first recording does not occur in a second one.
    const again = missed.length > 0 ? await passings(operation) : seen;
    expect(
      missed.filter((name) => again.has(name)),
      'points of the operation at which no daemon was killed',
    ).toEqual([]);
  },
  300_000,
);
