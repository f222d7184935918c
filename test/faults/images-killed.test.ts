/**
 * The daemon is killed at every fault point of import, load, removal and commit: afterwards files and rows are as
 * before, or as after the complete operation.
 */
import Database from 'better-sqlite3';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { archive } from '../support/tar.ts';

let engine: TestEngine;
let tmp: string;
beforeAll(async () => {
  engine = await startEngine();
  tmp = mkdtempSync('/tmp/hf-killed-');
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  rmSync(tmp, { recursive: true, force: true });
});

interface State {
  images: string[];
  names: string[];
  layers: string[];
}

/** Rows of the database on disk, and files and rows that belong to nothing. */
function readState(): State & { leftovers: string[]; events: number } {
  const db = new Database(join(engine.root, 'data/holdfast.db'), { readonly: true });
  try {
    const column = (sql: string): string[] => db.prepare(sql).pluck().all() as string[];
    const directories = column('SELECT directory FROM layers');
    const images = join(engine.root, 'data/images');
    const layers = column("SELECT chain_id FROM layers WHERE phase = 'ready' ORDER BY chain_id");
    const needed = new Set(column('SELECT chains FROM images').flatMap((chains) => JSON.parse(chains) as string[]));
    const found = readdirSync(join(images, 'layers'));
    const spooled = existsSync(join(images, 'tmp')) ? readdirSync(join(images, 'tmp')) : [];
    return {
      images: column('SELECT id FROM images ORDER BY id'),
      names: column('SELECT name FROM image_names ORDER BY name'),
      layers,
      leftovers: [
        ...found.filter((name) => !directories.includes(name)),
        ...directories.filter((name) => !found.includes(name)),
        ...column("SELECT directory FROM layers WHERE phase <> 'ready'"),
        ...layers.filter((chain) => !needed.has(chain)),
        ...spooled,
      ],
      events: Number(column("SELECT count(*) FROM events WHERE type = 'image'")[0]),
    };
  } finally {
    db.close();
  }
}

const stateOf = ({ images, names, layers }: State): State => ({ images, names, layers });

const armed = (): string => join(tmp, 'armed');
const restorations = (): number =>
  readFileSync(join(engine.root, 'log'), 'utf8').split('all containers are restored').length;

/**
 * Starts a daemon that logs fault points or dies at one while the file `armed` exists, and waits until its start-up
 * sweep has finished, so that its points are not counted.
 */
async function start(variables: Record<string, string>): Promise<void> {
  const before = restorations();
  await engine.startAgain({ ...variables, HOLDFAST_FAULT_ARMED: armed() });
  await until(() => restorations() > before);
}

/** The points that `work` passes, each with its ordinal number. */
async function pointsOf(work: () => Promise<void>): Promise<string[]> {
  const log = join(tmp, 'points');
  writeFileSync(log, '');
  await engine.stop();
  await start({ HOLDFAST_FAULT_LOG: log });
  writeFileSync(armed(), '');
  await work();
  rmSync(armed());
  const relevant = readFileSync(log, 'utf8')
    .split('\n')
    .filter((name) => /^(layer|import|load|image-commit|commit)\./.test(name));
  return relevant.map((name, i) => `${name}#${relevant.slice(0, i + 1).filter((other) => other === name).length}`);
}

/** Waits until the daemon has removed all leftovers. */
const settled = (): Promise<void> => until(() => readState().leftovers.length === 0);

interface Operation {
  /** Runs before each kill. */
  prepare?: () => Promise<void>;
  work: () => Promise<void>;
  /** Removes what `work` created. */
  undo: () => Promise<void>;
  check?: () => Promise<void>;
}

async function killEverywhere({
  prepare = async () => undefined,
  work,
  undo,
  check = async () => undefined,
}: Operation): Promise<number> {
  await prepare();
  const before = stateOf(readState());
  const points = await pointsOf(work);
  const after = stateOf(readState());
  expect(after).not.toEqual(before);
  await undo();
  let killed = 0;
  await engine.stop();
  await start({ HOLDFAST_FAULT: points[0] ?? '' });
  for (const [i, point] of points.entries()) {
    await prepare();
    const initial = stateOf(readState());
    writeFileSync(armed(), '');
    await work().catch(() => undefined);
    // Some points are passed only after the answer.
    await until(() => engine.isDead(), 10_000).catch(() => undefined);
    if (engine.isDead()) killed++;
    else await engine.stop();
    rmSync(armed());
    // One daemon start serves both: recovery from this kill, and the next kill.
    await start({ HOLDFAST_FAULT: points[i + 1] ?? '' });
    await settled();
    const now = stateOf(readState());
    const done = now.images.length !== initial.images.length || now.names.join() !== initial.names.join();
    if (!done) expect(now, point).toEqual(initial);
    else
      expect([now.names, now.images.length, now.layers.length], point).toEqual([
        after.names,
        after.images.length,
        after.layers.length,
      ]);
    await check();
    // The operation can be run again.
    if (!done) await work();
    await undo();
    await settled();
  }
  expect(killed).toBe(points.length);
  return killed;
}

const post = async (path: string, body?: Buffer): Promise<void> => {
  const answer = await engine.api('POST', path, body, {
    'Content-Type': body ? 'application/x-tar' : 'application/json',
  });
  if (answer.status >= 300 || answer.text.includes('errorDetail')) throw new Error(answer.text);
};
const remove = async (name: string): Promise<void> => void (await engine.api('DELETE', `/images/${name}?force=1`));

test('an import is completed or undone after a kill at each point [import-killed]', async () => {
  const body = archive(['file', 'text'], ['other', 'x'.repeat(10_000)]);
  const killed = await killEverywhere({
    work: () => post('/images/create?fromSrc=-&repo=imported', body),
    undo: () => remove('imported'),
  });
  expect(killed).toBeGreaterThanOrEqual(6);
}, 300_000);

test('a load is completed or undone after a kill at each point [load-killed]', async () => {
  await post('/images/create?fromSrc=-&repo=loaded', archive(['file', 'text']));
  const { body } = await engine.api('GET', '/images/loaded/get');
  await remove('loaded');
  const killed = await killEverywhere({ work: () => post('/images/load', body), undo: () => remove('loaded') });
  expect(killed).toBeGreaterThanOrEqual(6);
}, 300_000);

test('a removal is completed or undone after a kill at each point [removal-killed]', async () => {
  const body = archive(['file', 'gone soon']);
  const killed = await killEverywhere({
    prepare: () => post('/images/create?fromSrc=-&repo=doomed', body),
    work: () => remove('doomed'),
    undo: () => remove('doomed'),
  });
  expect(killed).toBeGreaterThanOrEqual(4);
}, 300_000);

test('a commit is completed or undone after a kill at each point, and its container is not left paused [commit-killed]', async () => {
  const run = await engine.docker(
    ...['run', '-d', '--name', 'living'],
    ...['busybox', 'sh', '-c', 'echo x > /made; exec sleep 100000'],
  ).result;
  expect(run.exitCode).toBe(0);
  await until(async () => (await engine.docker('diff', 'living').result).stdout.includes('/made'));
  const killed = await killEverywhere({
    work: () => post('/commit?container=living&repo=committed'),
    undo: () => remove('committed'),
    check: () =>
      until(
        async () =>
          ((await engine.api('GET', '/containers/living/json')).json as { State: { Status: string } }).State.Status ===
          'running',
      ),
  });
  expect(killed).toBeGreaterThanOrEqual(7);
}, 400_000);
