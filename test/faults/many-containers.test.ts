/**
 * A daemon starts with many containers, of which some have frozen shims: its first list is right, nobody waits for what
 * is slow, and it holds no more descriptors than before. HOLDFAST_FAULT_CONTAINERS sets how many run (default: 24);
 * four times as many are stopped.
 */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

const RUNNING = Number(process.env.HOLDFAST_FAULT_CONTAINERS ?? 24);
const STOPPED = RUNNING * 4;
const FROZEN = 3;
const PARALLEL = 4;
/** Descriptors of a daemon besides those of its containers: files, sockets, warm shims, clients. */
const OWN_DESCRIPTORS = 100;
const SLEEPER = { Image: 'busybox', Cmd: ['sleep', '9999'] };

let engine: TestEngine;
const frozen: number[] = [];
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => {
  for (const shim of frozen) if (!isDead(shim)) process.kill(shim, 'SIGCONT');
  await engine?.[Symbol.asyncDispose]();
}, 300_000);

interface Listed {
  Id: string;
  State: string;
}
const list = async (): Promise<Listed[]> => (await engine.api('GET', '/containers/json?all=1')).json as Listed[];
const states = (listed: Listed[]): string[] => listed.map(({ Id, State }) => `${Id} ${State}`).sort();
const descriptors = (): number => readdirSync(`/proc/${engine.pid}/fd`).length;

async function make(name: string, start: boolean): Promise<void> {
  const created = await engine.api('POST', `/containers/create?name=${name}`, SLEEPER);
  if (created.status !== 201) throw new Error(`create: ${created.status} ${created.text}`);
  if (!start) return;
  const started = await engine.api('POST', `/containers/${name}/start`);
  if (started.status !== 204) throw new Error(`start: ${started.status} ${started.text}`);
}

test('the first list after a kill is right, also with frozen shims [many-containers]', async () => {
  const names = [
    ...Array.from({ length: RUNNING }, (_, i) => ({ name: `r${i}`, start: true })),
    ...Array.from({ length: STOPPED }, (_, i) => ({ name: `s${i}`, start: false })),
  ];
  const queue = [...names];
  await Promise.all(
    Array.from({ length: PARALLEL }, async () => {
      for (let next = queue.shift(); next; next = queue.shift()) await make(next.name, next.start);
    }),
  );
  const before = states(await list());
  expect(before.filter((line) => line.endsWith(' running'))).toHaveLength(RUNNING);

  await engine.kill9();
  const ids = before.filter((line) => line.endsWith(' running')).map((line) => line.split(' ')[0]!);
  for (const id of ids.slice(0, FROZEN)) {
    frozen.push(shimOf(engine, id));
    process.kill(frozen.at(-1)!, 'SIGSTOP');
  }
  const startedAt = Date.now();
  await engine.startAgain({ HOLDFAST_CHECK_ANSWERS: undefined });
  const pingMs = Date.now() - startedAt;
  expect(states(await list())).toEqual(before);
  const listMs = Date.now() - startedAt;
  // The frozen ones hold up only themselves.
  await engine.dockerOutput('exec', ids[FROZEN]!, 'true');
  for (const shim of frozen) process.kill(shim, 'SIGCONT');
  await until(() => engine.log().split('all containers are restored').length > 2, 120_000);
  expect(states(await list())).toEqual(before);
  for (const id of ids.slice(0, FROZEN)) await engine.dockerOutput('exec', id, 'true');
  console.log(`${RUNNING} running, ${STOPPED} stopped: ping after ${pingMs} ms, list after ${listMs} ms`);
  expect(descriptors()).toBeLessThan(RUNNING + OWN_DESCRIPTORS);
  // Descriptors do not add up over daemons and restarts of containers.
  const held = descriptors();
  for (const id of ids.slice(0, PARALLEL)) await engine.dockerOutput('restart', '-t', '0', id);
  await until(() => descriptors() <= held + PARALLEL, 60_000);
}, 600_000);
