/**
 * bench/soak: churn on a daemon of its own for a while. Fails when the daemon's memory grows by more than a tenth after
 * the first minutes, or when anything is left. Needs root.
 *
 *   bench/soak [--minutes 30] [-- DAEMON-FLAGS]
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { OwnDaemon } from './own-daemon.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string', default: '30' } },
});
const minutes = Number(values.minutes);
const WIDTH = 4;
const MINUTE_MS = 60_000;
/** Until then caches fill and the heap finds its size. */
const WARM_MINUTES = 3;
const GROWTH = 1.1;
/** Containers that run all the time. */
const STEADY = 5;

const daemon = new OwnDaemon(positionals);
const counts = new Map<string, number>();
const faults: string[] = [];
let rounds = 0;
const end = Date.now() + minutes * MINUTE_MS;

const call = (method: string, path: string, body?: unknown): Promise<string> => daemon.engine.call(method, path, body);

async function step(name: string, work: () => Promise<unknown>): Promise<void> {
  await work();
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

async function detachedExec(id: string): Promise<void> {
  const config = { Cmd: ['sh', '-c', 'echo out; exit 3'] };
  const { Id } = JSON.parse(await call('POST', `/containers/${id}/exec`, config)) as { Id: string };
  await call('POST', `/exec/${Id}/start`, { Detach: true });
  await call('GET', `/exec/${Id}/json`);
}

/** One container's life, with a volume, and on every third round a network of its own. */
async function round(worker: number): Promise<void> {
  const name = `w${worker}-${rounds++}`;
  const network = rounds % 3 === 0 ? name : 'none';
  if (network !== 'none') await step('network create', () => call('POST', '/networks/create', { Name: name }));
  await step('volume create', () => call('POST', '/volumes/create', { Name: name }));
  const command = ['sh', '-c', 'seq 200; sleep 100000'];
  const host = { NetworkMode: network, Binds: [`${name}:/v`], RestartPolicy: { Name: 'unless-stopped' } };
  const id = await daemon.engine.create(command, host);
  try {
    await step('start', () => daemon.engine.start(id));
    await step('exec', () => daemon.engine.execStream(id, ['sh', '-c', 'seq 100']));
    await step('exec detached', () => detachedExec(id));
    await step('logs', () => call('GET', `/containers/${id}/logs?stdout=1`));
    await step('inspect', () => call('GET', `/containers/${id}/json`));
    await step('list', () => call('GET', '/containers/json?all=1'));
    await step('stats', () => call('GET', `/containers/${id}/stats?stream=false&one-shot=true`));
    await step('pause', () => call('POST', `/containers/${id}/pause`));
    await step('unpause', () => call('POST', `/containers/${id}/unpause`));
    if (rounds % 2 === 0) await step('restart', () => call('POST', `/containers/${id}/restart?t=0`));
    if (rounds % 4 === 0) await step('stop', () => call('POST', `/containers/${id}/stop?t=0`));
  } finally {
    await step('rm', () => daemon.engine.remove(id));
    await step('volume rm', () => call('DELETE', `/volumes/${name}`));
    if (network !== 'none') await step('network rm', () => call('DELETE', `/networks/${name}`));
  }
}

async function worker(number: number): Promise<void> {
  while (Date.now() < end) {
    try {
      await round(number);
    } catch (error) {
      faults.push((error as Error).message);
    }
  }
}

const medianOf = (samples: number[]): number => [...samples].sort((a, b) => a - b)[samples.length >> 1]!;

async function observe(): Promise<number[]> {
  const samples: number[] = [];
  for (let minute = 1; Date.now() + MINUTE_MS / 2 < end; minute++) {
    await sleep(MINUTE_MS);
    const { memory, descriptors, eventLoop } = await daemon.dump();
    samples.push(memory.rss / 2 ** 20);
    console.log(
      `minute ${minute}: ${rounds} rounds, RSS ${samples.at(-1)!.toFixed(1)} MiB, heap ${(memory.heapUsed / 2 ** 20).toFixed(1)} MiB, ` +
        `${descriptors} descriptors, event loop blocked for at most ${Math.round(eventLoop.max)} ms, ${faults.length} faults`,
    );
  }
  return samples;
}

await daemon.start();
await daemon.importImage();
const steady: string[] = [];
for (let i = 0; i < STEADY; i++) steady.push(await daemon.engine.run(['sleep', '100000']));
const [samples] = await Promise.all([observe(), ...Array.from({ length: WIDTH }, (_, i) => worker(i))]);
for (const id of steady) await daemon.engine.remove(id);
const { Volumes } = JSON.parse(await call('GET', '/volumes')) as { Volumes: unknown[] };
const networks = JSON.parse(await call('GET', '/networks')) as { Driver: string }[];
const containers = JSON.parse(await call('GET', '/containers/json?all=1')) as unknown[];
// After SIGTERM the API's sockets stay held.
await daemon.end('SIGINT');
await sleep(5_000);

const [warm, last] = [samples.slice(WARM_MINUTES, WARM_MINUTES + 3), samples.slice(-3)];
const growth = samples.length > WARM_MINUTES + 3 ? medianOf(last) / medianOf(warm) : 1;
const left = [
  ...daemon.left(),
  ...(Volumes.length > 0 ? [`${Volumes.length} volumes`] : []),
  ...(networks.length > 3 ? [`${networks.length - 3} networks`] : []),
  ...(containers.length > 0 ? [`${containers.length} containers`] : []),
];
console.log([...counts].map(([name, count]) => `${name} ${count}`).join(', '));
console.log(`memory after ${minutes} minutes: ${((growth - 1) * 100).toFixed(1)} % more than when warm`);
console.log(`left: ${left.length === 0 ? 'nothing' : left.join('\n')}`);
console.log(`faults: ${faults.length === 0 ? 'none' : [...new Set(faults)].slice(0, 10).join('\n')}`);
daemon.delete();
if (growth > GROWTH || left.length > 0 || faults.length > 0) process.exitCode = 1;
