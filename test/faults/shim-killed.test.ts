/**
 * The shim of a container is killed, with and without a running daemon: a new shim takes over, and the container does
 * not notice.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { isDead } from '../support/processes.ts';
import { shimOf } from '../support/shims.ts';

/** Counts until /die exists, then exits with 7. */
const COUNTER = 'n=0; while [ ! -e /die ]; do n=$((n+1)); echo $n; usleep 10000; done; echo last; exit 7';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

interface State {
  Id: string;
  RestartCount: number;
  State: { Status: string; Running: boolean; Pid: number; StartedAt: string; ExitCode: number; Error: string };
}

const { inspect } = dockerOf<State>(() => engine);
const lines = async (name: string): Promise<string[]> => (await engine.dockerOutput('logs', name)).trim().split('\n');

/** Kills the shim, waits for its death and returns its PID. */
async function killShim(id: string): Promise<number> {
  const shim = shimOf(engine, id);
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim));
  return shim;
}

/** Waits until another shim has taken over and answers the daemon. */
async function waitForNewShim(id: string, old: number): Promise<void> {
  await until(() => shimOf(engine, id) !== old && !isDead(shimOf(engine, id)));
  await engine.dockerOutput('exec', '-d', id, 'true');
}

/** The numbers are unique and in order. Lines that a killed shim had read but not yet written may be missing. */
function expectAlmostComplete(numbers: string[], kills: number): void {
  const gaps = numbers.filter((n, i) => Number(n) !== (i === 0 ? 1 : Number(numbers[i - 1]) + 1));
  expect(numbers.map(Number)).toEqual([...new Set(numbers.map(Number))].sort((a, b) => a - b));
  expect(gaps.length, `gaps before ${gaps.join(' ')}`).toBeLessThanOrEqual(kills);
  // One unwritten chunk holds at most what is printed during a pause of the shim.
  expect(Number(numbers.at(-1)) - numbers.length).toBeLessThan(kills * 20);
}

/** Checks that a container survives `kill`, which returns the number of killed shims once a new one has taken over. */
async function expectSurvives(name: string, kill: (id: string) => Promise<number>): Promise<void> {
  await engine.dockerOutput('run', '-d', '--name', name, 'busybox', 'sh', '-c', COUNTER);
  await until(async () => (await lines(name)).length > 20);
  const before = await inspect(name);
  const kills = await kill(before.Id);
  const after = await inspect(name);
  expect(after.State).toMatchObject({ Status: 'running', Pid: before.State.Pid, StartedAt: before.State.StartedAt });
  const seen = (await lines(name)).length;
  await until(async () => (await lines(name)).length > seen + 20);

  expect(await engine.dockerOutput('exec', name, 'sh', '-c', 'echo in it; hostname')).toBe(
    `in it\n${before.Id.slice(0, 12)}\n`,
  );
  const waits = engine.docker('wait', name);
  await until(() => waits.stdout() === '' && waits.stderr() === '');
  engine.writeInto(before.Id, 'die', '');
  expect((await waits.result).stdout).toBe('7\n');
  expect((await inspect(name)).State).toMatchObject({ Status: 'exited', ExitCode: 7, Error: '' });
  const all = await lines(name);
  expect(all.at(-1)).toBe('last');
  expectAlmostComplete(all.slice(0, -1), kills);
}

