/**
 * Containers end while no daemon runs: by themselves, by the OOM killer, by a stop whose deadline passes, by their
 * policy. The next daemon knows how each ended, also where the shim was killed before anybody asked it.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { recordsOf, shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

interface Inspected {
  Id: string;
  RestartCount: number;
  State: { Status: string; Pid: number; ExitCode: number; OOMKilled: boolean; FinishedAt: string; Error: string };
}
interface DockerEvent {
  Action: string;
  timeNano: number;
  Actor: { Attributes: Record<string, string> };
}

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { inspect, ok } = dockerOf<Inspected>(() => engine);
const MORTAL = 'while [ ! -e /die ]; do usleep 20000; done; exit 7';

async function run(name: string, ...args: string[]): Promise<{ id: string; pid: number; shim: number }> {
  const id = await ok('run', '-d', '--name', name, ...args);
  return { id, pid: (await inspect(name)).State.Pid, shim: shimOf(engine, id) };
}

async function eventsOf(id: string): Promise<DockerEvent[]> {
  const filters = encodeURIComponent(JSON.stringify({ container: [id] }));
  const { text } = await engine.api('GET', `/events?since=0&until=${Math.ceil(Date.now() / 1000)}&filters=${filters}`);
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as DockerEvent);
}

const hasRecord = (id: string, type: string): boolean => recordsOf(engine, id).some((record) => record.type === type);

test.each(['exited', 'final'])(
  'the exit code is known although the shim was killed once `%s` was recorded [exit-then-shim-killed]',
  async (record) => {
    const { id, shim } = await run(`code-${record}`, 'busybox', 'sh', '-c', MORTAL);
    await engine.kill9();
    const diedAt = Date.now();
    engine.writeInto(id, 'die', '');
    await until(() => hasRecord(id, record), 60_000);
    if (!isDead(shim)) process.kill(shim, 'SIGKILL');
    await until(() => isDead(shim));
    const backAt = Date.now();
    await engine.startAgain();
    const { State } = await inspect(`code-${record}`);
    expect(State).toMatchObject({ Status: 'exited', ExitCode: 7, OOMKilled: false, Error: '' });
    expect(Date.parse(State.FinishedAt)).toBeGreaterThanOrEqual(diedAt - 50);
    expect(Date.parse(State.FinishedAt)).toBeLessThanOrEqual(backAt);
    expect((await eventsOf(id)).map(({ Action }) => Action)).toEqual(['create', 'start', 'die']);
    await ok('rm', `code-${record}`);
  },
);

test('an OOM kill while no daemon runs sets OOMKilled and emits its event, once [oom-while-down]', async () => {
  const hungry = 'while [ ! -e /eat ]; do usleep 20000; done; x=; while :; do x=$x$x$(seq 1 10000); done';
  const { id, pid } = await run('hungry', '-m', '16m', '--memory-swap', '16m', 'busybox', 'sh', '-c', hungry);
  await engine.kill9();
  engine.writeInto(id, 'eat', '');
  await until(() => isDead(pid) && hasRecord(id, 'exited'), 60_000);
  const backAt = Date.now();
  await engine.startAgain();
  expect((await inspect('hungry')).State).toMatchObject({ Status: 'exited', ExitCode: 137, OOMKilled: true });
  const events = await eventsOf(id);
  expect(events.map(({ Action }) => Action)).toEqual(['create', 'start', 'oom', 'die']);
  expect(events.every(({ timeNano }) => timeNano / 1e6 <= backAt)).toBe(true);
  // The same, and the shim is killed as well before it can tell.
  const again = await run('hungry2', '-m', '16m', '--memory-swap', '16m', 'busybox', 'sh', '-c', hungry);
  await engine.kill9();
  engine.writeInto(again.id, 'eat', '');
  await until(() => hasRecord(again.id, 'exited'), 60_000);
  if (!isDead(again.shim)) process.kill(again.shim, 'SIGKILL');
  await until(() => isDead(again.shim));
  await engine.startAgain();
  expect((await inspect('hungry2')).State).toMatchObject({ Status: 'exited', ExitCode: 137, OOMKilled: true });
  expect((await eventsOf(again.id)).map(({ Action }) => Action)).toEqual(['create', 'start', 'oom', 'die']);
  await ok('rm', 'hungry', 'hungry2');
});

test('on-failure:5 is tried five times in all, across daemons and shims [retries-across-daemons]', async () => {
  const { id } = await run('tries', '--restart', 'on-failure:5', 'busybox', 'sh', '-c', 'echo tried; exit 3');
  await until(async () => (await inspect('tries')).RestartCount >= 2, 60_000);
  await engine.kill9();
  const shim = shimOf(engine, id);
  await until(() => recordsOf(engine, id).filter(({ type }) => type === 'restarting').length >= 3, 60_000);
  if (!isDead(shim)) process.kill(shim, 'SIGKILL');
  await engine.startAgain();
  // Between an exit and the decision on a restart it is exited too.
  await until(async () => {
    const { RestartCount, State } = await inspect('tries');
    return RestartCount === 5 && State.Status === 'exited';
  }, 60_000);
  expect((await inspect('tries')).State.ExitCode).toBe(3);
  expect((await ok('logs', 'tries')).split('\n')).toHaveLength(6);
  // The pause doubled each time; neither the new daemon nor the new shim began again.
  const pauses = recordsOf(engine, id).flatMap((r) => (r.type === 'restarting' ? [BigInt(r.wall)] : []));
  const starts = recordsOf(engine, id).flatMap((r) => (r.type === 'creating' ? [BigInt(r.wall)] : []));
  expect(starts).toHaveLength(6);
  expect(Number(starts[5]! - pauses[4]!) / 1e6).toBeGreaterThanOrEqual(1_500);
  await ok('rm', 'tries');
});

test('an --rm container that ends while no daemon runs is removed with its volumes [auto-remove-while-down]', async () => {
  const { id, pid } = await run('once', '--rm', '-v', '/data', 'busybox', 'sh', '-c', MORTAL);
  const [volume] = (await ok('volume', 'ls', '-q')).split('\n');
  expect(volume).not.toBe('');
  await engine.kill9();
  engine.writeInto(id, 'die', '');
  await until(() => isDead(pid), 60_000);
  await engine.startAgain();
  await until(async () => (await engine.api('GET', `/containers/${id}/json`)).status === 404, 60_000);
  await until(async () => (await ok('volume', 'ls', '-q')) === '', 60_000);
  expect(existsSync(join(engine.root, 'data', 'containers', id))).toBe(false);
  expect((await eventsOf(id)).map(({ Action }) => Action)).toEqual(['create', 'start', 'die', 'destroy']);
});

test('a stop that was asked for before the daemon died ends in SIGKILL on time [stop-deadline-while-down]', async () => {
  const { id, pid } = await run('stubborn', 'busybox', 'sh', '-c', 'trap "" TERM; while :; do usleep 20000; done');
  const stop = engine.docker('stop', '-t', '3', 'stubborn');
  await until(() => hasRecord(id, 'stopping'), 60_000);
  await engine.kill9();
  await until(() => hasRecord(id, 'exited'), 60_000);
  expect(isDead(pid)).toBe(true);
  const at = (type: string): number => Number(BigInt(recordsOf(engine, id).find((r) => r.type === type)!.mono)) / 1e6;
  expect(at('exited') - at('stopping')).toBeGreaterThanOrEqual(2_900);
  await stop.result;
  await engine.startAgain();
  expect((await inspect('stubborn')).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
  await ok('rm', 'stubborn');
});
