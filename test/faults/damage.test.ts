/**
 * Damaged state never makes the daemon kill or delete anything: an unreadable database row or journal, a second daemon
 * on the same root, no free file descriptor. Needs real containers, because the assertion is that their processes and
 * mounts survive.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseJournal } from '../../src/protocol/journal-format.ts';
import type { RecordType } from '../../src/protocol/records.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { isDead } from '../support/processes.ts';
import { journalOf, shimOf } from '../support/shims.ts';

const holdfastd = fileURLToPath(new URL('../../bin/holdfastd', import.meta.url));

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { inspect } = dockerOf<{
  Id: string;
  State: { Status: string; Pid: number; ExitCode: number; StartedAt: string; Error: string };
  NetworkSettings: { IPAddress: string };
}>(() => engine);
const run = async (
  name: string,
  script = 'while :; do echo tick; usleep 50000; done',
): Promise<{ id: string; init: number }> => {
  const id = (await engine.dockerOutput('run', '-d', '--name', name, 'busybox', 'sh', '-c', script)).trim();
  return { id, init: (await inspect(name)).State.Pid };
};

describe('an unreadable database row', () => {
  const inStore = (sql: string, ...values: unknown[]): unknown => {
    const db = new Database(join(engine.root, 'data', 'holdfast.db'));
    try {
      return /^select/i.test(sql) ? db.prepare(sql).get(...values) : db.prepare(sql).run(...values);
    } finally {
      db.close();
    }
  };

  test('leaves its container and name untouched, and a repaired row restores it [row-unreadable]', async () => {
    const { id, init } = await run('unreadable');
    const {
      NetworkSettings: { IPAddress },
    } = await inspect('unreadable');
    const shim = shimOf(engine, id);
    await engine.kill9();
    const { definition } = inStore('SELECT definition FROM containers WHERE id = ?', id) as { definition: string };
    inStore('UPDATE containers SET definition = ? WHERE id = ?', definition.slice(0, 100), id);
    await engine.startAgain();
    expect((await inspect(id)).State).toMatchObject({ Status: 'running', Pid: init });
    expect((await inspect(id)).State.Error).toContain('cannot be read');
    expect(await engine.dockerRefusal('run', '--name', 'unreadable', 'busybox', 'true')).toContain('is already in use');
    // The sweep at the start of the daemon is finished by now.
    await until(() => readFileSync(join(engine.root, 'log'), 'utf8').split('all containers are restored').length > 2);
    await engine.docker('system', 'prune', '-f').result;
    await engine.stop();
    await engine.startAgain();
    expect([isDead(init), isDead(shim)]).toEqual([false, false]);
    expect(await engine.dockerOutput('run', '--rm', 'busybox', 'ping', '-c', '1', '-W', '5', IPAddress)).toContain(
      '1 packets received',
    );

    await engine.kill9();
    inStore('UPDATE containers SET definition = ? WHERE id = ?', definition, id);
    await engine.startAgain();
    expect((await inspect('unreadable')).State).toMatchObject({ Status: 'running', Pid: init });
    expect(shimOf(engine, id)).toBe(shim);
    expect(await engine.dockerOutput('exec', 'unreadable', 'hostname')).toBe(`${id.slice(0, 12)}\n`);
    await engine.dockerOutput('rm', '-f', 'unreadable');
  });

  test.each(['unreadable', 'missing'])('row %s: its container is listed, stopped, removed [row-lost]', async (row) => {
    const { id, init } = await run(row);
    await engine.kill9();
    if (row === 'missing') inStore('DELETE FROM containers WHERE id = ?', id);
    else inStore("UPDATE containers SET definition = '{', state = 'x' WHERE id = ?", id);
    await engine.startAgain();
    expect(await engine.dockerOutput('ps', '--format', '{{.ID}} {{.State}}')).toContain(`${id.slice(0, 12)} running`);
    expect((await inspect(row)).State).toMatchObject({ Status: 'running', Pid: init });
    expect((await inspect(row)).State.Error).toContain('the row of this container');
    await engine.dockerRefusal('exec', row, 'true');
    await engine.dockerRefusal('rm', row);
    await engine.dockerOutput('stop', '-t', '0', row);
    expect(isDead(init)).toBe(true);
    expect((await inspect(row)).State).toMatchObject({ Status: 'dead', ExitCode: 137 });
    await engine.dockerRefusal('start', row);
    await engine.dockerOutput('container', 'prune', '-f');
    await engine.dockerOutput('rm', row);
    expect(existsSync(journalOf(engine, id))).toBe(false);
    expect((await engine.api('GET', `/containers/${id}/json`)).status).toBe(404);
    await engine.stop();
    await engine.startAgain();
    expect((await engine.api('GET', `/containers/${id}/json`)).status).toBe(404);
  });

  test('a container without a row keeps running', async () => {
    const { id, init } = await run('rowless');
    await engine.kill9();
    inStore('DELETE FROM containers WHERE id = ?', id);
    await engine.startAgain();
    await until(() => readFileSync(join(engine.root, 'log'), 'utf8').includes('has no row'));
    await engine.dockerOutput('run', '--rm', 'busybox', 'true');
    expect(isDead(init)).toBe(false);
    expect(existsSync(journalOf(engine, id))).toBe(true);
    // An administrator may still stop the container: the shim stops it on SIGTERM, as at a shutdown of the host.
    process.kill(shimOf(engine, id), 'SIGTERM');
    await until(() => isDead(init) && engine.shims().length === 0, 30_000);
    await engine.kill9();
    execFileSync(
      'find',
      [join(engine.execRoot, 'c', id.slice(0, 16)), '-name', 'rootfs', '-exec', 'umount', '-l', '{}', ';'],
      { stdio: 'ignore' },
    );
    execFileSync('rm', [
      '-rf',
      join(engine.root, 'data', 'containers', id),
      join(engine.execRoot, 'c', id.slice(0, 16)),
    ]);
    await engine.startAgain();
  });
});

describe('a damaged journal', () => {
  /** Flips a bit in the line of the last record of this type. */
  const damage = (id: string, type: RecordType): void => {
    const path = journalOf(engine, id);
    const bytes = readFileSync(path);
    let [offset, last] = [0, -1];
    // Only complete lines are records: what follows the last newline is ignored.
    for (const line of bytes.toString('latin1').split('\n').slice(0, -1)) {
      if (line.includes(`"type":"${type}"`)) last = offset;
      offset += line.length + 1;
    }
    expect(last, `no ${type} in the journal`).toBeGreaterThanOrEqual(0);
    bytes[last + 30]! ^= 1;
    writeFileSync(path, bytes);
    expect(parseJournal(bytes).damaged).toBe(1);
  };

  test.each<RecordType>(['creating', 'created', 'started'])(
    'without `%s` and with a dead shim: the container keeps running under a new shim [journal-damaged]',
    async (type) => {
      const { id, init } = await run(`no-${type}`);
      await engine.kill9();
      const shim = shimOf(engine, id);
      process.kill(shim, 'SIGKILL');
      await until(() => isDead(shim));
      // Damage a record that is not the last line: a damaged last line is an ordinary torn tail.
      const bytes = readFileSync(journalOf(engine, id));
      damage(id, type === 'started' && parseJournal(bytes).records.at(-1)?.type === 'started' ? 'created' : type);
      await engine.startAgain();
      expect((await inspect(id)).State).toMatchObject({ Status: 'running', Pid: init });
      expect(await engine.dockerOutput('exec', id, 'echo', 'fine')).toBe('fine\n');
      const before = (await engine.dockerOutput('logs', id)).length;
      await until(async () => (await engine.dockerOutput('logs', id)).length > before);
      await engine.dockerOutput('kill', id);
      expect((await inspect(id)).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
      await engine.dockerOutput('start', id);
      await engine.dockerOutput('rm', '-f', id);
    },
  );
});

