import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { procStat } from '../../src/sys/process.ts';
import { bundleShim } from '../support/bundles.ts';
import { isDead } from '../support/processes.ts';
import { HEAD, RefusedByShim } from '../support/shim-connection.ts';
import { TestContainer, type ContainerOptions } from '../support/shim-container.ts';
import { until } from '../support/until.ts';

const bundles = mkdtempSync(join(tmpdir(), 'hb-'));
let bundle: string;
beforeAll(async () => void (bundle = await bundleShim(bundles)), 60_000);
afterAll(() => rmSync(bundles, { recursive: true, force: true }));

const container = (script: string, more: Partial<ContainerOptions> = {}): TestContainer =>
  new TestContainer(bundle, { command: ['sh', '-c', script], ...more });
const OBEDIENT = 'trap "exit 3" TERM; echo up; while :; do usleep 20000; done';
const STUBBORN = 'trap "" TERM; echo up; while :; do usleep 20000; done';
const CAT = 'cat; exit 5';
const up = (c: TestContainer): Promise<unknown> => until(() => c.log.includes('up'));

describe('a run', { timeout: 30_000 }, () => {
  test('is recorded from creation to end, and then the shim exits', async () => {
    await using c = container('echo hello; exit 7');
    const ctl = await c.adopt();
    const { gen } = await ctl.ask<'create'>({ op: 'create', operation: 'a' });
    const { pid } = await ctl.ask<'start'>({ op: 'start', operation: 'a' });
    expect(gen).toBe(1);
    await c.until('final');
    expect(c.types).toEqual(['adopted', 'creating', 'created', 'started', 'exited', 'final']);
    expect(c.find('exited')[0]).toMatchObject({ code: 7, signal: 0, oomKilled: false, gen: 1 });
    expect(c.find('started')[0]).toMatchObject({ pid, operation: 'a' });
    expect(c.log).toBe('hello\n');
    await c.shimEnds();
  });

  test.each([0, 1, 2, 125, 126, 127, 128, 137, 200, 255])('reports exit code %i', async (code) => {
    await using c = container(`exit ${code}`);
    await c.start(await c.adopt());
    expect(await c.until('exited')).toMatchObject({ code, signal: 0 });
  });

  // In the host's PID namespace: in its own, the kernel shields an init from signals that it does not handle.
  test.each([
    [9, 137],
    [6, 134],
    [11, 139],
    [15, 143],
  ])('reports death by signal %i as exit code %i', async (signal, code) => {
    await using c = container('echo up; exec sleep 100', { hostPid: true });
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    await sleep(50);
    await ctl.ask<'signal'>({ op: 'signal', operation: 'k', signal, asUser: true });
    expect(await c.until('exited')).toMatchObject({ code, signal });
  });

  test('of a missing command fails with 127 in the words of runc and dockerd, and leaves nothing', async () => {
    await using c = new TestContainer(bundle, { command: ['nope'] });
    const ctl = await c.adopt();
    const error = await c.start(ctl).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(RefusedByShim);
    expect((error as RefusedByShim).refusal).toEqual({
      kind: 'failed',
      code: 127,
      message:
        'failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown',
    });
    expect(c.types).toEqual(['adopted', 'creating', 'failed', 'final']);
    await c.shimEnds();
  });

  test('of a directory fails with 126', async () => {
    await using c = new TestContainer(bundle, { command: ['/etc/notexec'] });
    const error = await c.start(await c.adopt()).catch((e: unknown) => e);
    expect((error as RefusedByShim).refusal.code).toBe(126);
  });

  test('abandoned between create and start has failed, and the init is gone', async () => {
    await using c = container('echo never');
    const ctl = await c.adopt();
    const { pid } = await ctl.ask<'create'>({ op: 'create', operation: 'a' });
    await ctl.ask<'abandon'>({ op: 'abandon', operation: 'a', error: 'no network', code: 128 });
    expect(isDead(pid)).toBe(true);
    expect(c.types).toEqual(['adopted', 'creating', 'created', 'failed', 'final']);
    await ctl.ask<'abandon'>({ op: 'abandon', operation: 'a', error: 'no network', code: 128 });
    await c.start(ctl, 'b');
    await c.until('exited');
    expect(c.find('exited')[0]!.gen).toBe(2);
  });

  test('joins namespaces of the requested process, never of another with its PID', async () => {
    const own = procStat(process.pid)!.startTime;
    await using c = container('echo up', { spec: { donors: [{ pid: process.pid, startTime: own }] } });
    const ctl = await c.adopt();
    await c.start(ctl);
    await c.until('final');
    c.o.spec = { donors: [{ pid: process.pid, startTime: String(Number(own) - 1) }] };
    c.writeSpec();
    await expect(ctl.ask<'create'>({ op: 'create', operation: 'b' })).rejects.toThrow(
      'failed to join namespaces: the joined container is not running',
    );
    expect(c.find('failed')).toHaveLength(1);
  });

  test('fails to start when its init dies before the start', async () => {
    await using c = container('echo never');
    const ctl = await c.adopt();
    const { pid } = await ctl.ask<'create'>({ op: 'create', operation: 'a' });
    process.kill(pid, 'SIGKILL');
    await c.until('failed');
    await expect(ctl.ask<'start'>({ op: 'start', operation: 'a' })).rejects.toThrow(RefusedByShim);
    expect(c.types).toContain('final');
  });

  test('works with a terminal', async () => {
    await using c = container('stty size; test -t 1 && echo tty', { terminal: true, spec: { consoleSize: [33, 77] } });
    await c.start(await c.adopt());
    await c.until('final');
    expect(c.log).toBe('33 77\r\ntty\r\n');
  });

  test('killed by the OOM killer is recorded so before its end', async () => {
    await using c = container('x=; while :; do x=$x$x$(seq 1 10000); done', { memory: 16 << 20 });
    await c.start(await c.adopt());
    await c.until('final', 20_000);
    expect(c.find('exited')[0]).toMatchObject({ oomKilled: true });
    expect(c.types.slice(-3)).toEqual(['oom', 'exited', 'final']);
  });

  test('listens on its ports meanwhile, and refuses connections', async () => {
    const free = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => free.once('listening', resolve));
    const { port } = free.address() as { port: number };
    await using c = container(OBEDIENT, { spec: { ports: [{ protocol: 'tcp', address: '127.0.0.1', port }] } });
    const ctl = await c.adopt();
    const error = (await c.start(ctl).catch((e: unknown) => e)) as RefusedByShim;
    expect(error.refusal.message).toMatch(/failed to bind host port for 127\.0\.0\.1:\d+: address already in use/);
    await new Promise((resolve) => free.close(resolve));
    await c.start(ctl);
    const second = createServer();
    const outcome = await new Promise((resolve) =>
      second
        .once('error', (e: NodeJS.ErrnoException) => resolve(e.code))
        .listen(port, '127.0.0.1', () => resolve('taken')),
    );
    expect(outcome).toBe('EADDRINUSE');
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 9, timeout: 0 });
    await new Promise<void>((resolve, reject) => second.once('error', reject).listen(port, '127.0.0.1', resolve));
    second.close();
  });
});

