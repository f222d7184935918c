/**
 * Every pair of operations on one container, the second sent while the first is under way: answers and end state are
 * those of some serial order of their steps. The serial orders are run for comparison, on containers of their own.
 *
 * HOLDFAST_PAIRS_EVERY=n takes each n-th pair (1 = all, which takes some ten minutes).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { file, archive } from '../support/tar.ts';

const EVERY = Number(process.env.HOLDFAST_PAIRS_EVERY ?? 11);
/** The second operation is sent this long after the first, ms. */
const MOMENTS = [0, 8, 40];
const LABEL = 'pair';
const FILTERS = encodeURIComponent(JSON.stringify({ label: [LABEL] }));
const NETWORK = 'pairs';
const IMAGE = 'pairs-image';

type Base = 'created' | 'running';
/** One request; resolves to its status code. */
type Step = (id: string) => Promise<number>;

interface Operation {
  /** Its requests, one after the other. */
  requests: Step[];
  /**
   * The steps that it stands for in a serial order, where they are not its requests: Docker does them one by one too,
   * and another operation may come in between. `answer` makes its status code of theirs.
   */
  steps?: Step[];
  answer?(codes: number[]): number;
}

let engine: TestEngine;
const send = async (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<number> =>
  (await engine.api(method, path, body, headers)).status;
const tar = archive(file('copied', 'x'));

const start: Step = (id) => send('POST', `/containers/${id}/start`);
const stop: Step = (id) => send('POST', `/containers/${id}/stop?t=5`);
const kill: Step = (id) => send('POST', `/containers/${id}/kill`);
const rm: Step = (id) => send('DELETE', `/containers/${id}`);
const pause: Step = (id) => send('POST', `/containers/${id}/pause`);
const unpause: Step = (id) => send('POST', `/containers/${id}/unpause`);
const commit =
  (query: string): Step =>
  (id) =>
    send('POST', `/commit?container=${id}&repo=${IMAGE}${query}`);
const request = (step: Step): Operation => ({ requests: [step] });

const operations: Record<string, Operation> = {
  start: request(start),
  stop: request(stop),
  kill: request(kill),
  restart: {
    requests: [(id) => send('POST', `/containers/${id}/restart?t=5`)],
    steps: [stop, start],
    answer: ([, started]) => (started === 304 ? 204 : started!),
  },
  pause: request(pause),
  rm: request(rm),
  'rm -f': {
    requests: [(id) => send('DELETE', `/containers/${id}?force=1`)],
    steps: [kill, rm],
    answer: ([, removed]) => removed!,
  },
  prune: request(() => send('POST', `/containers/prune?filters=${FILTERS}`)),
  rename: request((id) => send('POST', `/containers/${id}/rename?name=renamed-${id.slice(0, 12)}`)),
  update: request((id) => send('POST', `/containers/${id}/update`, { Memory: 64 << 20, MemorySwap: -1 })),
  exec: { requests: execSteps() },
  attach: request((id) => send('POST', `/containers/${id}/attach?logs=1&stdout=1`)),
  connect: request((id) => send('POST', `/networks/${NETWORK}/connect`, { Container: id })),
  disconnect: request((id) => send('POST', '/networks/bridge/disconnect', { Container: id })),
  cp: request((id) => send('PUT', `/containers/${id}/archive?path=/tmp`, tar, { 'Content-Type': 'application/x-tar' })),
  commit: {
    requests: [commit('')],
    steps: [pause, commit('&pause=0'), unpause],
    answer: ([, committed]) => committed!,
  },
};

/** Answers that stand for the same while another operation is at work; the end state must be equal all the same. */
const SAME_ANSWER: Record<string, [code: number, as: number][]> = {
  // Who asks for an end that another operation brings about has got it.
  stop: [[304, 204]],
  kill: [[409, 204]],
  // An operation on a container that is being removed: a conflict, or no such container any more.
  '*': [[409, 404]],
  // dockerd makes every failure of a restart a 500.
  restart: [[500, 404]],
};

function comparable(name: string, codes: number[]): number[] {
  const same = [...(SAME_ANSWER[name] ?? []), ...SAME_ANSWER['*']!];
  return codes.map((code) => same.reduce((found, [from, to]) => (found === from ? to : found), code));
}

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

const outcome = (first: string, ones: number[], second: string, twos: number[], state: object | string): string =>
  JSON.stringify([comparable(first, ones), comparable(second, twos), state]);

/** Both operations at once. */
async function concurrently(first: string, second: string, base: Base, ms: number): Promise<string> {
  const id = await newContainer(base);
  try {
    const one = inSequence(operations[first]!.requests, id);
    await new Promise((resolve) => setTimeout(resolve, ms));
    const two = inSequence(operations[second]!.requests, id);
    return outcome(first, await one, second, await two, await endState(id));
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

const stepsOf = (name: string): Step[] => operations[name]!.steps ?? operations[name]!.requests;
const answersOf = (name: string, codes: number[]): number[] => {
  const { answer } = operations[name]!;
  return answer ? [answer(codes)] : codes;
};

async function serially(first: string, second: string, base: Base): Promise<string[]> {
  const outcomes: string[] = [];
  for (const order of interleavings(stepsOf(first).length, stepsOf(second).length)) {
    const id = await newContainer(base);
    try {
      const [ones, twos] = [[...stepsOf(first)], [...stepsOf(second)]];
      const codes: [number[], number[]] = [[], []];
      for (const isFirst of order) {
        if (isFirst) codes[0].push(await ones.shift()!(id));
        else codes[1].push(await twos.shift()!(id));
      }
      const answers = codes.map((list, i) => answersOf(i === 0 ? first : second, list));
      outcomes.push(outcome(first, answers[0]!, second, answers[1]!, await endState(id)));
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
  test.each(pairs.filter((_, i) => i % EVERY === 0))(
    '%s: %s with %s [operation-pairs]',
    async (base, first, second) => {
      const serial = await serially(first, second, base);
      for (const ms of MOMENTS) expect(serial).toContain(await concurrently(first, second, base, ms));
    },
  );
});
