/** A shim is killed with SIGKILL, and the next shim takes the container over. */
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeRecord } from '../../src/protocol/journal-format.ts';
import { cgroupsOf, oomKills } from '../../src/shim/cgroup.ts';
import { bundleShim } from '../support/bundles.ts';
import { isDead, processesHolding } from '../support/processes.ts';
import { TestContainer, type ContainerOptions } from '../support/shim-container.ts';
import { until } from '../support/until.ts';

const bundles = mkdtempSync(join(tmpdir(), 'hb-'));
let bundle: string;
beforeAll(async () => void (bundle = await bundleShim(bundles)), 60_000);
afterAll(() => rmSync(bundles, { recursive: true, force: true }));

const container = (script: string, more: Partial<ContainerOptions> = {}): TestContainer =>
  new TestContainer(bundle, { command: ['sh', '-c', script], ...more });
const OBEDIENT = 'trap "exit 3" TERM; echo up; while :; do usleep 20000; done';
const COUNTING = 'trap "exit 3" TERM; i=0; while :; do echo $i; i=$((i+1)); usleep 5000; done';
const commandOf = (pid: number): string => readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
const catchesTerm = (pid: number): boolean =>
  (parseInt(/^SigCgt:\s+(\w+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]!.slice(-8), 16) & 0x4000) !== 0;
const up = (c: TestContainer): Promise<unknown> => until(() => c.log.includes('up'));

