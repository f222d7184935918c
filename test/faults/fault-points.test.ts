/**
 * The daemon is killed at every fault point that an operation passes (src/sys/fault.ts), each time in another run of it; the
 * next daemon finishes or undoes what it finds: rows, directories, mounts, namespaces and shims agree, and nothing is left over.
 * HOLDFAST_FAULT_EVERY=n takes each n-th passing of a point only, beside its first.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../e2e/engine.ts';
import { until } from '../e2e/until.ts';

const EVERY = Number(process.env.HOLDFAST_FAULT_EVERY ?? 4);
/** After its answer, an operation may go on in the background for this long (a teardown, say). */
const AFTERMATH_MS = 1200;
const NAME = 'victim';
const SLEEPER = { Image: 'busybox', Cmd: ['sh', '-c', 'trap "exit 3" TERM; while :; do sleep 1 & wait; done'], HostConfig: {} };

interface Operation {
  /** What is there before it. */
  from: 'nothing' | 'created' | 'running';
  run(): Promise<unknown>;
  /** Docker's states that its end, or its undoing, may be; '' = no such container. */
  leaves: string[];
}

let engine: TestEngine;
let armed = '';
let id = '';

const path = (rest: string, name = NAME): string => `/containers/${name}${rest}`;
const operations: Record<string, Operation> = {
  create: { from: 'nothing', leaves: ['', 'created'], run: () => engine.api('POST', `/containers/create?name=${NAME}`, SLEEPER) },
  start: { from: 'created', leaves: ['created', 'exited', 'running'], run: () => engine.api('POST', path('/start')) },
  exec: {
    from: 'running', leaves: ['running'],
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
  armed = join(engine.root, 'armed');
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const under = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);
const mounts = (): string[] => readFileSync('/proc/self/mountinfo', 'latin1').split('\n').map((line) => line.split(' ')[4] ?? '').filter((at) => at.startsWith(`${engine.root}/`));
const list = async (): Promise<{ Id: string; State: string; Names: string[] }[]> => (await engine.api('GET', '/containers/json?all=1')).json as { Id: string; State: string; Names: string[] }[];

/** What there is, in the words of the kernel and of the roots; one entry a kind. */
async function found() {
  const rows = await list();
  return {
    rows: rows.map((c) => c.Id).sort(),
    running: rows.filter((c) => c.State === 'running').length,
    directories: under(join(engine.root, 'data', 'containers')).sort(),
    rootfs: mounts().filter((at) => at.endsWith('/rootfs')).length,
    netns: mounts().filter((at) => at.includes('/netns/')).length,
    pins: under(join(engine.execRoot, 'netns')).length,
    shims: engine.shims().length,
    unsettled: rows.filter((c) => !['created', 'running', 'exited'].includes(c.State)).map((c) => c.State),
  };
}

const agrees = (f: Awaited<ReturnType<typeof found>>): boolean =>
  f.unsettled.length === 0 && f.directories.join() === f.rows.join() && [f.rootfs, f.netns, f.pins, f.shims].every((n) => n === f.running);

/** Waits until all agree; tells what does not. */
async function agreement(point = 'no fault'): Promise<void> {
  let last: Awaited<ReturnType<typeof found>> | undefined;
  await until(async () => agrees((last = await found())), 15_000).catch(() => expect.fail(`after ${point}: rows, directories, mounts, namespaces and shims do not agree: ${JSON.stringify(last)}`));
}

async function prepare({ from }: Operation): Promise<void> {
  for (const { Id } of await list()) await engine.api('DELETE', `/containers/${Id}?force=1`);
  id = '';
  await until(async () => (await list()).length === 0);
  await agreement();
  if (from === 'nothing') return;
  id = ((await engine.api('POST', `/containers/create?name=${NAME}`, SLEEPER)).json as { Id: string }).Id;
  if (from === 'running') expect((await engine.api('POST', path('/start'))).status).toBe(204);
}

const stateNow = async (): Promise<string> => (await list()).find((c) => id === '' || c.Id === id)?.State ?? '';

/** The points that the operation passes, in order, and how often each before. */
async function passings(operation: Operation): Promise<string[]> {
  const log = join(engine.root, 'points');
  await engine.kill9();
  await engine.startAgain({ HOLDFAST_FAULT_LOG: log, HOLDFAST_FAULT_ARMED: armed });
  await prepare(operation);
  writeFileSync(armed, '');
  await operation.run();
  await new Promise((resolve) => setTimeout(resolve, AFTERMATH_MS));
  rmSync(armed);
  const seen = new Map<string, number>();
  const all = readFileSync(log, 'utf8').trim().split('\n').map((name) => {
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return `${name}#${seen.get(name)}`;
  });
  rmSync(log);
  return all;
}

test.each(Object.keys(operations))('%s: killed at each of its points', async (name) => {
  const operation = operations[name]!;
  const all = await passings(operation);
  const chosen = all.filter((point) => point.endsWith('#1') || Number(point.split('#')[1]) % EVERY === 0);
  const hit: string[] = [];
  const withFault = (point: string | undefined): Promise<void> => engine.startAgain(point === undefined ? {} : { HOLDFAST_FAULT: point, HOLDFAST_FAULT_ARMED: armed });
  await engine.kill9();
  await withFault(chosen[0]);
  for (const [i, point] of chosen.entries()) {
    await prepare(operation);
    writeFileSync(armed, '');
    // Who comes after the death waits in the queue of the held socket: for the next daemon, not for us.
    await Promise.race([operation.run().catch(() => undefined), until(() => engine.ended, 60_000).catch(() => undefined)]);
    await until(() => engine.ended, AFTERMATH_MS * 2).catch(() => undefined);
    rmSync(armed);
    // A periodic look may have passed it before: the first passings tell.
    if (engine.ended) hit.push(point);
    else await engine.kill9();
    // The next daemon: it finds what is left, and is the one to be killed next.
    await withFault(chosen[i + 1]);
    await agreement(point);
    expect(operation.leaves, `after ${point}`).toContain(await stateNow());
  }
  console.log(`${name}: killed at ${hit.length} of ${chosen.length} passings (${all.length} in all), ${new Set(hit.map((h) => h.split('#')[0])).size} points`);
  const names = (points: string[]): string[] => [...new Set(points.map((point) => point.split('#')[0]!))].sort();
  expect(names(hit), 'points that were never hit').toEqual(names(all));
}, 900_000);
