/**
 * bench/scale: what many containers and events cost. Starts a daemon of its own, needs root, and removes everything.
 *
 *   bench/scale [--running 300] [--frozen 10] [--stopped 1000] [--events 100000] [-- DAEMON-FLAGS]
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { LABEL } from './engine.ts';
import { eachOf, OwnDaemon } from './own-daemon.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    running: { type: 'string', default: '300' },
    frozen: { type: 'string', default: '10' },
    stopped: { type: 'string', default: '1000' },
    events: { type: 'string', default: '100000' },
  },
});
const [running, frozen, stopped, events] = [values.running, values.frozen, values.stopped, values.events].map(Number);
const WIDTH = 8;
const STARTS = 5;
const LISTS = 20;
const IDLE_MS = 10_000;
const REMOVED = 50;

const daemon = new OwnDaemon(positionals);
const report = (what: string, value: string): void => console.log(`${what.padEnd(58)} ${value}`);
const ms = (value: number): string => `${Math.round(value)} ms`;
const median = (samples: number[]): number => samples.sort((a, b) => a - b)[samples.length >> 1]!;

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

/** Reports the time of `work` and for how long at most it blocked the daemon's event loop. */
async function measure(what: string, work: () => Promise<unknown>, times = 1): Promise<void> {
  await daemon.dump();
  const samples: number[] = [];
  for (let i = 0; i < times; i++) samples.push(await timed(work));
  const { eventLoop } = await daemon.dump();
  report(what, `${ms(median(samples))}, event loop blocked for at most ${ms(eventLoop.max)}`);
}

const create = (command: string[]): Promise<string> => daemon.engine.create(command);

async function fill(): Promise<string[]> {
  const ids: string[] = [];
  await eachOf(
    Array.from({ length: running! }, (_, i) => i),
    WIDTH,
    async () => {
      const id = await create(['sleep', '100000']);
      ids.push(id);
      await daemon.engine.start(id);
    },
  );
  await eachOf(
    Array.from({ length: stopped! }, (_, i) => i),
    WIDTH,
    async () => {
      const id = await create(['true']);
      await daemon.engine.start(id);
      await daemon.engine.call('POST', `/containers/${id}/wait`);
    },
  );
  return ids;
}

/** Fills the events table; no daemon has it open. */
function addEvents(): void {
  const db = new Database(join(daemon.directory, 'data/holdfast.db'));
  const insert = db.prepare('INSERT INTO events (time, type, action, actor, attributes) VALUES (?, ?, ?, ?, ?)');
  const missing = events! - (db.prepare('SELECT count(*) FROM events').pluck().get() as number);
  const begin = BigInt(Date.now() - 86_400_000) * 1_000_000n;
  db.transaction(() => {
    for (let i = 0; i < missing; i++) {
      const attributes = JSON.stringify({ image: 'busybox', name: `c${i % 1000}`, exitCode: '0' });
      insert.run(begin + BigInt(i), 'container', 'die', (i % 1000).toString(16).padStart(64, '0'), attributes);
    }
  })();
  db.close();
}

function shimOf(id: string): number {
  const journal = readFileSync(join(daemon.directory, 'data/containers', id, 'journal'), 'utf8');
  return Number(/"shimPid":(\d+)/.exec(journal)![1]);
}

const isListed = (list: { State: string }[]): boolean =>
  list.filter(({ State }) => State === 'running').length === running &&
  list.filter(({ State }) => State === 'exited').length === stopped;

async function starts(): Promise<void> {
  const [samples, blocked]: [number[], number[]] = [[], []];
  for (let i = 0; i < STARTS; i++) {
    await daemon.end('SIGKILL');
    daemon.exec();
    const { ms: took } = await daemon.first<{ State: string }[]>('/containers/json?all=1', isListed);
    samples.push(took);
    blocked.push((await daemon.dump()).eventLoop.max);
    await sleep(3_000);
  }
  report('exec of the daemon → correct list', `${ms(median(samples))} (${samples.map(ms).join(', ')})`);
  report('… event loop blocked for at most', blocked.map(ms).join(', '));
}

async function idle(): Promise<void> {
  await sleep(IDLE_MS);
  const before = daemon.cpu();
  await sleep(IDLE_MS);
  report('CPU of the idle daemon', `${(((daemon.cpu() - before) * 1e5) / IDLE_MS).toFixed(2)} %`);
  const { descriptors, memory, containers } = await daemon.dump();
  const connected = containers.filter(({ shim }) => shim.connected).length;
  report(
    'descriptors, connections to shims, RSS',
    `${descriptors}, ${connected}, ${(memory.rss / 2 ** 20).toFixed(0)} MiB`,
  );
}

await daemon.start();
let shims: number[] = [];
try {
  await daemon.importImage();
  report(
    `${running} started and ${stopped} run to their end, ${WIDTH} at a time`,
    ms(await timed(async () => (shims = (await fill()).map(shimOf)))),
  );
  await daemon.end('SIGTERM');
  addEvents();
  await daemon.start();
  for (const shim of shims.slice(0, frozen)) process.kill(shim, 'SIGSTOP');
  await starts();
  await idle();
  const get = (path: string) => (): Promise<string> => daemon.engine.call('GET', path);
  await measure('list of all', get('/containers/json?all=1'), LISTS);
  await measure('list of the running', get('/containers/json'), LISTS);
  const until = Math.ceil(Date.now() / 1000);
  await measure(`events: all ${events}`, get(`/events?since=0&until=${until}`));
  const filters = encodeURIComponent(JSON.stringify({ container: ['c7'] }));
  await measure('events: of one container', get(`/events?since=0&until=${until}&filters=${filters}`), 5);
  await measure('events: of the last hour', get(`/events?since=${until - 3600}&until=${until}`), 5);
  const ended = JSON.parse(await get('/containers/json?all=1&filters={"status":["exited"]}')()) as { Id: string }[];
  const removed = ended.slice(0, Math.min(REMOVED, ended.length >> 1)).map(({ Id }) => Id);
  await measure('rm of a stopped one', async () => daemon.engine.remove(removed.shift()!), removed.length);
  await measure(`prune of ${ended.length - Math.min(REMOVED, ended.length >> 1)} stopped ones`, () =>
    daemon.engine.call('POST', '/containers/prune'),
  );
  for (const shim of shims.slice(0, frozen)) process.kill(shim, 'SIGCONT');
  const live = JSON.parse(await get('/containers/json')()) as { Id: string }[];
  await measure(`rm -f of ${live.length} running ones, ${WIDTH} at a time`, () =>
    eachOf(live, WIDTH, ({ Id }) => daemon.engine.remove(Id)),
  );
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const shim of shims.slice(0, frozen))
    if (readdirSync('/proc').includes(String(shim))) process.kill(shim, 'SIGCONT');
  const all = JSON.parse(await daemon.engine.call('GET', `/containers/json?all=1&filters={"label":["${LABEL}"]}`)) as {
    Id: string;
  }[];
  await eachOf(all, WIDTH, ({ Id }) => daemon.engine.remove(Id).catch(console.error));
  // After SIGTERM the API's sockets stay held.
  await daemon.end('SIGINT');
  await sleep(3_000);
  const left = daemon.left();
  report('left', left.length === 0 ? 'nothing' : left.join('\n'));
  daemon.delete();
}
