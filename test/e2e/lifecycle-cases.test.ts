/** The life of containers and execs, in cases where an engine that only stores what it is told goes wrong. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { unframe } from '../support/frames.ts';
import { opened } from '../support/http.ts';
import { until } from '../support/until.ts';

interface Inspect {
  Id: string;
  State: { Status: string; Running: boolean; StartedAt: string; ExitCode: number; OOMKilled: boolean };
  RestartCount: number;
}

const isV1 = existsSync('/sys/fs/cgroup/memory/memory.oom_control');

let engine: TestEngine;
beforeAll(async () => (engine = await startEngine()));
afterAll(() => engine[Symbol.asyncDispose]());

const { docker, ok, inspect } = dockerOf<Inspect>(() => engine);

describe('limits changed by update', () => {
  const MORTAL = 'while [ ! -e /die ]; do usleep 50000; done; rm -f /die; exit 7';

  /** Memory in MiB, weight of the CPU (v1's or v2's), number of processes. */
  const limits = async (name: string): Promise<string[]> => {
    const files = [
      ['memory/memory.limit_in_bytes', 'memory.max'],
      ['cpu/cpu.shares', 'cpu.weight'],
      ['pids/pids.max', 'pids.max'],
    ].map(([v1, v2]) => `cat /sys/fs/cgroup/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`);
    return (await ok('exec', name, 'sh', '-c', files.join('; '))).split('\n');
  };

  const runAndUpdate = async (name: string, ...options: string[]): Promise<string[]> => {
    const before = ['-m', '300M', '--memory-swap', '-1', '--cpu-shares', '512', '--pids-limit', '50'];
    await ok('run', '-d', '--name', name, ...before, ...options, 'busybox', 'sh', '-c', MORTAL);
    await ok('update', '-m', '500M', '--memory-swap', '-1', '--cpu-shares', '1024', '--pids-limit', '70', name);
    return limits(name);
  };

  test('hold after a restart by a client', async () => {
    const updated = await runAndUpdate('restarted');
    expect(updated[0]).toBe(String(500 * 1024 * 1024));
    expect(updated[2]).toBe('70');
    await ok('restart', '-t', '0', 'restarted');
    expect(await limits('restarted')).toEqual(updated);
  });

  test('hold after a restart by policy while no daemon runs', async () => {
    const updated = await runAndUpdate('by-policy', '--restart', 'always');
    const { Id, State } = await inspect('by-policy');
    await engine.kill9();
    engine.writeInto(Id, 'die', '');
    await until(() => !existsSync(join(engine.execRoot, 'c', Id.slice(0, 16), 'rootfs/die')));
    await engine.startAgain();
    await until(async () => {
      const now = await inspect('by-policy');
      return now.State.Running && now.State.StartedAt !== State.StartedAt;
    });
    expect(await limits('by-policy')).toEqual(updated);
  });

  // v1 refuses a limit below the present usage; v2 accepts it and kills.
  test.runIf(isV1)(
    'an update that the runtime refuses leaves the limits of the next restart as they were',
    async () => {
      const fill = 'dd if=/dev/zero of=/dev/shm/x bs=1M count=40; touch /filled; sleep 1000';
      await ok('run', '-d', '--name', 'full', '-m', '300M', '--memory-swap', '300M', 'busybox', 'sh', '-c', fill);
      const before = await limits('full');
      await until(async () => (await docker('exec', 'full', 'test', '-e', '/filled')).exitCode === 0);
      const { exitCode, stderr } = await docker('update', '-m', '20M', '--memory-swap', '20M', 'full');
      expect({ exitCode, stderr }).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('Cannot update') });
      await ok('restart', '-t', '0', 'full');
      expect(await limits('full')).toEqual(before);
    },
  );
});

test('a starting daemon starts what its restart policy says, as dockerd does [policy-at-start]', async () => {
  const SLEEP = ['busybox', 'sleep', '1000'];
  await ok('run', '-d', '--name', 'always', '--restart', 'always', ...SLEEP);
  await ok('run', '-d', '--name', 'unless-stopped', '--restart', 'unless-stopped', ...SLEEP);
  await ok('run', '-d', '--name', 'on-failure', '--restart', 'on-failure', ...SLEEP);
  await ok('run', '-d', '--name', 'succeeded', '--restart', 'on-failure', 'busybox', 'true');
  await ok('run', '-d', '--name', 'no-policy', ...SLEEP);
  await ok('create', '--name', 'never-started', '--restart', 'always', ...SLEEP);
  await ok('stop', '-t', '0', 'always', 'unless-stopped', 'on-failure', 'no-policy');
  expect((await inspect('on-failure')).State.ExitCode).toBe(137);
  await until(async () => (await inspect('succeeded')).State.Status === 'exited');

  await engine.stop();
  await engine.startAgain();
  const status = async (name: string): Promise<string> => (await inspect(name)).State.Status;
  await until(async () => (await status('always')) === 'running' && (await status('on-failure')) === 'running');
  expect(await status('unless-stopped')).toBe('exited');
  expect(await status('succeeded')).toBe('exited');
  expect(await status('no-policy')).toBe('exited');
  expect(await status('never-started')).toBe('created');
});

