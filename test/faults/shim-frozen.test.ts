/**
 * A shim that does not answer (stopped with SIGSTOP) is no reason to kill anything and blocks only the clients of its
 * own container.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { isDead, processState } from '../support/processes.ts';
import { shimOf } from '../support/shims.ts';

/** Every answer about its container comes within this, ms: the timeout of the daemon and a margin. */
const BOUND_MS = 40_000;
/** Answers about other containers do not wait for that timeout. */
const PROMPT_MS = 8_000;
/**
 * A list does not wait for a shim that a starting daemon has found unresponsive: less than the timeout of the daemon.
 */
const LIST_MS = 600;

interface Frozen {
  name: string;
  id: string;
  shim: number;
  init: number;
}

let engine: TestEngine;
const stopped: number[] = [];

beforeAll(async () => {
  engine = await startEngine();
  await engine.dockerOutput('run', '-d', '--name', 'other', 'busybox', 'sleep', '10000');
});
afterAll(async () => {
  for (const shim of stopped) if (!isDead(shim)) process.kill(shim, 'SIGCONT');
  await engine?.[Symbol.asyncDispose]();
});

const { inspect } = dockerOf<{
  State: { Status: string; Pid: number; ExitCode: number };
}>(() => engine);

async function run(name: string): Promise<Frozen> {
  const id = (
    await engine.dockerOutput(
      ...['run', '-d', '--name', name, '--restart', 'always'],
      ...['busybox', 'sh', '-c', 'while :; do echo tick; usleep 50000; done'],
    )
  ).trim();
  return { name, id, shim: shimOf(engine, id), init: (await inspect(name)).State.Pid };
}

async function freeze({ shim }: Frozen): Promise<void> {
  stopped.push(shim);
  process.kill(shim, 'SIGSTOP');
  await until(() => processState(shim) === 'T');
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const startedAt = Date.now();
  const result = await work;
  expect(Date.now() - startedAt).toBeLessThan(ms);
  return result;
}

/**
 * Requests to the container are refused in time, others are unaffected, nothing is killed; after SIGCONT all is as
 * before.
 */
async function expectUnharmed({ name, id, shim, init }: Frozen): Promise<void> {
  const [exec, inspected, listed] = await Promise.all([
    within(BOUND_MS, engine.dockerRefusal('exec', '-d', name, 'true')),
    within(BOUND_MS, inspect(name)),
    within(PROMPT_MS, engine.api('GET', '/containers/json')),
    within(PROMPT_MS, engine.dockerOutput('exec', 'other', 'true')),
  ]);
  expect(exec).toContain('does not answer');
  expect(inspected.State).toMatchObject({ Status: 'running', Pid: init });
  expect((listed.json as { Id: string; State: string }[]).find((c) => c.Id === id)).toMatchObject({ State: 'running' });
  expect(isDead(init)).toBe(false);
  process.kill(shim, 'SIGCONT');
  await until(async () => (await engine.docker('exec', '-d', name, 'true').result).exitCode === 0);
  expect((await inspect(name)).State).toMatchObject({ Status: 'running', Pid: init });
  expect(shimOf(engine, id)).toBe(shim);
}

async function expectKilled({ name, id, shim, init }: Frozen): Promise<void> {
  await within(BOUND_MS, engine.dockerOutput('kill', name));
  expect([isDead(init), isDead(shim)]).toEqual([true, true]);
  expect((await inspect(name)).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
  const { text } = await engine.api(
    'GET',
    `/events?since=0&until=${Math.ceil(Date.now() / 1000)}&filters=${encodeURIComponent(JSON.stringify({ container: [id] }))}`,
  );
  expect(
    text
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { Action: string }).Action),
  ).toEqual(['create', 'start', 'kill', 'die']);
}

async function expectRemoved({ name, shim, init }: Frozen): Promise<void> {
  await within(BOUND_MS, engine.dockerOutput('rm', '-f', name));
  expect([isDead(init), isDead(shim)]).toEqual([true, true]);
  expect((await engine.api('GET', `/containers/${name}/json`)).status).toBe(404);
}

describe('unresponsive shims', () => {
  test('are left alone by a running daemon, and kill and rm -f still work [shim-frozen-running]', async () => {
    const [stays, dies, goes] = [await run('stays'), await run('dies'), await run('goes')];
    for (const frozen of [stays, dies, goes]) await freeze(frozen);
    await Promise.all([expectUnharmed(stays), expectKilled(dies), expectRemoved(goes)]);
  });

  test('are left alone by a starting daemon, and kill and rm -f still work [shim-frozen-starting]', async () => {
    const [stays, dies, goes] = [await run('stays2'), await run('dies2'), await run('goes2')];
    await engine.kill9();
    for (const frozen of [stays, dies, goes]) await freeze(frozen);
    await engine.startAgain();
    await until(async () => {
      const sentAt = Date.now();
      await engine.api('GET', '/containers/json');
      return Date.now() - sentAt < LIST_MS;
    }, BOUND_MS);
    await Promise.all([expectUnharmed(stays), expectKilled(dies), expectRemoved(goes)]);
  });
});