describe('two daemons', () => {
  test('with one data root or exec root: the second is refused, the first is not affected', async () => {
    const { init } = await run('first');
    const startSecond = (data: string, exec: string) => {
      const host = ['--host', `unix://${join(engine.root, 'h2.sock')}`];
      const args = [...host, '--data-root', data, '--exec-root', exec, '--bip', '10.214.9.1/24'];
      return spawnSync(holdfastd, args, { encoding: 'utf8', timeout: 20_000 });
    };
    for (const [data, exec, shared] of [
      ['data', 'run2', 'data'],
      ['data2', 'run', 'run'],
    ] as const) {
      const { status, stderr } = startSecond(join(engine.root, data), join(engine.root, exec));
      expect(status).toBe(1);
      expect(stderr).toContain(`another holdfastd is running on ${join(engine.root, shared)}`);
    }
    expect((await inspect('first')).State).toMatchObject({ Status: 'running', Pid: init });
    expect(await engine.dockerOutput('exec', 'first', 'echo', 'fine')).toBe('fine\n');
    await engine.dockerOutput('rm', '-f', 'first');
  });
});

describe('a daemon without free file descriptors', () => {
  const limit = (files: number): void =>
    void execFileSync('prlimit', ['--pid', String(engine.pid), `--nofile=${files}:`]);

  test('survives, keeps containers running, and later replaces a shim that was killed meanwhile [no-descriptors]', async () => {
    const before = Number(/Max open files\s+(\d+)/.exec(readFileSync(`/proc/${engine.pid}/limits`, 'latin1'))?.[1]);
    const { id, init } = await run('poor');
    const daemon = engine.pid;
    const shim = shimOf(engine, id);
    limit(Math.max(...readdirSync(`/proc/${daemon}/fd`).map(Number)) + 1);
    try {
      const requests = Array.from({ length: 20 }, () =>
        engine.api('GET', '/containers/json').catch((error: unknown) => error),
      );
      const runs = engine.docker('run', '--rm', 'busybox', 'true').result;
      process.kill(shim, 'SIGKILL');
      await until(() => isDead(shim));
      await Promise.race([Promise.all([...requests, runs]), new Promise((resolve) => setTimeout(resolve, 3000))]);
      expect(engine.isDead()).toBe(false);
      expect(isDead(init)).toBe(false);
    } finally {
      limit(before);
    }
    await until(() => shimOf(engine, id) !== shim, 30_000);
    await until(async () => (await engine.docker('exec', 'poor', 'true').result).exitCode === 0, 30_000);
    expect((await inspect('poor')).State).toMatchObject({ Status: 'running', Pid: init });
    expect(await engine.dockerOutput('run', '--rm', 'busybox', 'echo', 'again')).toBe('again\n');
    expect([engine.isDead(), engine.pid]).toEqual([false, daemon]);
  });
});
