/**
 * Holdfast is upgraded under running containers: their shims are of an earlier release than the daemon, the programs on
 * disk are newer than the daemon that runs, the runtime or the shim's program is gone.
 */
import { chmodSync, copyFileSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { HOLDFASTD, startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { copyRelease, releaseWithShimOf, type Release } from '../support/releases.ts';
import { recordsOf, shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

interface Inspected {
  Id: string;
  RestartCount: number;
  State: {
    Status: string;
    Pid: number;
    ExitCode: number;
    StartedAt: string;
    Health?: { Status: string; Log: { Start: string }[] };
  };
}

const DEADLINE_MS = 60_000;
const TICK = 'n=0; while [ ! -e /die ]; do n=$((n+1)); echo $n; usleep 50000; done; exit 7';

let engine: TestEngine | undefined;
let release: Release | undefined;
afterEach(async () => {
  await engine?.[Symbol.asyncDispose]();
  release?.[Symbol.dispose]();
  [engine, release] = [undefined, undefined];
});

const { inspect, ok } = dockerOf<Inspected>(() => engine!);

/** The hash of the program of the shim that has adopted the container last. */
function bundleOf(id: string): string {
  const adopted = recordsOf(engine!, id).findLast((record) => record.type === 'adopted');
  return adopted?.type === 'adopted' ? adopted.bundle : '';
}

const lines = async (name: string): Promise<number> => (await ok('logs', name)).split('\n').length;

async function expectLogging(name: string): Promise<void> {
  const before = await lines(name);
  await until(async () => (await lines(name)) > before + 5, DEADLINE_MS);
}

test('a new daemon works with shims of an earlier release, which keep their program [old-shims]', async () => {
  release = releaseWithShimOf('2026-11-26');
  engine = await startEngine({ program: release.program });
  const probe = ['--health-cmd', 'true', '--health-interval', '1s'];
  await ok('run', '-d', '--name', 'ticks', ...probe, '--restart', 'on-failure:3', 'busybox', 'sh', '-c', TICK);
  await ok('run', '-dit', '--name', 'shell', 'busybox', 'sh');
  await ok('run', '-d', '--name', 'frozen', 'busybox', 'sleep', '9999');
  await ok('pause', 'frozen');
  const foreground = engine.docker(
    'run',
    '--rm',
    '-i',
    '--name',
    'session',
    'busybox',
    'sh',
    '-c',
    'read l; echo $l; exit 5',
  );
  await until(async () => (await engine!.docker('top', 'session').result).exitCode === 0, DEADLINE_MS);
  const before = new Map<string, Inspected>();
  for (const name of ['ticks', 'shell', 'frozen']) before.set(name, await inspect(name));
  const old = bundleOf(before.get('ticks')!.Id);
  const wait = engine.docker('wait', 'frozen');

  await engine.stop();
  engine.program = HOLDFASTD;
  await engine.startAgain();
  for (const [name, { State }] of before)
    expect((await inspect(name)).State, name).toMatchObject({ Pid: State.Pid, StartedAt: State.StartedAt });
  foreground.stdin.write('typed\n');
  expect(await foreground.result).toMatchObject({ stdout: 'typed\n', exitCode: 5 });
  await expectLogging('ticks');
  expect(await engine.dockerOutput('exec', 'ticks', 'echo', 'in it')).toBe('in it\n');
  const exec = engine.terminal('exec', '-it', 'shell', 'sh', '-c', 'read l; echo got-$l');
  exec.stdin.write('it\n');
  await until(() => exec.stdout().includes('got-it'), DEADLINE_MS);
  const attached = engine.terminal('attach', 'shell');
  attached.stdin.write('echo here-$((40+2))\n');
  await until(() => attached.stdout().includes('here-42'), DEADLINE_MS);
  expect((await engine.api('POST', '/containers/shell/resize?h=20&w=90')).status).toBe(200);
  await ok('unpause', 'frozen');
  await ok('pause', 'frozen');
  await ok('unpause', 'frozen');
  await ok('update', '--restart', 'no', 'frozen');
  await ok('rename', 'frozen', 'thawed');
  await ok('stop', '-t', '0', 'thawed');
  expect((await wait.result).stdout).toBe('137\n');
  await ok('start', 'thawed');
  const probed = (await inspect('ticks')).State.Health!.Log.at(-1)!.Start;
  await until(async () => (await inspect('ticks')).State.Health!.Log.at(-1)!.Start !== probed, DEADLINE_MS);
  // By its policy, and by a client: the shim stays the old one.
  engine.writeInto(before.get('ticks')!.Id, 'die', '');
  await until(async () => (await inspect('ticks')).RestartCount >= 1, DEADLINE_MS);
  await ok('restart', '-t', '0', 'ticks');
  await ok('kill', 'shell');
  await attached.result;
  expect([bundleOf(before.get('ticks')!.Id), bundleOf(before.get('shell')!.Id)]).toEqual([old, old]);
  // A killed one is followed by a new one, which reads what the old one left.
  const { Id, State } = await inspect('thawed');
  const shim = shimOf(engine, Id);
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim) && shimOf(engine!, Id) !== shim, DEADLINE_MS);
  await ok('exec', 'thawed', 'true');
  expect((await inspect('thawed')).State).toMatchObject({ Status: 'running', Pid: State.Pid });
  expect(bundleOf(Id)).not.toBe(old);
  await ok('rm', '-f', 'ticks', 'shell', 'thawed');
}, 240_000);

test('a daemon whose programs were replaced on disk starts containers with its own shims [new-programs]', async () => {
  release = copyRelease();
  engine = await startEngine({ program: release.program });
  const first = await ok('run', '-d', 'busybox', 'sleep', '9999');
  for (const file of ['holdfastd.cjs', 'daemon.cjs', 'shim/shim.cjs'])
    writeFileSync(join(release.dist, file), "throw new Error('of another release');\n");
  // More than are kept warm.
  const later: string[] = [];
  for (let i = 0; i < 4; i++) later.push(await ok('run', '-d', 'busybox', 'sleep', '9999'));
  const shim = shimOf(engine, first);
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim) && shimOf(engine!, first) !== shim, DEADLINE_MS);
  expect(await engine.dockerOutput('exec', first, 'echo', 'fine')).toBe('fine\n');
  expect(new Set([first, ...later].map(bundleOf)).size).toBe(1);
  await engine.stop();
  engine.program = HOLDFASTD;
  await engine.startAgain();
  for (const id of [first, ...later]) expect((await inspect(id)).State.Status).toBe('running');
  await ok('rm', '-f', first, ...later);
});

