/**
 * The daemon ends in order (SIGTERM) or is killed while containers in every state exist. The next daemon shows each
 * exactly as it was: nothing was restarted, resumed, reset or probed again.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { shimOf } from '../support/shims.ts';

interface Inspected {
  Id: string;
  RestartCount: number;
  State: {
    Status: string;
    Pid: number;
    ExitCode: number;
    StartedAt: string;
    FinishedAt: string;
    Health?: { Status: string; FailingStreak: number; Log: { Start: string }[] };
  };
  NetworkSettings: { Ports: unknown; Networks: Record<string, { IPAddress: string; EndpointID: string }> };
}

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { inspect, ok } = dockerOf<Inspected>(() => engine);
const ENDS = { SIGTERM: () => engine.stop(), SIGKILL: () => engine.kill9() };
const ends = Object.keys(ENDS) as (keyof typeof ENDS)[];
const SLEEP = ['busybox', 'sleep', '9999'];

/** One container in each state, by name. */
const NAMES = ['idle', 'healthy', 'sick', 'stdin', 'paused', 'backoff', 'restarted', 'created', 'exited', 'oneshot'];

beforeAll(async () => {
  const probe = ['--health-interval', '1h', '--health-start-interval', '100ms', '--health-start-period', '1h'];
  await ok('run', '-d', '--name', 'idle', '-p', '127.0.0.1::80', ...SLEEP);
  await ok('run', '-d', '--name', 'healthy', '--health-cmd', 'true', ...probe, ...SLEEP);
  await ok(
    ...['run', '-d', '--name', 'sick', '--health-cmd', 'test -e /well', '--health-interval', '1s'],
    ...['--health-retries', '1', ...SLEEP],
  );
  await ok('run', '-dit', '--name', 'stdin', 'busybox', 'sh');
  await ok('run', '-d', '--name', 'paused', ...SLEEP);
  await ok('pause', 'paused');
  await ok('run', '-d', '--name', 'backoff', '--restart', 'always', 'busybox', 'sh', '-c', 'sleep 0.1; exit 3');
  await ok(
    ...['run', '-d', '--name', 'restarted', '--restart', 'on-failure:5'],
    ...['busybox', 'sh', '-c', 'test -e /once && exec sleep 9999; touch /once; exit 4'],
  );
  await ok('create', '--name', 'created', ...SLEEP);
  await engine.docker('run', '--name', 'exited', 'busybox', 'sh', '-c', 'exit 5').result;
  await ok('run', '-d', '--name', 'oneshot', '--rm', ...SLEEP);
  await until(async () => (await inspect('healthy')).State.Health?.Status === 'healthy', 60_000);
  await until(async () => (await inspect('sick')).State.Health?.Status === 'unhealthy', 60_000);
  await until(async () => (await inspect('restarted')).RestartCount === 1, 60_000);
  // A pause of several seconds, in which the daemon can be replaced.
  await until(async () => {
    const { RestartCount, State } = await inspect('backoff');
    return RestartCount >= 6 && State.Status === 'restarting';
  }, 60_000);
});

describe.each(ends)('after %s and a new start', (end) => {
  test('every container is as it was [state-unchanged]', async () => {
    const before = new Map<string, Inspected>();
    for (const name of NAMES) before.set(name, await inspect(name));
    const shims = ['idle', 'healthy', 'stdin', 'paused'].map((name) => shimOf(engine, before.get(name)!.Id));
    await ENDS[end]();
    await engine.startAgain();
    for (const name of NAMES) {
      const { State, RestartCount, NetworkSettings } = await inspect(name);
      const was = before.get(name)!;
      if (name === 'backoff') {
        expect(RestartCount).toBeGreaterThanOrEqual(was.RestartCount);
        expect(['restarting', 'running']).toContain(State.Status);
        continue;
      }
      expect(RestartCount, name).toBe(was.RestartCount);
      expect(NetworkSettings, name).toEqual(was.NetworkSettings);
      if (name !== 'sick') expect(State, name).toEqual(was.State);
      // It is probed each second: the streak goes on and is not reset.
      else {
        expect(State).toMatchObject({ Pid: was.State.Pid, StartedAt: was.State.StartedAt });
        expect(State.Health).toMatchObject({ Status: 'unhealthy' });
        expect(State.Health!.FailingStreak).toBeGreaterThanOrEqual(was.State.Health!.FailingStreak);
      }
    }
    expect(['idle', 'healthy', 'stdin', 'paused'].map((name) => shimOf(engine, before.get(name)!.Id))).toEqual(shims);
    await ok('exec', 'idle', 'true');
    expect(await engine.dockerRefusal('exec', 'paused', 'true')).toContain('is paused');
  });

  test('a container that a user stopped is started again only by policy always [stopped-by-user]', async () => {
    const policies = ['no', 'unless-stopped', 'always'];
    const made: string[] = [];
    for (const policy of policies)
      for (const how of ['stop', 'kill']) {
        const name = `${policy}-${how}-${end.toLowerCase()}`;
        await ok('run', '-d', '--name', name, '--restart', policy, ...SLEEP);
        await (how === 'stop' ? ok('stop', '-t', '0', name) : ok('kill', name));
        made.push(name);
      }
    await ENDS[end]();
    await engine.startAgain();
    for (const name of made.filter((n) => n.startsWith('always')))
      await until(async () => (await inspect(name)).State.Status === 'running', 60_000);
    // All are restored, and the policies have been applied.
    await until(
      () => engine.log().split('all containers are restored').length > engine.log().split('"serving"').length - 1,
    );
    for (const name of made.filter((n) => !n.startsWith('always')))
      expect((await inspect(name)).State, name).toMatchObject({ Status: 'exited', ExitCode: 137 });
    await ok('rm', '-f', ...made);
  });
});
