/**
 * The disk of the data root is full for a while: containers are not blocked, no exit is lost, and the daemon survives.
 * The data root is a small tmpfs, because only a real file system returns ENOSPC at every write.
 */
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { isDead } from '../support/processes.ts';
import { recordsOf } from '../support/shims.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine({ dataBytes: 48 * 1024 * 1024 });
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const ballast = (): string => join(engine.root, 'data', 'ballast');
function fill(): void {
  for (const size of [1024 * 1024, 4096]) {
    try {
      for (;;) appendFileSync(ballast(), Buffer.alloc(size));
    } catch {
      continue;
    }
  }
}

const { inspect } = dockerOf<{
  Id: string;
  State: { Status: string; Pid: number; ExitCode: number };
}>(() => engine);

describe('a full disk', () => {
  test('drops and counts log lines without blocking the container, records an exit, and recovers [disk-full-log]', async () => {
    await engine.dockerOutput(
      ...['run', '-d', '--name', 'writer'],
      ...['busybox', 'sh', '-c', 'n=0; while :; do n=$((n+1)); echo $n; usleep 10000; done'],
    );
    await engine.dockerOutput(
      ...['run', '-d', '--name', 'mortal', '--restart', 'on-failure:3'],
      ...['busybox', 'sh', '-c', 'trap "exit 0" USR1; trap "exit 9" TERM; while :; do usleep 10000; done'],
    );
    const [writer, mortal] = [await inspect('writer'), await inspect('mortal')];
    fill();
    const tail = async (): Promise<string[]> =>
      (await engine.dockerOutput('logs', '--tail', '5', 'writer')).trim().split('\n');
    // Fill again until the log cannot use the rest of its last block either.
    await until(async () => {
      fill();
      const before = (await tail()).at(-1);
      await new Promise((resolve) => setTimeout(resolve, 300));
      return (await tail()).at(-1) === before;
    });
    const last = Number((await tail()).at(-1));

    expect((await engine.api('GET', '/containers/json')).json).toHaveLength(2);
    process.kill(mortal.State.Pid, 'SIGUSR1');
    await until(() => isDead(mortal.State.Pid));
    expect(await engine.dockerRefusal('create', 'busybox', 'true')).not.toBe('');
    expect(engine.isDead()).toBe(false);
    expect(isDead(writer.State.Pid)).toBe(false);
    await new Promise((resolve) => setTimeout(resolve, 1000));

    rmSync(ballast());
    await until(async () => Number((await tail()).at(-1)) > last + 20);
    // Read the file itself: `docker logs` would show the notice on the other stream.
    const file = readFileSync(join(engine.root, 'data', 'containers', writer.Id, `${writer.Id}-json.log`), 'utf8');
    const lines = file
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { log: string }).log.trim());
    const at = lines.findIndex((line) => line.includes('lines ('));
    const dropped = Number(/\] (\d+) lines/.exec(lines[at] ?? '')?.[1]);
    expect(dropped).toBeGreaterThan(0);
    // The number of dropped lines equals the gap: the container kept counting all the while.
    expect(Number(lines[at + 1]) - Number(lines[at - 1]) - 1).toBe(dropped);
    await until(async () => (await inspect('mortal')).State.Status === 'exited');
    expect((await inspect('mortal')).State).toMatchObject({ ExitCode: 0 });
    expect((await inspect('writer')).State).toMatchObject({ Status: 'running', Pid: writer.State.Pid });
    await until(() => recordsOf(engine, mortal.Id).some((r) => r.type === 'final'));
    expect(await engine.dockerOutput('run', '--rm', 'busybox', 'echo', 'again')).toBe('again\n');
  });

  test('lets containers run on when the daemon is killed and restarted [disk-full-daemon]', async () => {
    const { State } = await inspect('writer');
    fill();
    await engine.kill9();
    const started = engine.startAgain().then(
      () => true,
      () => false,
    );
    if (!(await started)) {
      // The daemon may refuse to start, as long as it reports why and touches nothing.
      rmSync(ballast());
      await engine.startAgain();
    }
    expect(isDead(State.Pid)).toBe(false);
    expect((await inspect('writer')).State).toMatchObject({ Status: 'running', Pid: State.Pid });
    rmSync(ballast(), { force: true });
    await engine.dockerOutput('exec', 'writer', 'true');
    await engine.dockerOutput('rm', '-f', 'writer', 'mortal');
  });

  test('stop, kill, exec, rename, rm and prune work and tell the truth, and a daemon starts [disk-full-operations]', async () => {
    const pids = new Map<string, number>();
    for (const name of ['stopped', 'killed', 'removed', 'named']) {
      await engine.dockerOutput('run', '-d', '--name', name, 'busybox', 'sleep', '9999');
      pids.set(name, (await inspect(name)).State.Pid);
    }
    await engine.dockerOutput('create', '--name', 'created', 'busybox', 'true');
    await engine.dockerOutput('run', '--name', 'exited', 'busybox', 'true');
    fill();
    await new Promise((resolve) => setTimeout(resolve, 500));
    fill();
    const isGone = async (name: string): Promise<boolean> =>
      (await engine.api('GET', `/containers/${name}/json`)).status === 404;

    expect(await engine.dockerOutput('exec', 'named', 'echo', 'hi')).toBe('hi\n');
    await engine.dockerOutput('stop', '-t', '0', 'stopped');
    expect(isDead(pids.get('stopped')!)).toBe(true);
    expect((await inspect('stopped')).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
    await engine.dockerOutput('kill', 'killed');
    expect(isDead(pids.get('killed')!)).toBe(true);
    expect((await inspect('killed')).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
    await engine.dockerOutput('rename', 'named', 'renamed');
    await engine.dockerOutput('rm', '-f', 'removed');
    expect(isDead(pids.get('removed')!)).toBe(true);
    expect(await isGone('removed')).toBe(true);
    await engine.dockerOutput('rm', 'created');
    expect(await isGone('created')).toBe(true);

    fill();
    await engine.kill9();
    await engine.startAgain();
    expect((await inspect('renamed')).State).toMatchObject({ Status: 'running', Pid: pids.get('named') });
    expect((await inspect('killed')).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
    fill();
    await engine.stop();
    await engine.startAgain();
    fill();
    await engine.dockerOutput('container', 'prune', '-f');
    for (const name of ['stopped', 'killed', 'exited']) expect(await isGone(name)).toBe(true);

    rmSync(ballast());
    await engine.dockerOutput('stop', '-t', '0', 'renamed');
    await engine.dockerOutput('rm', 'renamed');
  });
});