describe('a container whose shim is killed', () => {
  test('keeps its log, execs and exit code while a daemon runs [shim-killed-up]', () =>
    expectSurvives('up', async (id) => {
      await waitForNewShim(id, await killShim(id));
      return 1;
    }));

  test('keeps them while no daemon runs [shim-killed-down]', () =>
    expectSurvives('down', async (id) => {
      await engine.kill9();
      const shim = await killShim(id);
      await engine.startAgain();
      await waitForNewShim(id, shim);
      return 1;
    }));

  test('keeps them when the daemon is killed right after', () =>
    expectSurvives('both', async (id) => {
      const shim = shimOf(engine, id);
      process.kill(shim, 'SIGKILL');
      await engine.kill9();
      await engine.startAgain();
      await waitForNewShim(id, shim);
      return 1;
    }));

  test('keeps them after eight kills in a row', () =>
    expectSurvives('often', async (id) => {
      for (let i = 0; i < 8; i++) await waitForNewShim(id, await killShim(id));
      return 8;
    }));

  test('has a known exit code when it exits without shim and daemon [exit-without-both]', async () => {
    await engine.dockerOutput('run', '-d', '--name', 'alone', 'busybox', 'sh', '-c', COUNTER);
    const { Id, State } = await inspect('alone');
    await engine.kill9();
    await killShim(Id);
    engine.writeInto(Id, 'die', '');
    await until(() => isDead(State.Pid));
    await engine.startAgain();
    expect((await inspect('alone')).State).toMatchObject({ Status: 'exited', ExitCode: 7, Error: '' });
    expect((await lines('alone')).at(-1)).toBe('last');
  });

  test('is still restarted by its policy [shim-killed-policy]', async () => {
    await engine.dockerOutput(
      ...['run', '-d', '--name', 'policy', '--restart', 'always'],
      ...['busybox', 'sh', '-c', 'while [ ! -e /die ]; do usleep 10000; done; rm /die; exit 7'],
    );
    const { Id } = await inspect('policy');
    await waitForNewShim(Id, await killShim(Id));
    engine.writeInto(Id, 'die', '');
    await until(
      async () => (await inspect('policy')).RestartCount === 1 && (await inspect('policy')).State.Status === 'running',
    );
  });

  test('keeps its terminal without a hangup, and can be attached again', async () => {
    await engine.dockerOutput('run', '-dit', '--name', 'tty', 'busybox', 'sh');
    const { Id, State } = await inspect('tty');
    await waitForNewShim(Id, await killShim(Id));
    const attached = engine.terminal('attach', 'tty');
    attached.stdin.write('echo here-$((40+2))\n');
    await until(() => attached.stdout().includes('here-42'));
    expect((await inspect('tty')).State.Pid).toBe(State.Pid);
    attached.stdin.write('exit 5\n');
    expect((await attached.result).exitCode).toBe(5);
  });

  test('disconnects its clients, which can attach again', async () => {
    const run = engine.docker(
      ...['run', '-i', '--name', 'client'],
      ...['busybox', 'sh', '-c', 'while read line; do echo "got $line"; done; exit 6'],
    );
    await until(
      async () =>
        (await engine.api('GET', '/containers/client/json')).status === 200 && (await inspect('client')).State.Running,
    );
    const { Id, State } = await inspect('client');
    run.stdin.write('one\n');
    await until(() => run.stdout().includes('got one'));
    await waitForNewShim(Id, await killShim(Id));
    await run.result;
    const again = engine.docker('attach', 'client');
    await until(async () => {
      again.stdin.write('two\n');
      return again.stdout().includes('got two');
    });
    expect((await inspect('client')).State).toMatchObject({ Running: true, Pid: State.Pid });
    again.stdin.end();
    expect((await again.result).exitCode).toBe(6);
  });

  test('completes a stop that was in progress [shim-killed-stop]', async () => {
    await engine.dockerOutput(
      ...['run', '-d', '--name', 'stopping'],
      ...['busybox', 'sh', '-c', 'trap "sleep 1; exit 4" TERM; while :; do usleep 10000; done'],
    );
    const { Id } = await inspect('stopping');
    const stop = engine.docker('stop', '-t', '20', 'stopping');
    await until(
      async () =>
        (await engine.dockerOutput(
          ...['events', '--since', '1m', '--until', '0s', '--filter', 'container=stopping', '--filter', 'event=kill'],
        )) !== '',
    );
    await killShim(Id);
    expect(await stop.result).toMatchObject({ exitCode: 0, stdout: 'stopping\n' });
    expect((await inspect('stopping')).State).toMatchObject({ Status: 'exited', ExitCode: 4 });
  });
});