describe('stopping', { timeout: 30_000 }, () => {
  test('sends the stop signal and reports the container’s own code', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 10 });
    expect(c.types.slice(4)).toEqual(['stopping', 'killed', 'exited', 'final', 'stopped']);
    expect(c.find('exited')[0]).toMatchObject({ code: 3, signal: 0 });
    expect(c.find('final')[0]).toMatchObject({ user: true });
  });

  test('sends SIGKILL after the timeout, even without a daemon', async () => {
    await using c = container(STUBBORN);
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    const before = Date.now();
    ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 1 }).catch(() => {});
    await sleep(100);
    ctl.socket.destroy();
    await c.until('stopped');
    expect(Date.now() - before).toBeGreaterThan(950);
    expect(Date.now() - before).toBeLessThan(2500);
    expect(c.find('killed').map((r) => r.signal)).toEqual([15, 9]);
    expect(c.find('exited')[0]).toMatchObject({ code: 137, signal: 9 });
  });

  test('a second time without a timeout ends a long first stop', async () => {
    await using c = container(STUBBORN);
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    const first = ctl.ask<'stop'>({ op: 'stop', operation: 's1', signal: 15, timeout: 60 });
    await ctl.ask<'stop'>({ op: 'stop', operation: 's2', signal: 15, timeout: 0 });
    await first;
    expect(
      c
        .find('stopped')
        .map((r) => r.operation)
        .sort(),
    ).toEqual(['s1', 's2']);
  });

  test('fails for a container that does not run', async () => {
    await using c = container('true');
    const ctl = await c.adopt();
    await expect(ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 1 })).rejects.toThrow(
      `container ${c.id} is not running`,
    );
    await expect(ctl.ask<'signal'>({ op: 'signal', operation: 's', signal: 15, asUser: true })).rejects.toThrow(
      'is not running',
    );
  });

  test('works on a paused container', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    await ctl.ask<'pause'>({ op: 'pause', operation: 'p' });
    await expect(ctl.ask<'pause'>({ op: 'pause', operation: 'p' })).rejects.toThrow('already paused');
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 5 });
    expect(c.find('exited')[0]).toMatchObject({ code: 3 });
    expect(c.types).toEqual(expect.arrayContaining(['paused', 'resumed', 'stopped']));
  });

  test('as part of a restart is one operation in the same generation count', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    const first = await c.start(ctl);
    await up(c);
    await ctl.ask<'restart'>({ op: 'restart', operation: 'r', signal: 15, timeout: 5 });
    expect(c.types.slice(4)).toEqual(['stopping', 'killed', 'exited', 'creating', 'created', 'started', 'restarted']);
    expect(c.find('started').map((r) => [r.gen, r.operation])).toEqual([
      [1, 'op-start'],
      [2, 'r'],
    ]);
    expect(c.find('started')[1]!.pid).not.toBe(first);
    await ctl.ask<'signal'>({ op: 'signal', operation: 'k', signal: 9, asUser: true });
    await c.until('final');
  });

  test('at host shutdown happens in time, without restart, and does not count as stopped by a user', async () => {
    await using c = container(OBEDIENT, { spec: { restart: { name: 'always', maximumRetryCount: 0 } } });
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    c.shim!.kill('SIGTERM');
    await c.shimEnds();
    expect(c.types.slice(4)).toEqual(['shutdown', 'killed', 'exited', 'final']);
    expect(c.find('final')[0]).toMatchObject({ user: false });
  });
});

