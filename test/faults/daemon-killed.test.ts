/**
 * kill -9 of the daemon under twelve containers; it is away, things happen meanwhile, it comes back: nothing was lost.
 * HOLDFAST_AWAY_SECONDS sets how long (60 by hand, 30 in CI).
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf, type Command } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { judgeLog, writerProgram } from '../support/numbered-writer.ts';

const AWAY_MS = Number(process.env.HOLDFAST_AWAY_SECONDS ?? 30) * 1000;
const STAMP_LIMIT_MS = Number(process.env.HOLDFAST_STAMP_MS ?? 100);
const LIST_LIMIT_MS = Number(process.env.HOLDFAST_LIST_MS ?? 1000);
/** How long a Node.js that does nothing takes to start where nothing else runs. */
const IDLE_START_MS = 150;
const WRITERS = ['w1', 'w2', 'w3', 'w4', 'w5'];
const PORT = 21_808;

interface Inspect {
  Id: string;
  State: {
    Status: string;
    Running: boolean;
    Pid: number;
    StartedAt: string;
    FinishedAt: string;
    ExitCode: number;
    Health?: { Status: string; FailingStreak: number };
  };
  RestartCount: number;
  LogPath: string;
}
interface DockerEvent {
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  timeNano: number;
}

/** How much slower this machine is now than one that has nothing else to do: the limits hold for such a one. */
function slowness(): number {
  const begun = Date.now();
  for (let i = 0; i < 3; i++) execFileSync(process.execPath, ['-e', '0']);
  return Math.max(1, (Date.now() - begun) / 3 / IDLE_START_MS);
}

let engine: TestEngine;
let slow = 1;
const before = new Map<string, Inspect>();
const after = new Map<string, Inspect>();
let killedAt = 0;
let backAt = 0;
let listMs = 0;
let listed: { Names: string[]; State: string }[] = [];
let events: DockerEvent[] = [];
let foreground: Command;
let attached: Command;
let execSession: Command;

const { inspect } = dockerOf<Inspect>(() => engine);
const run = async (name: string, ...args: string[]): Promise<void> => {
  const { exitCode, stderr } = await engine.docker('run', '-d', '--name', name, ...args).result;
  if (exitCode !== 0) throw new Error(`run ${name}: ${stderr}`);
};
// Containers are told through files in their own rootfs, by way of the host: no daemon is needed for it.
const tell = (name: string, file: string): void => engine.writeInto(before.get(name)!.Id, file, '');

beforeAll(async () => {
  engine = await startEngine();
  for (const name of WRITERS) await run(name, 'busybox', 'sh', '-c', writerProgram);
  await run('tty', '-it', 'busybox', 'sh');
  await run('execs', 'busybox', 'sleep', '10000');
  await run(
    'health',
    '--health-cmd',
    'test ! -e /sick',
    '--health-interval',
    '1s',
    '--health-retries',
    '2',
    'busybox',
    'sleep',
    '10000',
  );
  const mortal = 'while [ ! -e /die ]; do usleep 50000; done; rm -f /die; exit 7';
  await run('always', '--restart', 'always', 'busybox', 'sh', '-c', mortal);
  await run('on-failure', '--restart', 'on-failure:5', 'busybox', 'sh', '-c', mortal);
  await run('unless-stopped', '--restart', 'unless-stopped', 'busybox', 'sh', '-c', mortal);
  await run(
    'port',
    '-p',
    `127.0.0.1:${PORT}:80`,
    'busybox',
    'sh',
    '-c',
    mortal.replace('usleep 50000', "printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhere' | nc -l -p 80 -w 2"),
  );
  await run('quits', 'busybox', 'sh', '-c', mortal);
  foreground = engine.docker(
    'run',
    '--rm',
    '-i',
    '--name',
    'foreground',
    'busybox',
    'sh',
    '-c',
    'read line; echo "heard $line"; exit 9',
  );
  attached = engine.terminal('attach', 'tty');
  execSession = engine.docker('exec', '-i', 'execs', 'sh', '-c', 'read line; echo "exec heard $line"; exit 5');
  await until(
    async () =>
      (await engine.api('GET', '/containers/foreground/json')).status === 200 &&
      (await inspect('foreground')).State.Running,
  );
  await until(async () => (await inspect('health')).State.Health?.Status === 'healthy');
  await until(async () => ((await inspect('execs')) as Inspect & { ExecIDs: string[] | null }).ExecIDs?.length === 1);
  for (const name of [
    ...WRITERS,
    'tty',
    'execs',
    'health',
    'always',
    'on-failure',
    'unless-stopped',
    'port',
    'quits',
    'foreground',
  ])
    before.set(name, await inspect(name));

  slow = slowness();
  killedAt = Date.now();
  await engine.kill9();
  for (const name of ['always', 'on-failure', 'unless-stopped', 'quits']) tell(name, '/die');
  tell('health', '/sick');
  attached.stdin.write('echo typed-$((40+2))\n');
  execSession.stdin.write('away\n');
  foreground.stdin.write('nobody\n');
  await new Promise((resolve) => setTimeout(resolve, AWAY_MS));

  backAt = Date.now();
  // To hold the first list against the contract would take longer than to make it.
  await engine.startAgain({ HOLDFAST_CHECK_ANSWERS: undefined });
  listed = (await engine.api('GET', '/containers/json?all=1')).json as typeof listed;
  listMs = Date.now() - backAt;
  slow = Math.max(slow, slowness());
  for (const name of before.keys()) if (name !== 'foreground') after.set(name, await inspect(name));
  const until_ = Math.ceil(Date.now() / 1000);
  const text = (await engine.api('GET', `/events?since=${Math.floor(killedAt / 1000) - 1}&until=${until_}`)).text;
  events = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as DockerEvent);
}, 240_000);

