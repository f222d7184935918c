/**
 * The pid of a dead container, shim, keeper or listener belongs to another process by the time somebody looks: that
 * process is neither taken for the dead one nor signalled, and its cgroup is left alone.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

const LAST_PID = '/proc/sys/kernel/ns_last_pid';

let engine: TestEngine;
const strangers: number[] = [];
beforeAll(async () => {
  engine = await startEngine();
});
afterEach(() => {
  for (const pid of strangers.splice(0)) if (!isDead(pid)) process.kill(pid, 'SIGKILL');
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { inspect, ok } = dockerOf<{ Id: string; State: { Status: string; Pid: number; ExitCode: number } }>(
  () => engine,
);

/** Starts a process that has just this pid, which must be free. */
async function takePid(pid: number): Promise<void> {
  await until(() => isDead(pid) && !readdirSync('/proc').includes(String(pid)), 60_000);
  for (;;) {
    const script = `echo ${pid - 1} >${LAST_PID}; sleep 9999 >/dev/null 2>&1 & echo $!`;
    const got = Number(execFileSync('sh', ['-c', script], { encoding: 'utf8' }));
    if (got === pid) return void strangers.push(pid);
    process.kill(got, 'SIGKILL');
    await sleep(5);
  }
}

test('a process with the pid of a container that died without shim and daemon is left alone [pid-of-init]', async () => {
  const id = await ok('run', '-d', '--name', 'gone', '--restart', 'no', 'busybox', 'sleep', '9999');
  const { Pid } = (await inspect('gone')).State;
  const shim = shimOf(engine, id);
  const keepers = readdirSync(join(engine.execRoot, 'c', id.slice(0, 16)))
    .filter((name) => name.endsWith('.keeper'))
    .map((name) => (JSON.parse(readFileSync(join(engine.execRoot, 'c', id.slice(0, 16), name), 'utf8')) as Named).pid);
  await engine.kill9();
  // The pidfd that the keeper holds would tell the container's end from the stranger's life.
  for (const pid of [shim, ...keepers, Pid]) process.kill(pid, 'SIGKILL');
  for (const pid of [shim, ...keepers, Pid]) await until(() => isDead(pid));
  for (const pid of [Pid, ...keepers, shim]) await takePid(pid);
  await engine.startAgain();
  expect((await inspect('gone')).State).toMatchObject({ Status: 'exited', Pid: 0 });
  expect(await engine.dockerRefusal('kill', 'gone')).toContain('is not running');
  expect(await engine.dockerRefusal('exec', 'gone', 'true')).toContain('is not running');
  await ok('start', 'gone');
  await ok('stop', '-t', '0', 'gone');
  await ok('rm', '-f', 'gone');
  expect(strangers.filter(isDead)).toEqual([]);
  expect(strangers).toHaveLength(keepers.length + 2);
});
interface Named {
  pid: number;
}

test("a stop that a new shim goes on with does not reach the stranger's cgroup [pid-of-stopped]", async () => {
  const id = await ok(
    'run',
    '-d',
    '--name',
    'stopping',
    'busybox',
    'sh',
    '-c',
    'trap "" TERM; while :; do sleep 1; done',
  );
  const { Pid } = (await inspect('stopping')).State;
  const stop = engine.docker('stop', '-t', '1', 'stopping');
  const journal = (): string => readFileSync(join(engine.root, 'data', 'containers', id, 'journal'), 'utf8');
  await until(() => journal().includes('"stopping"'), 60_000);
  const shim = shimOf(engine, id);
  await engine.kill9();
  process.kill(shim, 'SIGKILL');
  process.kill(Pid, 'SIGKILL');
  await until(() => isDead(shim) && isDead(Pid));
  await stop.result;
  await takePid(Pid);
  // A cgroup of the stranger's own, with a neighbour in it.
  const hierarchy = readdirSync('/sys/fs/cgroup').includes('pids') ? 'pids' : '';
  const cgroup = join('/sys/fs/cgroup', hierarchy, `hf-stranger-${process.pid}`);
  mkdirSync(cgroup);
  try {
    const neighbour = spawn('sleep', ['9999'], { stdio: 'ignore' }).pid!;
    strangers.push(neighbour);
    for (const pid of [Pid, neighbour]) writeFileSync(join(cgroup, 'cgroup.procs'), String(pid));
    await engine.startAgain();
    await until(async () => (await inspect('stopping')).State.Status === 'exited', 60_000);
    // Longer than a shim gives what is left in a container's cgroup after its deadline.
    await sleep(4000);
    await ok('rm', '-f', 'stopping');
    expect([isDead(Pid), isDead(neighbour)]).toEqual([false, false]);
  } finally {
    for (const pid of strangers.splice(0)) process.kill(pid, 'SIGKILL');
    await until(() => readFileSync(join(cgroup, 'cgroup.procs'), 'utf8') === '');
    rmdirSync(cgroup);
  }
});

test('a listener whose pid belongs to a stranger is not asked for the sockets [pid-of-listener]', async () => {
  const holder = (JSON.parse(readFileSync(join(engine.execRoot, 'listener.json'), 'utf8')) as Named).pid;
  await engine.kill9();
  process.kill(holder, 'SIGKILL');
  await takePid(holder);
  await engine.startAgain();
  expect(await ok('ps', '-q')).toBe('');
  expect(isDead(holder)).toBe(false);
});