describe('after SIGKILL of the shim', { timeout: 30_000 }, () => {
  test('the container runs on; the next shim has its output, code and stop', async () => {
    await using c = container(COUNTING);
    const pid = await c.start(await c.adopt());
    await until(() => c.log.length > 0);
    await c.killShim();
    await sleep(300);
    expect(isDead(pid)).toBe(false);
    const ctl = await c.adopt();
    expect((await ctl.ask<'hello'>({ op: 'hello', protocol: 1, daemon: 't' })).state).toMatchObject({
      status: 'running',
      pid,
    });
    const before = c.log.length;
    await until(() => c.log.length > before + 200);
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 5 });
    expect(c.find('exited')[0]).toMatchObject({ code: 3, signal: 0 });
    // At most the one chunk in flight is lost; nothing is duplicated or out of order.
    const numbers = c.log.trim().split('\n').map(Number);
    const steps = numbers.map((n, i) => n - (i === 0 ? -1 : numbers[i - 1]!)).filter((step) => step !== 1);
    expect(steps.length, `steps of ${steps.join(' ')}`).toBeLessThanOrEqual(1);
    expect(steps.every((step) => step > 1 && step < 20)).toBe(true);
    await c.shimEnds();
    await until(() => processesHolding(c.base).length === 0);
  });

  test('an exit in between has its true code and its last output', async () => {
    await using c = container('usleep 300000; echo last words; exit 42');
    await c.start(await c.adopt());
    await c.killShim();
    await sleep(700);
    await c.adopt();
    await c.until('final');
    expect(c.find('exited')[0]).toMatchObject({ code: 42, signal: 0 });
    expect(c.log).toBe('last words\n');
  });

  test('the restart policy and health checks continue', async () => {
    await using c = container('usleep 400000; exit 4', {
      spec: { restart: { name: 'on-failure', maximumRetryCount: 1 } },
    });
    await c.start(await c.adopt());
    await c.killShim();
    const ctl = await c.adopt();
    ctl.socket.destroy();
    await c.until('final');
    expect(c.find('exited').map((r) => [r.gen, r.code])).toEqual([
      [1, 4],
      [2, 4],
    ]);
  });

  test('during the back-off, the next shim restarts on time', async () => {
    await using c = container('exit 4', { spec: { restart: { name: 'on-failure', maximumRetryCount: 4 } } });
    await c.start(await c.adopt());
    await until(() => c.find('restarting').length === 3);
    await c.killShim();
    await c.adopt();
    await c.until('final');
    expect(c.find('restarting').map((r) => r.count)).toEqual([1, 2, 3, 4]);
  });

  test('during a stop, SIGKILL still comes on time [takeover-stop]', async () => {
    await using c = container('trap "" TERM; echo up; while :; do usleep 20000; done');
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    const before = Date.now();
    ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 2 }).catch(() => {});
    await c.until('killed');
    await c.killShim();
    await c.adopt();
    await c.until('stopped');
    expect(Date.now() - before).toBeGreaterThan(1900);
    expect(Date.now() - before).toBeLessThan(3500);
    expect(c.find('final')[0]).toMatchObject({ user: true });
  });

  test('during a restart, the next shim finishes it', async () => {
    await using c = container('trap "usleep 500000; exit 0" TERM; echo up; while :; do usleep 20000; done');
    const ctl = await c.adopt();
    await c.start(ctl);
    await up(c);
    ctl.ask<'restart'>({ op: 'restart', operation: 'r', signal: 15, timeout: 5 }).catch(() => {});
    await c.until('killed');
    await c.killShim();
    await c.adopt();
    await c.until('restarted');
    expect(c.find('started').map((r) => r.gen)).toEqual([1, 2]);
    expect(c.types).not.toContain('final');
  });

  test('between create and start, the init is killed and the start has failed', async () => {
    await using c = container('echo never');
    const { pid } = await (await c.adopt()).ask<'create'>({ op: 'create', operation: 'a' });
    await c.killShim();
    const ctl = await c.adopt();
    await c.until('final');
    expect(isDead(pid)).toBe(true);
    expect(c.find('failed')[0]).toMatchObject({ operation: 'a', code: 128 });
    await c.start(ctl, 'b');
    await c.until('exited');
  });

  test('before `started` was recorded, the container is found running', async () => {
    await using c = container(OBEDIENT);
    await c.start(await c.adopt());
    await up(c);
    await c.killShim();
    const kept = c.journal.filter((r) => r.type !== 'started');
    writeFileSync(join(c.dir, 'journal'), Buffer.concat(kept.map(encodeRecord)));
    const ctl = await c.adopt();
    await c.until('started');
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 5 });
    expect(c.find('exited')[0]).toMatchObject({ code: 3 });
  });

  test('after the init was started but before that was recorded, the container is found running', async () => {
    // The container writes nothing, because there is no keeper yet.
    await using c = container('trap "exit 3" TERM; while :; do usleep 20000; done');
    const { pid } = await (await c.adopt()).ask<'create'>({ op: 'create', operation: 'a' });
    await c.killShim();
    const fifo = join(c.base, 'oci', c.id, 'exec.fifo');
    expect(readFileSync(fifo).length).toBe(1);
    await until(() => commandOf(pid) === 'sh' && catchesTerm(pid));
    const ctl = await c.adopt();
    await c.until('started');
    expect(existsSync(fifo)).toBe(false);
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 5 });
    expect(c.find('exited')[0]).toMatchObject({ code: 3 });
  });

  test('a terminal survives in both directions without a hang-up', async () => {
    await using c = container('trap "echo HUP" HUP; echo up; while read x; do echo got $x; done', {
      terminal: true,
      spec: { openStdin: true },
    });
    await c.start(await c.adopt());
    await up(c);
    await c.killShim();
    await sleep(200);
    const ctl = await c.adopt();
    const client = await c.attach(ctl, { stdin: true, framed: false });
    client.socket.write('there\n');
    await until(() => client.text.includes('got there'));
    expect(c.log).not.toContain('HUP');
    await ctl.ask<'signal'>({ op: 'signal', operation: 'k', signal: 9, asUser: true });
    await c.until('final');
  });

  test('an open stdin survives, and its EOF still arrives', async () => {
    await using c = container('cat; exit 5', { spec: { openStdin: true, stdinOnce: true } });
    await c.start(await c.adopt());
    await sleep(100);
    await c.killShim();
    await sleep(200);
    const ctl = await c.adopt();
    const client = await c.attach(ctl, { stdin: true });
    client.socket.end('after\n');
    await c.until('final');
    expect(c.log).toBe('after\n');
    expect(c.find('exited')[0]).toMatchObject({ code: 5 });
  });

  test('an exec survives, and its code is known', async () => {
    await using c = container(OBEDIENT);
    const ctl = await c.adopt();
    await c.start(ctl);
    const exec = c.exec(['sh', '-c', 'usleep 900000; exit 8']);
    await ctl.ask<'exec'>({ op: 'exec', exec });
    await sleep(300);
    await c.killShim();
    await c.adopt();
    expect(await c.until('exec-exited')).toMatchObject({ exec: exec.id, code: 8 });
  });

  test('and of its keeper, the container runs on and can be stopped', async () => {
    await using c = container(OBEDIENT);
    await c.start(await c.adopt());
    await up(c);
    const keeper = JSON.parse(readFileSync(join(c.run, '1.keeper'), 'utf8')) as { pid: number };
    await c.killShim();
    process.kill(keeper.pid, 'SIGKILL');
    const ctl = await c.adopt();
    await ctl.ask<'stop'>({ op: 'stop', operation: 's', signal: 15, timeout: 5 });
    expect(c.find('exited')).toHaveLength(1);
  });
});