afterAll(async () => engine?.[Symbol.asyncDispose]());

const eventsOf = (name: string, action: string): DockerEvent[] =>
  events.filter((e) => e.Actor.ID === before.get(name)!.Id && e.Action === action);
const happenedWhileAway = (e: DockerEvent): boolean => e.timeNano / 1e6 >= killedAt - 50 && e.timeNano / 1e6 <= backAt;

describe('the daemon is killed, stays away, and comes back', () => {
  test('a correct list is served soon after its start', () => {
    expect(listMs).toBeLessThan(LIST_LIMIT_MS * slow);
    const states = Object.fromEntries(listed.map((c) => [c.Names[0], c.State]));
    for (const name of WRITERS) expect(states[`/${name}`]).toBe('running');
    expect(states['/quits']).toBe('exited');
    expect(states['/foreground']).toBeUndefined();
  });

  test('whatever ran without an end is the same process', () => {
    for (const name of [...WRITERS, 'tty', 'execs', 'health', 'port']) {
      expect(after.get(name)!.State, name).toMatchObject({
        Running: true,
        Pid: before.get(name)!.State.Pid,
        StartedAt: before.get(name)!.State.StartedAt,
      });
    }
  });

  test('what exited meanwhile has its true code and time', () => {
    const { State } = after.get('quits')!;
    expect(State).toMatchObject({ Status: 'exited', ExitCode: 7 });
    expect(Date.parse(State.FinishedAt)).toBeGreaterThan(killedAt - 50);
    expect(Date.parse(State.FinishedAt)).toBeLessThan(backAt);
    expect(eventsOf('quits', 'die').map((e) => e.Actor.Attributes.exitCode)).toEqual(['7']);
    expect(eventsOf('quits', 'die').every(happenedWhileAway)).toBe(true);
  });

  test.each(['always', 'on-failure', 'unless-stopped'])('restart policy %s acted without a daemon', (name) => {
    expect(after.get(name)!.State).toMatchObject({ Status: 'running' });
    expect(after.get(name)!.State.Pid).not.toBe(before.get(name)!.State.Pid);
    expect(after.get(name)!.RestartCount).toBe(1);
    expect(eventsOf(name, 'die').filter(happenedWhileAway)).toHaveLength(1);
    expect(eventsOf(name, 'start').filter(happenedWhileAway)).toHaveLength(1);
  });

  test('a health check noticed the sickness without a daemon', () => {
    expect(after.get('health')!.State.Health?.Status).toBe('unhealthy');
    expect(after.get('health')!.State.Health!.FailingStreak).toBeGreaterThan(1);
    expect(eventsOf('health', 'health_status: unhealthy').filter(happenedWhileAway)).toHaveLength(1);
  });

  test('a foreground run, its --rm and its exit code went on', async () => {
    const { exitCode, stdout } = await foreground.result;
    expect(stdout).toBe('heard nobody\n');
    expect(exitCode).toBe(9);
    await until(async () => (await engine.api('GET', '/containers/foreground/json')).status === 404);
  });

  test('an exec session went on, and its code is known', async () => {
    const { exitCode, stdout } = await execSession.result;
    expect(stdout).toBe('exec heard away\n');
    expect(exitCode).toBe(5);
    expect(events.filter((e) => e.Action === 'exec_die' && e.Actor.Attributes.exitCode === '5')).toHaveLength(1);
  });

  test('an attached terminal went on', async () => {
    await until(() => attached.stdout().includes('typed-42'));
    attached.stdin.write('echo again-$((1+1))\n');
    await until(() => attached.stdout().includes('again-2'));
    attached.stdin.write('exit 3\n');
    await until(async () => (await inspect('tty')).State.ExitCode === 3);
  });

  test('the published port answers', async () => {
    await until(async () => (await engine.curl(`http://127.0.0.1:${PORT}/`).catch(() => '')) === 'here');
  });

  test('no line is missing, doubled or torn, and each is stamped when it was written', async () => {
    for (const name of WRITERS) tell(name, '/stop');
    for (const name of WRITERS) await until(async () => !(await inspect(name)).State.Running, 30_000);
    for (const name of WRITERS) {
      const verdict = judgeLog(before.get(name)!.LogPath, STAMP_LIMIT_MS * slow);
      expect(verdict.faults, name).toEqual([]);
      expect(verdict.lines, name).toBeGreaterThan((AWAY_MS / 1000) * 1000);
      expect(verdict.late, `${name}: worst ${verdict.worstMs} ms of ${verdict.lines} lines`).toBe(0);
    }
  });

  test('no shim outlives its container', async () => {
    for (const { Names } of listed) await engine.docker('rm', '-f', Names[0]!.slice(1)).result;
    await until(() => !existsSync(join(engine.execRoot, 'c')) || readdirSync(join(engine.execRoot, 'c')).length === 0);
    await until(() => engine.shims().length === 0);
  });
});
