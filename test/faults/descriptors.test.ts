/** The daemon holds no descriptor per running container: more of them run than it may open files. */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { recordsOf, shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

const RUNNING = 40;
/** Of which the daemon needs about 30 when nothing is asked. */
const DESCRIPTORS = 64;
const DEADLINE_MS = 60_000;

interface Dump {
  containers: { id: string; shim: { connected: boolean; watched: boolean } }[];
}

let engine: TestEngine;
const names = Array.from({ length: RUNNING }, (_, i) => `c${i}`);

beforeAll(async () => {
  engine = await startEngine({ descriptors: DESCRIPTORS });
  for (let i = 0; i < RUNNING; i += 4)
    await Promise.all(
      names
        .slice(i, i + 4)
        .map((name) =>
          engine.dockerOutput('run', '-d', '--name', name, '--network', 'none', 'busybox', 'sleep', '10000'),
        ),
    );
}, 180_000);
afterAll(async () => {
  // Disposing would remove all of them at once, each on a connection of its own.
  for (const name of names) await engine?.docker('rm', '-f', name).result;
  await engine?.[Symbol.asyncDispose]();
});

const running = async (): Promise<number> => (await engine.dockerOutput('ps', '-q')).split('\n').filter(Boolean).length;

const connections = async (): Promise<number> =>
  ((await engine.api('GET', '/debug/dump')).json as Dump).containers.filter(({ shim }) => shim.connected).length;

const isIdle = (): Promise<void> => until(async () => (await connections()) === 0, DEADLINE_MS);

const idOf = async (name: string): Promise<string> => (await engine.inspect<{ Id: string }>(name)).Id;

async function expectWork(): Promise<void> {
  expect(await running()).toBe(RUNNING);
  for (const name of names) expect(await engine.dockerOutput('exec', name, 'echo', name)).toBe(`${name}\n`);
  expect(await engine.dockerOutput('run', '--rm', '--network', 'none', 'busybox', 'echo', 'ran')).toBe('ran\n');
  await isIdle();
  expect(readdirSync(`/proc/${engine.pid}/fd`).length).toBeLessThan(RUNNING);
}

test('lists, exec and run work with more running containers than descriptors [descriptors-fewer-than-running]', async () => {
  await expectWork();
  await engine.kill9();
  await engine.startAgain();
  // It has asked no shim: what their journals say is enough.
  expect(await connections()).toBe(0);
  await expectWork();
});

test('an exit is told without a connection [descriptors-exit-is-told]', async () => {
  await isIdle();
  const id = await idOf('c1');
  const { State } = await engine.inspect<{ State: { Pid: number } }>('c1');
  process.kill(State.Pid, 'SIGKILL');
  await until(async () => (await running()) === RUNNING - 1, DEADLINE_MS);
  const { State: ended } = await engine.inspect<{ State: { ExitCode: number } }>(id);
  expect(ended.ExitCode).toBe(137);
  await engine.dockerOutput('start', 'c1');
});

test('a shim that dies without a connection is followed by another [descriptors-death-is-seen]', async () => {
  await isIdle();
  const id = await idOf('c2');
  const shim = shimOf(engine, id);
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim));
  await until(() => shimOf(engine, id) !== shim, DEADLINE_MS);
  expect(await engine.dockerOutput('exec', 'c2', 'echo', 'here')).toBe('here\n');
  expect(recordsOf(engine, id).filter(({ type }) => type === 'exited')).toEqual([]);
});

test('a wait for the removal is answered after it, though no connection is open [descriptors-removed-wait]', async () => {
  const command = ['run', '--rm', '--name', 'gone', '--network', 'none', 'busybox', 'sleep', '10000'];
  const client = engine.docker(...command);
  await until(async () => (await running()) === RUNNING + 1, DEADLINE_MS);
  await isIdle();
  const { State } = await engine.inspect<{ State: { Pid: number } }>('gone');
  process.kill(State.Pid, 'SIGKILL');
  expect((await client.result).exitCode).toBe(137);
  expect((await engine.api('GET', '/containers/gone/json')).status).toBe(404);
});