describe('the restart policy', { timeout: 30_000 }, () => {
  test('on-failure:2 starts twice more with its back-off, without a daemon [on-failure-alone]', async () => {
    await using c = container('exit 4', { spec: { restart: { name: 'on-failure', maximumRetryCount: 2 } } });
    const ctl = await c.adopt();
    await c.start(ctl);
    ctl.socket.destroy();
    await c.until('final');
    expect(c.find('restarting').map((r) => r.count)).toEqual([1, 2]);
    expect(c.find('restarting').map((r) => Number((BigInt(r.at) - BigInt(r.wall)) / 1_000_000n))).toEqual([100, 200]);
    expect(c.find('exited').map((r) => [r.gen, r.code])).toEqual([
      [1, 4],
      [2, 4],
      [3, 4],
    ]);
    await c.shimEnds();
  });

  test('ends when the container is stopped during the back-off', async () => {
    await using c = container('exit 1', { spec: { restart: { name: 'always', maximumRetryCount: 0 } } });
    const ctl = await c.adopt();
    await c.start(ctl);
    await until(() => c.find('restarting').length >= 4);
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 1 });
    expect(c.types.slice(-3)).toEqual(['stopping', 'final', 'stopped']);
    await c.shimEnds();
    expect(c.types.at(-1)).toBe('stopped');
  });

  test('is turned off by a kill, not by another signal', async () => {
    await using c = container(OBEDIENT, { spec: { restart: { name: 'always', maximumRetryCount: 0 } } });
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    await ctl.ask<'signal'>({ op: 'signal', operation: 'k', signal: 15, asUser: false });
    await until(() => c.find('started').length === 2);
    await sleep(100);
    await ctl.ask<'signal'>({ op: 'signal', operation: 'k', signal: 9, asUser: true });
    await c.until('final');
    expect(c.find('final')[0]).toMatchObject({ user: true });
  });

  test('ends with a failed start when the container cannot be created again', async () => {
    await using c = container('exit 1', { spec: { restart: { name: 'always', maximumRetryCount: 0 } } });
    const ctl = await c.adopt();
    await c.start(ctl);
    await c.until('exited');
    rmSync(join(c.run, 'rootfs/bin'), { recursive: true });
    await c.until('final');
    expect(c.find('failed')[0]).toMatchObject({ code: 127 });
  });
});