test('a runtime that is gone touches no running container, and fails the next start [runtime-gone]', async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'holdfast-runtime-'));
  const runtime = join(scratch, 'runtime');
  copyFileSync(execFileSync('sh', ['-c', 'command -v runc'], { encoding: 'utf8' }).trim(), runtime);
  chmodSync(runtime, 0o755);
  try {
    engine = await startEngine({ flags: ['--add-runtime', `mine=${runtime}`] });
    const run = (name: string): Promise<string> =>
      ok('run', '-d', '--name', name, '--runtime', 'mine', 'busybox', 'sh', '-c', TICK);
    const [ticks, stops] = [await run('ticks'), await run('stops')];
    const { Pid } = (await inspect('ticks')).State;
    renameSync(runtime, `${runtime}.away`);
    for (const restart of [false, true]) {
      if (restart) {
        await engine.kill9();
        const shim = shimOf(engine, ticks);
        process.kill(shim, 'SIGKILL');
        await until(() => isDead(shim));
        await engine.startAgain();
      }
      expect((await inspect('ticks')).State).toMatchObject({ Status: 'running', Pid });
      await expectLogging('ticks');
      // As with dockerd, the reason is the output of an attached exec.
      const { stdout, exitCode } = await engine.docker('exec', 'ticks', 'true').result;
      expect(stdout).toContain(runtime);
      expect(exitCode).not.toBe(0);
    }
    // A stop needs no runtime.
    await ok('stop', '-t', '0', 'stops');
    expect((await inspect('stops')).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
    expect(await engine.dockerRefusal('start', 'stops')).toContain(runtime);
    expect((await inspect('ticks')).State).toMatchObject({ Status: 'running', Pid });
    renameSync(`${runtime}.away`, runtime);
    await ok('exec', 'ticks', 'true');
    await ok('start', 'stops');
    expect((await inspect('stops')).State.Status).toBe('running');
    await ok('rm', '-f', ticks, stops);
  } finally {
    await engine?.[Symbol.asyncDispose]();
    engine = undefined;
    rmSync(scratch, { recursive: true });
  }
});

test("a shim's program that is gone touches no running container, and the next daemon puts it back [shim-gone]", async () => {
  engine = await startEngine({ flags: ['--warm-shims', '0'] });
  const id = await ok('run', '-d', '--name', 'ticks', 'busybox', 'sh', '-c', TICK);
  const { Pid } = (await inspect('ticks')).State;
  const store = join(engine.root, 'data', 'shims');
  for (const name of readdirSync(store).filter((entry) => /^[0-9a-f]{16}$/.test(entry)))
    rmSync(join(store, name), { recursive: true });
  await expectLogging('ticks');
  await ok('exec', 'ticks', 'true');
  expect(await engine.dockerRefusal('run', '-d', 'busybox', 'true')).toContain('shim');
  // Without a successor it runs on, and gets one as soon as there can be one.
  const shim = shimOf(engine, id);
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim));
  expect((await inspect('ticks')).State).toMatchObject({ Status: 'running', Pid });
  await engine.stop();
  await engine.startAgain();
  await until(async () => (await engine!.docker('exec', 'ticks', 'true').result).exitCode === 0, DEADLINE_MS);
  expect((await inspect('ticks')).State).toMatchObject({ Status: 'running', Pid });
  await expectLogging('ticks');
  await ok('rm', '-f', 'ticks');
});
