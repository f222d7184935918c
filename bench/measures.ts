/** The measurements. Each takes one sample of an engine, and leaves no container behind. */
import type { Engine } from './engine.ts';
import { engineMemory } from './memory.ts';
import { namesPerSecond } from './names.ts';

export interface Measure {
  name: string;
  title: string;
  unit: 'ms' | '/s' | 'MB/s' | 'MiB';
  /** Default number of samples; fewer for slow measurements. */
  rounds: number;
  sample(engine: Engine): Promise<number>;
}

const FOREVER = ['sleep', '100000'];
const BRIDGE = { NetworkMode: 'bridge' };
/** The file of lines in the benchmark's image. */
export const LINES_PATH = '/lines';
export const LINES_BYTES = 64 * 1024 * 1024;
const MB = 1e6;
const PARALLEL = 20;
const MANY = 50;
const RATE_MS = 500;
const CONNECTIONS = 4;

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

/** Runs `work` with a container, and removes it. */
async function withContainer<T>(
  engine: Engine,
  created: Promise<string>,
  work: (id: string) => Promise<T>,
): Promise<T> {
  const id = await created;
  try {
    return await work(id);
  } finally {
    await engine.remove(id);
  }
}

/** Requests per second over a few keep-alive connections. */
async function rate(engine: Engine, path: string): Promise<number> {
  const until = performance.now() + RATE_MS;
  let count = 0;
  const begin = performance.now();
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (; performance.now() < until; count++) await engine.call('GET', path);
    }),
  );
  return (count * 1000) / (performance.now() - begin);
}

async function runMany(engine: Engine, count: number, host?: Record<string, unknown>): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < count; i++) ids.push(await engine.run(FOREVER, host));
  return ids;
}

/** Runs a container that logs the lines; returns its id and how long that took. */
async function writeLog(engine: Engine): Promise<{ id: string; ms: number }> {
  const id = await engine.create(['cat', LINES_PATH]);
  const { ended } = await engine.waiting(id);
  const ms = await timed(async () => {
    await engine.start(id);
    await ended;
  });
  return { id, ms };
}

export const measures: Measure[] = [
  {
    name: 'create',
    title: 'create',
    unit: 'ms',
    rounds: 15,
    sample: async (engine) => {
      let id = '';
      const ms = await timed(async () => (id = await engine.create(FOREVER, BRIDGE)));
      await engine.remove(id);
      return ms;
    },
  },
  {
    name: 'start-none',
    title: 'start, no network',
    unit: 'ms',
    rounds: 15,
    sample: (engine) => withContainer(engine, engine.create(FOREVER), (id) => timed(() => engine.start(id))),
  },
  {
    name: 'start-bridge',
    title: 'start, bridge',
    unit: 'ms',
    rounds: 15,
    sample: (engine) => withContainer(engine, engine.create(FOREVER, BRIDGE), (id) => timed(() => engine.start(id))),
  },
  {
    name: 'run',
    title: 'create, start, wait, rm',
    unit: 'ms',
    rounds: 15,
    sample: (engine) =>
      timed(async () => {
        const id = await engine.create(['true'], BRIDGE);
        const { ended } = await engine.waiting(id);
        await engine.start(id);
        await ended;
        await engine.remove(id);
      }),
  },
  {
    name: 'exec',
    title: 'exec `true` until it exits',
    unit: 'ms',
    rounds: 15,
    sample: (engine) =>
      withContainer(engine, engine.run(FOREVER), (id) => timed(() => engine.execStream(id, ['true']))),
  },
  {
    name: 'kill',
    title: 'kill and wait',
    unit: 'ms',
    rounds: 15,
    sample: (engine) =>
      withContainer(engine, engine.run(FOREVER), async (id) => {
        const { ended } = await engine.waiting(id);
        return timed(async () => {
          await engine.call('POST', `/containers/${id}/kill`);
          await ended;
        });
      }),
  },
  {
    name: 'parallel',
    title: `${PARALLEL} parallel starts, bridge`,
    unit: 'ms',
    rounds: 3,
    sample: async (engine) => {
      const ids = await Promise.all(Array.from({ length: PARALLEL }, () => engine.create(FOREVER, BRIDGE)));
      const ms = await timed(() => Promise.all(ids.map((id) => engine.start(id))));
      await Promise.all(ids.map((id) => engine.remove(id)));
      return ms;
    },
  },
  { name: 'ping', title: 'GET /_ping', unit: '/s', rounds: 5, sample: (engine) => rate(engine, '/_ping') },
  {
    name: 'inspect',
    title: 'inspect',
    unit: '/s',
    rounds: 5,
    sample: (engine) =>
      withContainer(engine, engine.run(FOREVER, BRIDGE), (id) => rate(engine, `/containers/${id}/json`)),
  },
  { name: 'dns', title: 'names resolved in a container', unit: '/s', rounds: 5, sample: namesPerSecond },
  {
    name: 'log-write',
    title: 'container output to its log',
    unit: 'MB/s',
    rounds: 3,
    sample: async (engine) => {
      const { id, ms } = await writeLog(engine);
      await engine.remove(id);
      return LINES_BYTES / MB / (ms / 1000);
    },
  },
  {
    name: 'log-read',
    title: 'GET logs',
    unit: 'MB/s',
    rounds: 3,
    sample: async (engine) => {
      const { id } = await writeLog(engine);
      let bytes = 0;
      const ms = await timed(() =>
        engine.stream('GET', `/containers/${id}/logs?stdout=1`, undefined, (chunk) => (bytes += chunk.length)),
      );
      await engine.remove(id);
      if (bytes < LINES_BYTES) throw new Error(`${engine.name}: the log has ${bytes} bytes of ${LINES_BYTES}`);
      return LINES_BYTES / MB / (ms / 1000);
    },
  },
  {
    name: 'exec-stream',
    title: 'exec output to its client',
    unit: 'MB/s',
    rounds: 3,
    sample: (engine) =>
      withContainer(engine, engine.run(FOREVER), async (id) => {
        let bytes = 0;
        const ms = await timed(async () => (bytes = await engine.execStream(id, ['cat', LINES_PATH])));
        if (bytes < LINES_BYTES) throw new Error(`${engine.name}: the exec wrote ${bytes} bytes of ${LINES_BYTES}`);
        return LINES_BYTES / MB / (ms / 1000);
      }),
  },
  {
    name: 'memory-0',
    title: 'memory, no containers',
    unit: 'MiB',
    rounds: 1,
    sample: (engine) => Promise.resolve(engineMemory(engine.socket)),
  },
  {
    name: 'list',
    title: `list of ${MANY}`,
    unit: '/s',
    rounds: 1,
    sample: async (engine) => {
      const ids = await runMany(engine, MANY);
      const sample = await rate(engine, '/containers/json');
      await Promise.all(ids.map((id) => engine.remove(id)));
      return sample;
    },
  },
  {
    name: 'memory-50',
    title: `memory, ${MANY} idle containers`,
    unit: 'MiB',
    rounds: 1,
    sample: async (engine) => {
      const ids = await runMany(engine, MANY);
      // Lets the engine settle: right after the starts it is not idle yet.
      await new Promise((resolve) => setTimeout(resolve, 15_000));
      const sample = engineMemory(engine.socket);
      await Promise.all(ids.map((id) => engine.remove(id)));
      return sample;
    },
  },
];