describe('attach with logs=1 and stream=1 to a container that has never run', () => {
  const attach = (name: string): ReturnType<typeof opened> =>
    opened(engine.socket, 'POST', `/containers/${name}/attach?logs=1&stream=1&stdout=1&stderr=1`);

  test('sends all output of the start that follows, and once', async () => {
    await ok('create', '--name', 'attached', 'busybox', 'sh', '-c', 'echo out; echo err >&2');
    const { answer } = await attach('attached');
    await ok('start', 'attached');
    expect(unframe((await answer).body)).toEqual({ 1: 'out\n', 2: 'err\n', rest: 0 });
  });

  test('is told that the log of driver none cannot be read', async () => {
    await ok('create', '--name', 'no-log', '--log-driver', 'none', 'busybox', 'true');
    const { answer } = await attach('no-log');
    expect(unframe((await answer).body)[1]).toBe(
      'Error attaching: configured logging driver does not support reading\n',
    );
  });
});

describe('exec', () => {
  interface ExecInspect {
    Running: boolean;
    ExitCode: number | null;
    Pid: number;
  }

  beforeAll(() => ok('run', '-d', '--name', 'host', 'busybox', 'sleep', '1000'));

  const create = async (config: object): Promise<string> => {
    const { json } = await engine.api('POST', '/containers/host/exec', { AttachStdout: true, ...config });
    return (json as { Id: string }).Id;
  };
  const inspectExec = async (id: string): Promise<ExecInspect> =>
    (await engine.api('GET', `/exec/${id}/json`)).json as ExecInspect;

  test('with a ConsoleSize: the process sees the size from its beginning', async () => {
    for (let round = 0; round < 10; round++) {
      const id = await create({ Cmd: ['stty', 'size'], Tty: true, ConsoleSize: [33, 107] });
      const { text } = await engine.api('POST', `/exec/${id}/start`, { Tty: true, ConsoleSize: [33, 107] });
      expect(text).toBe('33 107\r\n');
    }
  });

  test('detached, with a missing command: 400 with the text of the runtime', async () => {
    const id = await create({ Cmd: ['/nope'], AttachStdout: false });
    const { status, json } = await engine.api('POST', `/exec/${id}/start`, { Detach: true });
    expect({ status, json }).toEqual({
      status: 400,
      json: {
        message:
          'OCI runtime exec failed: exec failed: unable to start container process: exec: "/nope": ' +
          'stat /nope: no such file or directory: unknown',
      },
    });
    expect(await inspectExec(id)).toMatchObject({ Running: false, ExitCode: 127, Pid: 0 });
  });

  test('detached, with a file that is not executable: 400, code 126', async () => {
    const id = await create({ Cmd: ['/etc/passwd'], AttachStdout: false });
    const { status, json } = await engine.api('POST', `/exec/${id}/start`, { Detach: true });
    expect({ status, json }).toMatchObject({
      status: 400,
      json: { message: expect.stringContaining('permission denied') as string },
    });
    expect(await inspectExec(id)).toMatchObject({ Running: false, ExitCode: 126 });
  });

  test('keeps its pid after its end', async () => {
    const id = await create({ Cmd: ['sleep', '0.2'] });
    await engine.api('POST', `/exec/${id}/start`, { Detach: true });
    const { Pid } = await inspectExec(id);
    expect(Pid).toBeGreaterThan(0);
    await until(async () => !(await inspectExec(id)).Running);
    expect(await inspectExec(id)).toMatchObject({ ExitCode: 0, Pid });
  });

  test('its resize after the death of the container: 409', async () => {
    const id = await create({ Cmd: ['true'], Tty: true });
    await engine.api('POST', `/exec/${id}/start`, { Tty: true });
    const { Id } = await inspect('host');
    await ok('kill', 'host');
    const { status, json } = await engine.api('POST', `/exec/${id}/resize?h=10&w=10`);
    expect({ status, json }).toEqual({ status: 409, json: { message: `container ${Id} is not running` } });
  });
});

// cgroup v2 has no such switch.
test.runIf(isV1)('an OOM without a killer: an oom event, and the container waits', async () => {
  const since = String(Date.now() / 1000);
  // By writing to its own memory: a system call that finds none fails instead of waiting.
  const OUTGROW = 'x=12345678; while :; do x=$x$x; done';
  const limits = ['-m', '8M', '--memory-swap', '8M', '--oom-kill-disable'];
  await ok('run', '-d', '--name', 'starving', ...limits, 'busybox', 'sh', '-c', OUTGROW);
  await until(async () => (await inspect('starving')).State.OOMKilled);
  expect((await inspect('starving')).State.Status).toBe('running');
  const now = String(Date.now() / 1000 + 1);
  const filters = ['--filter', 'container=starving', '--filter', 'event=oom', '--format', '{{.Action}}'];
  expect(await ok('events', '--since', since, '--until', now, ...filters)).toBe('oom');
  await ok('kill', 'starving');
});
