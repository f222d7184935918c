/**
 * Every pair of operations on one container, the second sent while the first is under way: answers and end state are
 * those of some serial order. The serial orders are run for comparison, on containers of their own.
 *
 * HOLDFAST_PAIRS_EVERY=n takes each n-th pair (1 = all, which takes some ten minutes).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { file, archive } from '../support/tar.ts';

const EVERY = Number(process.env.HOLDFAST_PAIRS_EVERY ?? 9);
/** The second operation is sent this long after the first, ms. */
const MOMENTS = [0, 8, 40];
const LABEL = 'pair';
const FILTERS = encodeURIComponent(JSON.stringify({ label: [LABEL] }));
const NETWORK = 'pairs';
const IMAGE = 'pairs-image';

type Base = 'created' | 'running';
/** One request; resolves to its status code. */
type Step = (id: string) => Promise<number>;

let engine: TestEngine;
const send = async (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<number> =>
  (await engine.api(method, path, body, headers)).status;
const tar = archive(file('copied', 'x'));

/** Operations of several requests are lists: another operation may come between two requests. */
const operations: Record<string, Step | Step[]> = {
  start: (id) => send('POST', `/containers/${id}/start`),
  stop: (id) => send('POST', `/containers/${id}/stop?t=5`),
  kill: (id) => send('POST', `/containers/${id}/kill`),
  restart: (id) => send('POST', `/containers/${id}/restart?t=5`),
  pause: (id) => send('POST', `/containers/${id}/pause`),
  rm: (id) => send('DELETE', `/containers/${id}`),
  'rm -f': (id) => send('DELETE', `/containers/${id}?force=1`),
  prune: () => send('POST', `/containers/prune?filters=${FILTERS}`),
  rename: (id) => send('POST', `/containers/${id}/rename?name=renamed-${id.slice(0, 12)}`),
  update: (id) => send('POST', `/containers/${id}/update`, { Memory: 64 << 20, MemorySwap: -1 }),
  exec: execSteps(),
  attach: (id) => send('POST', `/containers/${id}/attach?logs=1&stdout=1`),
  connect: (id) => send('POST', `/networks/${NETWORK}/connect`, { Container: id }),
  disconnect: (id) => send('POST', '/networks/bridge/disconnect', { Container: id }),
  cp: (id) => send('PUT', `/containers/${id}/archive?path=/tmp`, tar, { 'Content-Type': 'application/x-tar' }),
  commit: (id) => send('POST', `/commit?container=${id}&repo=${IMAGE}`),
};

function execSteps(): Step[] {
  const execs = new Map<string, string>();
  return [
    async (id) => {
      const { status, json } = await engine.api('POST', `/containers/${id}/exec`, { Cmd: ['true'] });
      if (status === 201) execs.set(id, (json as { Id: string }).Id);
      return status;
    },
    async (id) => {
      const exec = execs.get(id);
      return exec === undefined ? 0 : send('POST', `/exec/${exec}/start`, { Detach: true });
    },
  ];
}

const stepsOf = (name: string): Step[] => [operations[name]!].flat();

async function newContainer(base: Base): Promise<string> {
  const { json } = await engine.api('POST', '/containers/create', {
    Image: 'busybox',
    Cmd: ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 1 & wait; done'],
    Labels: { [LABEL]: '' },
  });
  const { Id } = json as { Id: string };
  if (base === 'running') expect(await send('POST', `/containers/${Id}/start`)).toBe(204);
  return Id;
}

interface Inspected {
  Name: string;
  State: { Status: string };
  HostConfig: { Memory: number };
  NetworkSettings: { Networks: Record<string, unknown> };
}

/** What a client can see of the container afterwards. */
async function endState(id: string): Promise<object | string> {
  const { status, json } = await engine.api('GET', `/containers/${id}/json`);
  if (status === 404) return 'gone';
  const { Name, State, HostConfig, NetworkSettings } = json as Inspected;
  return {
    status: State.Status,
    renamed: Name.startsWith('/renamed-'),
    memory: HostConfig.Memory,
    networks: Object.keys(NetworkSettings.Networks).sort(),
  };
}

const remove = (id: string): Promise<number> => send('DELETE', `/containers/${id}?force=1`);

const inSequence = async (steps: readonly Step[], id: string): Promise<number[]> => {
  const codes: number[] = [];
  for (const step of steps) codes.push(await step(id));
  return codes;
};

/** Both operations at once. Answers first, then the end state. */
async function concurrently(first: string, second: string, base: Base, ms: number): Promise<string> {
  const id = await newContainer(base);
  try {
    const one = inSequence(stepsOf(first), id);
    await new Promise((resolve) => setTimeout(resolve, ms));
    const two = inSequence(stepsOf(second), id);
    return JSON.stringify([await one, await two, await endState(id)]);
  } finally {
    await remove(id);
  }
}

/** All ways to merge the two lists that keep the order within each; true = a step of the first. */
function interleavings(first: number, second: number): boolean[][] {
  if (first === 0) return [Array.from({ length: second }, () => false)];
  if (second === 0) return [Array.from({ length: first }, () => true)];
  return [
    ...interleavings(first - 1, second).map((rest) => [true, ...rest]),
    ...interleavings(first, second - 1).map((rest) => [false, ...rest]),
  ];
}

async function serially(first: string, second: string, base: Base): Promise<string[]> {
  const outcomes: string[] = [];
  for (const order of interleavings(stepsOf(first).length, stepsOf(second).length)) {
    const id = await newContainer(base);
    try {
      const [ones, twos] = [stepsOf(first), stepsOf(second)];
      const codes: [number[], number[]] = [[], []];
      for (const isFirst of order) {
        if (isFirst) codes[0].push(await ones.shift()!(id));
        else codes[1].push(await twos.shift()!(id));
      }
      outcomes.push(JSON.stringify([...codes, await endState(id)]));
    } finally {
      await remove(id);
    }
  }
  return outcomes;
}

beforeAll(async () => {
  engine = await startEngine();
  expect(await send('POST', '/networks/create', { Name: NETWORK })).toBe(201);
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const names = Object.keys(operations);
const pairs = (['created', 'running'] as const).flatMap((base) =>
  names.flatMap((first) => names.map((second) => [base, first, second] as const)),
);

describe('two operations on one container at a time', () => {
  test.each(pairs.filter((_, i) => i % EVERY === 0))('%s: %s, and %s meanwhile', async (base, first, second) => {
    const serial = await serially(first, second, base);
    for (const ms of MOMENTS) expect(serial).toContain(await concurrently(first, second, base, ms));
  });
});
