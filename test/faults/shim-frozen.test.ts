/**
 * A shim that does not answer (kill -STOP) is no reason to kill anything, and holds up nobody but its own container's
 * clients.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { isDead, processState } from '../support/processes.ts';
import { shimOf } from '../support/shims.ts';

/** Every answer about a frozen one comes within this: the daemon's patience, and some. */
const BOUND_MS = 40_000;
/** One about others does not wait for it. */
const PROMPT_MS = 8_000;
/**
 * Once a daemon that starts has found it frozen, a list does not wait for it any more: less than the daemon's patience.
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
      'run',
      '-d',
      '--name',
      name,
      '--restart',
      'always',
      'busybox',
      'sh',
      '-c',
      'while :; do echo tick; usleep 50000; done',
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
  const begun = Date.now();
  const result = await work;
  expect(Date.now() - begun).toBeLessThan(ms);
  return result;
}

/** What is asked of it is refused in time, others do not notice, nothing is killed; thawed it is as before. */
async function stands({ name, id, shim, init }: Frozen): Promise<void> {
  const [exec, looked, listed] = await Promise.all([
    within(BOUND_MS, engine.dockerRefusal('exec', '-d', name, 'true')),
    within(BOUND_MS, inspect(name)),
    within(PROMPT_MS, engine.api('GET', '/containers/json')),
    within(PROMPT_MS, engine.dockerOutput('exec', 'other', 'true')),
  ]);
  expect(exec).toContain('does not answer');
  expect(looked.State).toMatchObject({ Status: 'running', Pid: init });
  expect((listed.json as { Id: string; State: string }[]).find((c) => c.Id === id)).toMatchObject({ State: 'running' });
  expect(isDead(init)).toBe(false);
  process.kill(shim, 'SIGCONT');
  await until(async () => (await engine.docker('exec', '-d', name, 'true').result).exitCode === 0);
  expect((await inspect(name)).State).toMatchObject({ Status: 'running', Pid: init });
  expect(shimOf(engine, id)).toBe(shim);
}

async function killed({ name, id, shim, init }: Frozen): Promise<void> {
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

async function removed({ name, shim, init }: Frozen): Promise<void> {
  await within(BOUND_MS, engine.dockerOutput('rm', '-f', name));
  expect([isDead(init), isDead(shim)]).toEqual([true, true]);
  expect((await engine.api('GET', `/containers/${name}/json`)).status).toBe(404);
}

describe('frozen shims', () => {
  test('with the daemon there: it stands; a kill and an rm -f are done all the same', async () => {
    const [stays, dies, goes] = [await run('stays'), await run('dies'), await run('goes')];
    for (const frozen of [stays, dies, goes]) await freeze(frozen);
    await Promise.all([stands(stays), killed(dies), removed(goes)]);
  });

  test('found by a daemon that starts', async () => {
    const [stays, dies, goes] = [await run('stays2'), await run('dies2'), await run('goes2')];
    await engine.kill9();
    for (const frozen of [stays, dies, goes]) await freeze(frozen);
    await engine.startAgain();
    await until(async () => {
      const begun = Date.now();
      await engine.api('GET', '/containers/json');
      return Date.now() - begun < LIST_MS;
    }, BOUND_MS);
    await Promise.all([stands(stays), killed(dies), removed(goes)]);
  });
});