describe('clients', { timeout: 30_000 }, () => {
  test('attached get the head first, then framed output, and EOF after the exit is recorded', async () => {
    await using c = container('echo out; echo err >&2');
    const ctl = await c.adopt();
    const client = await c.attach(ctl);
    await until(() => client.text === HEAD);
    await c.start(ctl);
    await until(() => client.ended);
    expect(c.types).toContain('exited');
    expect(client.unframed).toContain('out\n');
    expect(client.unframed).toContain('err\n');
  });

  test('write to stdin and close it', async () => {
    await using c = container(CAT, { spec: { openStdin: true, stdinOnce: true } });
    const ctl = await c.adopt();
    const client = await c.attach(ctl, { stdin: true });
    await c.start(ctl);
    client.socket.end('through\n');
    await until(() => client.ended);
    expect(client.unframed).toBe('through\n');
    expect(c.find('exited')[0]).toMatchObject({ code: 5 });
  });

  test('waiting get the exit code, each in its condition, without a daemon', async () => {
    await using c = container('usleep 300000; exit 6', { spec: { autoRemove: true } });
    const ctl = await c.adopt();
    const next = await c.wait(ctl, 'next-exit');
    const removed = await c.wait(ctl, 'removed');
    await c.start(ctl);
    const notRunning = await c.wait(ctl, 'not-running');
    ctl.socket.destroy();
    await until(() => next.ended && notRunning.ended && removed.ended);
    for (const client of [next, notRunning, removed]) expect(client.text).toBe(`${HEAD}{"StatusCode":6}\n`);
  });

  test('waiting for the removal are answered by a connected daemon', async () => {
    await using c = container('exit 2', { spec: { autoRemove: true } });
    const ctl = await c.adopt();
    const removed = await c.wait(ctl, 'removed');
    await c.start(ctl);
    await c.until('final');
    await sleep(800);
    expect(removed.text).toBe(HEAD);
    await ctl.ask<'removed'>({ op: 'removed' });
    await until(() => removed.ended);
    expect(removed.text).toBe(`${HEAD}{"StatusCode":2}\n`);
    await c.shimEnds();
  });

  test('waiting for the removal are answered when the daemon died after it', async () => {
    await using c = container('exit 2');
    const ctl = await c.adopt();
    const removed = await c.wait(ctl, 'removed');
    await c.start(ctl);
    await c.until('final');
    rmSync(c.dir, { recursive: true });
    ctl.socket.destroy();
    await until(() => removed.ended);
    expect(removed.text).toBe(`${HEAD}{"StatusCode":2}\n`);
    await c.shimEnds();
  });

  test('waiting get the code of a failed start', async () => {
    await using c = new TestContainer(bundle, { command: ['nope'] });
    const ctl = await c.adopt();
    const [next, attached] = [await c.wait(ctl, 'next-exit'), await c.attach(ctl)];
    await c.start(ctl).catch(() => {});
    await until(() => next.ended && attached.ended);
    expect(JSON.parse(next.text.slice(HEAD.length))).toEqual({ StatusCode: 127 });
  });

  test('that disconnect are forgotten; unclaimed connections are closed', async () => {
    await using c = container('usleep 300000');
    const ctl = await c.adopt();
    await c.start(ctl);
    (await c.wait(ctl, 'removed')).socket.destroy();
    const { client } = await c.handOver();
    ctl.socket.destroy();
    await until(() => client.ended);
    await c.shimEnds();
  });
});