describe('after SIGKILL of a keeper', { timeout: 30_000 }, () => {
  test('the shim starts another one', async () => {
    await using c = container(OBEDIENT);
    await c.start(await c.adopt());
    const keeper = (): number => (JSON.parse(readFileSync(join(c.run, '1.keeper'), 'utf8')) as { pid: number }).pid;
    const first = keeper();
    process.kill(first, 'SIGKILL');
    await until(() => keeper() !== first);
  });
});

describe('after a reboot', { timeout: 30_000 }, () => {
  const rewriteBoot = (c: TestContainer): void =>
    writeFileSync(
      join(c.dir, 'journal'),
      Buffer.concat(c.journal.map((r) => encodeRecord({ ...r, boot: 'an earlier one' }))),
    );

  test('a container that ran has exited with 255 and is final; sequence numbers are not reused [takeover-reboot]', async () => {
    await using c = container(OBEDIENT, { spec: { restart: { name: 'always', maximumRetryCount: 0 } } });
    const pid = await c.start(await c.adopt());
    await c.killShim();
    process.kill(pid, 'SIGKILL');
    rewriteBoot(c);
    const last = c.journal.at(-1)!.seq;
    await c.adopt();
    await c.until('final');
    expect(c.find('exited')[0]).toMatchObject({
      code: 255,
      error: expect.stringContaining('host went down') as string,
    });
    expect(c.find('adopted')[1]!.seq).toBeGreaterThan(last + 100);
    await c.shimEnds();
  });
});

describe('taking over', { timeout: 30_000 }, () => {
  test('a container has only one shim', async () => {
    await using c = container(OBEDIENT);
    await c.start(await c.adopt());
    const first = c.shim!;
    await expect(c.adopt()).rejects.toThrow('another shim holds');
    c.shim = first;
    expect(c.find('adopted')).toHaveLength(1);
  });

  test('a shim waits longer for its first connection than after its last', async () => {
    await using c = container('exit 1');
    await c.start(await c.adopt());
    await c.until('final');
    await c.shimEnds();
    await c.spawn();
    await sleep(2_500);
    const ctl = await c.connect();
    expect((await ctl.ask<'hello'>({ op: 'hello', protocol: 1, daemon: 'test' })).state.final).toBe(true);
    const left = Date.now();
    ctl.socket.destroy();
    await c.shimEnds();
    expect(Date.now() - left).toBeLessThan(4_500);
  });

  test('a torn journal is repaired before the next record', async () => {
    await using c = container('exit 1');
    const ctl = await c.adopt();
    await c.start(ctl);
    await c.until('final');
    await c.shimEnds();
    appendFileSync(join(c.dir, 'journal'), 'deadbeef {"seq":7,"ty');
    await c.start(await c.adopt());
    await until(() => c.find('final').length === 2);
    expect(c.journal.map((r) => r.seq)).toEqual(c.journal.map((_, i) => i + 1));
  });
});

describe('when the OOM killer kills a process but not the init', { timeout: 60_000 }, () => {
  // The kernel may look for a second victim while the first is dying; it should not choose the init.
  const glutton = 'echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero';
  const GLUTTON = `while :; do if [ -e /eat ]; then rm /eat; sh -c '${glutton}'; echo survived; fi; usleep 20000; done`;
  const oomKillsOf = (c: TestContainer): number =>
    oomKills(cgroupsOf(c.journal.findLast((r) => r.type === 'started')!.pid));
  const eat = (c: TestContainer): void => writeFileSync(join(c.run, 'rootfs', 'eat'), '');

  test('each kill is recorded at once, also by the next shim for kills in between [oom-between-shims]', async () => {
    await using c = container(GLUTTON, { memory: 24 * 1024 * 1024 });
    await c.start(await c.adopt());
    const recordedKills = (): number => c.find('oom').at(-1)?.kills ?? 0;
    for (const meal of [1, 2]) {
      const before = recordedKills();
      eat(c);
      await until(() => recordedKills() > before && recordedKills() === oomKillsOf(c), 30_000);
      await until(() => c.log.split('survived').length === meal + 1, 30_000);
    }
    expect(c.types).not.toContain('exited');
    await c.killShim();
    const before = recordedKills();
    eat(c);
    await until(() => oomKillsOf(c) > before, 30_000);
    const ctl = await c.adopt();
    await until(() => recordedKills() === oomKillsOf(c), 30_000);
    const all = c.find('oom').length;
    await ctl.ask<'signal'>({ op: 'signal', operation: 'k', signal: 9, asUser: true });
    expect(await c.until('exited')).toMatchObject({ oomKilled: true });
    expect(c.find('oom')).toHaveLength(all);
  });
});
