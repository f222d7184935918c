/**
 * Client sessions and processes that outlive the daemon in which they began: waits, execs, attached terminals, and a
 * log line of which only half was written.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { opened } from '../support/http.ts';
import { isDead } from '../support/processes.ts';
import { journalOf, shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { inspect, ok } = dockerOf<{ Id: string; State: { Running: boolean; Pid: number } }>(() => engine);
const ENDS = { SIGTERM: () => engine.stop(), SIGKILL: () => engine.kill9() };
const ends = Object.keys(ENDS) as (keyof typeof ENDS)[];
const DEADLINE_MS = 60_000;

interface Exec {
  Running: boolean;
  ExitCode: number | null;
}
const execOf = async (id: string): Promise<Exec> => (await engine.api('GET', `/exec/${id}/json`)).json as Exec;

describe.each(ends)('over %s and a new start', (end) => {
  const restart = async (): Promise<void> => {
    await ENDS[end]();
    await engine.startAgain();
  };

  test('waits return the true code, also one that is asked for while no daemon runs [wait-across-restart]', async () => {
    const id = await ok('run', '-d', 'busybox', 'sh', '-c', 'while [ ! -e /die ]; do usleep 20000; done; exit 7');
    const waits = await Promise.all(
      ['not-running', 'next-exit', 'removed'].map((condition) =>
        opened(engine.socket, 'POST', `/containers/${id}/wait?condition=${condition}`),
      ),
    );
    await ENDS[end]();
    const queued = engine.docker('wait', id);
    await engine.startAgain();
    engine.writeInto(id, 'die', '');
    expect(await queued.result).toMatchObject({ stdout: '7\n', exitCode: 0 });
    await ok('rm', id);
    const got = await Promise.all(waits.map(({ answer }) => answer));
    expect(got.map(({ json }) => json)).toMatchObject([{ StatusCode: 7 }, { StatusCode: 7 }, { StatusCode: 7 }]);
  });

  test('an exec is known, runs on, and its code and output arrive [exec-across-restart]', async () => {
    const name = await ok('run', '-d', 'busybox', 'sleep', '9999');
    const create = async (script: string): Promise<string> => {
      const body = { Cmd: ['sh', '-c', script], AttachStdout: true };
      return ((await engine.api('POST', `/containers/${name}/exec`, body)).json as { Id: string }).Id;
    };
    const [running, unstarted, ended] = [
      await create('while [ ! -e /end ]; do usleep 20000; done; exit 9'),
      await create('exit 3'),
      await create('exit 4'),
    ];
    for (const id of [running, ended]) await engine.api('POST', `/exec/${id}/start`, { Detach: true });
    await until(async () => (await execOf(ended)).ExitCode === 4, DEADLINE_MS);
    expect(await execOf(running)).toMatchObject({ Running: true, ExitCode: null });
    await restart();
    expect(await execOf(running)).toMatchObject({ Running: true, ExitCode: null });
    expect(await execOf(ended)).toMatchObject({ Running: false, ExitCode: 4 });
    expect(await execOf(unstarted)).toMatchObject({ Running: false, ExitCode: null });
    engine.writeInto(name, 'end', '');
    await until(async () => !(await execOf(running)).Running, DEADLINE_MS);
    expect((await execOf(running)).ExitCode).toBe(9);
    expect(await engine.dockerOutput('exec', name, 'echo', 'new')).toBe('new\n');
    await ok('rm', '-f', name);
  });

  test('a terminal echoes, is resized, detaches by its keys and ends by Ctrl-D [attach-after-restart]', async () => {
    const id = await ok('run', '-dit', 'busybox', 'sh');
    await restart();
    const terminal = engine.terminal('attach', id);
    terminal.stdin.write('echo here-$((40+2))\n');
    await until(() => terminal.stdout().includes('here-42'), DEADLINE_MS);
    expect((await engine.api('POST', `/containers/${id}/resize?h=31&w=117`)).status).toBe(200);
    await until(() => {
      terminal.stdin.write('stty size\n');
      return new Promise<boolean>((resolve) => setTimeout(() => resolve(terminal.stdout().includes('31 117')), 200));
    }, DEADLINE_MS);
    terminal.stdin.write('\x10\x11');
    expect((await terminal.result).stdout).toContain('read escape sequence');
    expect((await inspect(id)).State.Running).toBe(true);
    const again = engine.terminal('attach', id);
    again.stdin.write('echo back-$((1+1))\n');
    await until(() => again.stdout().includes('back-2'), DEADLINE_MS);
    again.stdin.write('\x04');
    expect((await again.result).exitCode).toBe(0);
    await until(async () => !(await inspect(id)).State.Running, DEADLINE_MS);
    await ok('rm', id);
  });

  test('standard input ends where its client ends it, also one that attached later [stdin-after-restart]', async () => {
    const id = await ok('create', '-i', 'busybox', 'sh', '-c', 'cat; echo ended');
    await ok('start', id);
    await restart();
    const client = engine.docker('attach', id);
    client.stdin.write('one\n');
    await until(() => client.stdout().includes('one'), DEADLINE_MS);
    client.stdin.end();
    expect(await client.result).toMatchObject({ stdout: 'one\nended\n', exitCode: 0 });
    await ok('rm', id);
  });
});

test('a line whose halves were written before and after the daemons were replaced is one line [half-line]', async () => {
  const id = await ok(
    ...['run', '-d', 'busybox', 'sh', '-c'],
    'printf first; while [ ! -e /go ]; do usleep 20000; done; echo " second"; exec sleep 9999',
  );
  const saved = Buffer.from('first').toString('base64');
  const unfinished = join(dirname(journalOf(engine, id)), `${id}-json.log.partial`);
  await until(() => existsSync(unfinished) && readFileSync(unfinished, 'utf8').includes(saved), DEADLINE_MS);
  await engine.kill9();
  const shim = shimOf(engine, id);
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim));
  await engine.startAgain();
  engine.writeInto(id, 'go', '');
  await until(async () => (await engine.dockerOutput('logs', id)) === 'first second\n', DEADLINE_MS);
  await ok('rm', '-f', id);
});