describe('execs', { timeout: 30_000 }, () => {
  test('report output, then the exit code, and end after the record', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    await c.start(ctl);
    const { client, handed } = await c.handOver();
    const exec = c.exec(['sh', '-c', 'echo a; echo b >&2; cat; exit 9'], { attachStdin: true });
    const { pid } = await ctl.ask<'exec'>({
      op: 'exec',
      exec,
      client: handed,
      options: { stdin: true, stdout: true, stderr: true, stream: true, logs: false, framed: true, detachKeys: [] },
    });
    expect(pid).toBeGreaterThan(1);
    client.socket.end('in\n');
    await until(() => client.ended);
    expect(c.find('exec-exited')[0]).toMatchObject({ exec: exec.id, code: 9 });
    expect(client.text.startsWith(HEAD)).toBe(true);
    expect(client.unframed).toContain('in\n');
  });

  test('200 runs, 8 in parallel: every exit code is correct', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    await c.start(ctl);
    const codes = new Map<string, number>();
    const one = async (n: number): Promise<void> => {
      const exec = c.exec(['sh', '-c', `exit ${n}`]);
      codes.set(exec.id, n);
      await ctl.ask<'exec'>({ op: 'exec', exec });
    };
    for (let n = 0; n < 80; n += 8) await Promise.all(Array.from({ length: 8 }, (_, k) => one((n + k) * 3)));
    await until(() => c.find('exec-exited').length === 80);
    for (const r of c.find('exec-exited')) expect(r.code).toBe(codes.get(r.exec));
  });

  test('that cannot start tell an attached client why, and a detached one is refused', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    await c.start(ctl);
    const message =
      'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown';
    const detached = (await ctl
      .ask<'exec'>({ op: 'exec', exec: c.exec(['nope']) })
      .catch((e: unknown) => e)) as RefusedByShim;
    expect(detached.refusal).toEqual({ kind: 'failed', message, code: 127 });
    const { client, handed } = await c.handOver();
    await ctl.ask<'exec'>({
      op: 'exec',
      exec: c.exec(['nope']),
      client: handed,
      options: { stdin: false, stdout: true, stderr: true, stream: true, logs: false, framed: true, detachKeys: [] },
    });
    await until(() => client.ended);
    expect(client.unframed).toBe(`${message}\r\n`);
    expect(c.find('exec-failed').map((r) => r.code)).toEqual([127, 127]);
  });

  test('can have a terminal that is resized after the start', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    await c.start(ctl);
    const { client, handed } = await c.handOver();
    const exec = c.exec(['sh', '-c', 'read x; stty size'], { tty: true, attachStdin: true });
    await ctl.ask<'exec'>({
      op: 'exec',
      exec,
      client: handed,
      options: { stdin: true, stdout: true, stderr: true, stream: true, logs: false, framed: false, detachKeys: [] },
    });
    await ctl.ask<'exec-resize'>({ op: 'exec-resize', exec: exec.id, height: 11, width: 44 });
    client.socket.write('\n');
    await until(() => client.ended);
    expect(client.text).toContain('11 44');
  });

  test('die with the container and are recorded before it', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    const exec = c.exec(['sleep', '100']);
    await ctl.ask<'exec'>({ op: 'exec', exec });
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 5 });
    expect(c.find('exec-exited')[0]).toMatchObject({ exec: exec.id, code: 137 });
    expect(c.types.indexOf('exec-exited')).toBeLessThan(c.types.indexOf('exited'));
    await expect(ctl.ask<'exec'>({ op: 'exec', exec })).rejects.toThrow('is not running');
  });
});

describe('health checks', { timeout: 30_000 }, () => {
  const health = {
    argv: ['sh', '-c', 'echo probing; test -e /tmp/ok'],
    interval: 200,
    timeout: 1000,
    startPeriod: 0,
    startInterval: 100,
    retries: 2,
  };

  test('change to unhealthy after the retries and back to healthy, without a daemon', async () => {
    await using c = container(OBEDIENT, { spec: { health } });
    const ctl = await c.adopt();
    await c.start(ctl);
    ctl.socket.destroy();
    await until(() => c.find('health').some((r) => r.status === 'unhealthy'));
    expect(
      c
        .find('health')
        .slice(0, 3)
        .map((r) => [r.status, r.streak]),
    ).toEqual([
      ['starting', 0],
      ['starting', 1],
      ['unhealthy', 2],
    ]);
    expect(c.find('health')[1]!.probe).toMatchObject({ exitCode: 1, output: 'probing\n' });
    await (await c.connect()).ask<'exec'>({ op: 'exec', exec: c.exec(['touch', '/tmp/ok']) });
    await until(() => c.find('health').at(-1)!.status === 'healthy');
  });

  test('kill and record a probe that hangs', async () => {
    await using c = container(OBEDIENT, {
      spec: { health: { ...health, argv: ['sh', '-c', 'echo waiting; sleep 50'], timeout: 300 } },
    });
    const ctl = await c.adopt();
    await c.start(ctl);
    const probe = await until(() => c.find('health').find((r) => r.probe)?.probe);
    expect(probe).toMatchObject({ exitCode: -1, output: 'Health check exceeded timeout (300ms): waiting\n' });
  });
});
