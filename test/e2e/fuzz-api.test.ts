/**
 * Sends generated requests to a real daemon: valid by openapi.yaml, nearly valid, and odd ones. By hand for longer:
 * HOLDFAST_FUZZ_SECONDS=600 HOLDFAST_FUZZ_SEED=7 ./scripts/test test/e2e/fuzz-api.test.ts
 */
import http from 'node:http';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { busyboxTar } from '../support/busybox.ts';
import { fuzzedRequest, MAY_WAIT, type FuzzedRequest } from '../support/fuzz-requests.ts';

const SECONDS = Number(process.env.HOLDFAST_FUZZ_SECONDS ?? 20);
const SEED = Number(process.env.HOLDFAST_FUZZ_SEED ?? 20_261_129);
/** In CI a fixed number, so that a faster machine does not go where none has been. */
const MAX_RUNS = process.env.HOLDFAST_FUZZ_SECONDS === undefined ? 4_000 : 1_000_000;
/** A daemon that has not begun to answer by then hangs. */
const DEADLINE_MS = 30_000;
/** How long a stream is read, or an operation that may wait is waited for. */
const GLANCE_MS = 150;

let engine: TestEngine;

interface Glimpse {
  status: number;
  type: string;
  text: string;
}

/** What the daemon answers, or its beginning; undefined when an operation that may wait has not answered yet. */
function glance({ operation, method, path, body, headers }: FuzzedRequest): Promise<Glimpse | undefined> {
  return new Promise((resolve, reject) => {
    const sent = http.request({
      socketPath: engine.socket,
      method,
      path,
      headers: { ...headers, 'Content-Length': Buffer.byteLength(body ?? '') },
      agent: false,
    });
    let seen: Glimpse | undefined;
    const finish = (): void => {
      clearTimeout(timer);
      sent.destroy();
      resolve(seen);
    };
    const timer = setTimeout(
      () => {
        if (MAY_WAIT.has(operation)) finish();
        else reject(new Error(`no answer within ${DEADLINE_MS} ms`));
      },
      MAY_WAIT.has(operation) ? GLANCE_MS : DEADLINE_MS,
    );
    sent.on('response', (answer) => {
      seen = { status: answer.statusCode!, type: answer.headers['content-type'] ?? '', text: '' };
      answer.on('data', (chunk: Buffer) => (seen!.text += chunk.toString()));
      answer.on('end', finish).on('error', finish);
    });
    sent.on('upgrade', (answer) => {
      seen = { status: answer.statusCode!, type: '', text: '' };
      finish();
    });
    sent.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      // The daemon may answer and close while the body is still being sent.
      if (seen !== undefined || error.code === 'EPIPE' || error.code === 'ECONNRESET') resolve(seen);
      else reject(error);
    });
    sent.end(body);
  });
}

