/**
 * The pid of a dead container, shim, keeper or listener belongs to another process when the next daemon looks: that
 * process is neither taken for the dead one nor signalled, and its cgroup is not taken for the container's.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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

const { inspect, ok } = dockerOf<{ Id: string; State: { Status: string; Pid: number; OOMKilled: boolean } }>(
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
    await new Promise((resolve) => setTimeout(resolve, 5));
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

test("an OOM kill in the stranger's cgroup does not count as the container's [pid-of-stopped]", async () => {
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
  // A cgroup of the stranger's own, in which the OOM killer has been at work.
  const v1 = '/sys/fs/cgroup/memory';
  const cgroup = join(existsSync(v1) ? v1 : '/sys/fs/cgroup', `hf-stranger-${process.pid}`);
  mkdirSync(cgroup);
  try {
    const [limit, counter] = existsSync(v1)
      ? ['memory.limit_in_bytes', 'memory.oom_control']
      : ['memory.max', 'memory.events'];
    writeFileSync(join(cgroup, limit), String(8 * 1024 * 1024));
    const hungry = `echo $$ >${cgroup}/cgroup.procs; x=; while :; do x=$x$x$(seq 1 10000); done`;
    spawn('sh', ['-c', hungry], { stdio: 'ignore' });
    await until(() => /^oom_kill [1-9]/m.test(readFileSync(join(cgroup, counter), 'utf8')), 60_000);
    writeFileSync(join(cgroup, 'cgroup.procs'), String(Pid));
    await engine.startAgain();
    await until(async () => (await inspect('stopping')).State.Status === 'exited', 60_000);
    expect((await inspect('stopping')).State).toMatchObject({ OOMKilled: false });
    await ok('rm', '-f', 'stopping');
    expect(isDead(Pid)).toBe(false);
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