/** Answers of 500 that dockerd gives too: the host, the runtime or a registry refuses what was asked. */
const HOST_REFUSALS = [
  /^(Get|Post) "https?:\/\/127\.0\.0\.1:9\//,
  /^container \S+ is not connected to (the )?network/,
  /^Container \S+ is not paused$/,
  /^Cannot (restart|update) container [^"]*$/,
  /^Conflict, cannot remove the default link name/,
  /^lstat \S*: not a directory$/,
];
/** dockerd's errors were plain text before API 1.24, and are on a connection that it has already taken over. */
const isPlainText = ({ operation, path }: FuzzedRequest): boolean =>
  operation === 'ContainerAttach' || /^\/v1\.(23)?\//.test(path);
const INTERNAL = /TypeError|RangeError|ReferenceError|is not a function|is not iterable|Cannot (read|set) prop|\.ts:\d/;

/** What is wrong with an answer; undefined when nothing is. */
function faultOf(sent: FuzzedRequest, { status, type, text }: Glimpse): string | undefined {
  const { operation, method } = sent;
  if (INTERNAL.test(text)) return 'an internal error shows';
  if (status < 400) return undefined;
  if (method === 'HEAD') return status >= 500 ? 'a 5xx' : undefined;
  let message: unknown = text;
  if (isPlainText(sent) && !type.startsWith('application/json')) return text === '' ? 'the error is empty' : undefined;
  try {
    ({ message } = JSON.parse(text) as { message?: unknown });
  } catch {
    return 'the error is not JSON';
  }
  if (!type.startsWith('application/json') || typeof message !== 'string' || message === '')
    return 'the error has no message';
  const documented = status === 501 || status === 503;
  if (status >= 500 && !documented && !HOST_REFUSALS.some((pattern) => pattern.test(message)))
    return `${operation}: a 5xx`;
  return undefined;
}

/** Whether a request may have changed something since the last restore. */
let changed = true;

async function restoreAfterChange(): Promise<void> {
  if (changed) await restore();
  changed = false;
}

/** Brings back what the requests expect to find, and removes what they have made. */
async function restore(): Promise<void> {
  const send = (method: string, path: string, body?: unknown): Promise<{ status: number; json: unknown }> =>
    engine.api(method, path, body);
  const containers = (await send('GET', '/containers/json?all=1')).json as {
    Id: string;
    Names: string[];
    State: string;
  }[];
  const isKept = ({ Names, State }: (typeof containers)[number]): boolean =>
    (Names[0] === '/run' && State === 'running') || (Names[0] === '/idle' && State === 'created');
  await Promise.all(
    containers.filter((c) => !isKept(c)).map(({ Id }) => send('DELETE', `/containers/${Id}?force=1&v=1`)),
  );
  const networks = (await send('GET', '/networks?filters={"type":["custom"]}')).json as { Id: string; Name: string }[];
  for (const { Id, Name } of networks) if (Name !== 'net') await send('DELETE', `/networks/${Id}`);
  const volumes = (await send('GET', '/volumes')).json as { Volumes: { Name: string }[] | null };
  for (const { Name } of volumes.Volumes ?? []) await send('DELETE', `/volumes/${encodeURIComponent(Name)}?force=1`);
  if ((await send('GET', '/images/busybox/json')).status === 404)
    await engine.api('POST', '/images/create?fromSrc=-&repo=busybox&tag=latest', busyboxTar(), {
      'Content-Type': 'application/x-tar',
    });
  const kept = new Set(containers.filter(isKept).map(({ Names }) => Names[0]));
  // It ends at the first signal of any kind that it can take.
  const Cmd = ['sh', '-c', 'trap "exit 0" TERM INT HUP; while :; do sleep 0.1; done'];
  for (const name of ['run', 'idle'])
    if (!kept.has(`/${name}`))
      await send('POST', `/containers/create?name=${name}`, {
        Image: 'busybox',
        Cmd,
        HostConfig: { NetworkMode: 'none' },
      });
  if (!kept.has('/run')) expect((await send('POST', '/containers/run/start')).status).toBe(204);
  await send('POST', '/networks/create', { Name: 'net' });
  await send('POST', '/volumes/create', { Name: 'vol' });
}

beforeAll(async () => {
  engine = await startEngine();
});
afterAll(() => engine[Symbol.asyncDispose]());

test(
  'no generated request gets a 5xx, hangs, or ends the daemon [fuzz-api]',
  async () => {
    const counts = new Map<string, number>();
    const collected = new Map<string, string>();
    const check = async (sent: FuzzedRequest): Promise<void> => {
      const answer = await glance(sent).catch((error: unknown) => {
        throw new Error(`${sent.operation}: ${String(error)}`);
      });
      expect(engine.isDead(), engine.isDead() ? engine.log().slice(-2000) : '').toBe(false);
      if (sent.method !== 'GET' && sent.method !== 'HEAD' && (answer?.status ?? 0) < 400) changed = true;
      if (answer === undefined) return;
      counts.set(sent.operation, (counts.get(sent.operation) ?? 0) + 1);
      const fault = faultOf(sent, answer);
      if (fault === undefined) return;
      const shown = `${fault}: ${answer.status} ${answer.text.slice(0, 500)}`;
      if (process.env.HOLDFAST_FUZZ_COLLECT === undefined) throw new Error(shown);
      collected.set(shown, JSON.stringify(sent).slice(0, 2000));
    };
    await fc.assert(fc.asyncProperty(fuzzedRequest, check), {
      seed: SEED,
      numRuns: MAX_RUNS,
      plugins: [fc.beforeEach(restoreAfterChange), fc.interruptAfterTimeLimit(SECONDS * 1000)],
    });
    for (const [key, value] of collected) console.log(`${key}\n    ${value}`);
    console.log(`${[...counts.values()].reduce((sum, count) => sum + count, 0)} requests to ${counts.size} operations`);
    expect((await engine.api('GET', '/_ping')).status).toBe(200);
  },
  SECONDS * 1000 + 300_000,
);
