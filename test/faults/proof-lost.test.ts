/**
 * More than one of the places that tell of a container is lost, or an earlier copy, while its process lives: the others
 * are believed, and it is neither forgotten nor deleted nor started a second time.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { journalOf, shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { inspect, ok } = dockerOf<{ Id: string; State: { Status: string; Pid: number; ExitCode: number } }>(
  () => engine,
);

/** Reads or changes the store of a daemon that does not run. */
function inStore<T>(work: (db: Database.Database) => T): T {
  const db = new Database(join(engine.root, 'data', 'holdfast.db'));
  try {
    return work(db);
  } finally {
    db.close();
  }
}

interface Row {
  state: string;
  cursor: number;
}
const rowOf = (id: string): Row =>
  inStore((db) => db.prepare('SELECT state, cursor FROM containers WHERE id = ?').get(id) as Row);

async function killShim(id: string): Promise<void> {
  const shim = shimOf(engine, id);
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim));
}

test('row and journal lost, shim dead: the directory is kept, and the container can be removed [row-journal-lost]', async () => {
  const id = await ok('run', '-d', '--name', 'both', 'busybox', 'sleep', '9999');
  const { Pid } = (await inspect('both')).State;
  await engine.kill9();
  await killShim(id);
  inStore((db) => db.prepare('DELETE FROM containers WHERE id = ?').run(id));
  rmSync(journalOf(engine, id));
  await engine.startAgain();
  expect((await inspect(id)).State).toMatchObject({ Status: 'running', Pid });
  expect(isDead(Pid)).toBe(false);
  expect(existsSync(`/proc/${Pid}/root/bin/sleep`)).toBe(true);
  expect(await engine.dockerRefusal('rm', id)).toContain('container is running');
  await ok('rm', '-f', id);
  expect(isDead(Pid)).toBe(true);
});

test('row and journal are copies from before the last start: what runs is adopted [data-root-copied]', async () => {
  const id = await ok('run', '-d', '--name', 'copied', 'busybox', 'sleep', '9999');
  await ok('stop', '-t', '0', 'copied');
  await until(() => engine.shims().length === 0, 60_000);
  await engine.kill9();
  const [row, journal] = [rowOf(id), readFileSync(journalOf(engine, id))];
  await engine.startAgain();
  await ok('start', 'copied');
  const { Pid } = (await inspect('copied')).State;
  await engine.kill9();
  await killShim(id);
  writeFileSync(journalOf(engine, id), journal);
  inStore((db) =>
    db.prepare('UPDATE containers SET state = ?, cursor = ? WHERE id = ?').run(row.state, row.cursor, id),
  );
  await engine.startAgain();
  expect((await inspect('copied')).State).toMatchObject({ Status: 'running', Pid });
  expect((await engine.api('POST', '/containers/copied/start')).status).toBe(304);
  expect(await engine.dockerOutput('exec', 'copied', 'echo', 'fine')).toBe('fine\n');
  await ok('stop', '-t', '0', 'copied');
  expect(isDead(Pid)).toBe(true);
  expect((await inspect('copied')).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
  await ok('rm', 'copied');
});

test('an --rm container whose records are lost is not removed while it lives [auto-remove-lost]', async () => {
  const id = await ok('run', '-d', '--rm', '--name', 'once', 'busybox', 'sleep', '9999');
  const { Pid } = (await inspect('once')).State;
  await engine.kill9();
  await killShim(id);
  const ended = JSON.stringify({ ...(JSON.parse(rowOf(id).state) as object), status: 'exited', final: true, pid: 0 });
  inStore((db) => db.prepare('UPDATE containers SET state = ? WHERE id = ?').run(ended, id));
  rmSync(journalOf(engine, id));
  rmSync(join(engine.execRoot, 'oci', 'runc', id), { recursive: true });
  await engine.startAgain();
  expect((await inspect('once')).State).toMatchObject({ Status: 'running', Pid });
  await ok('kill', 'once');
  expect(isDead(Pid)).toBe(true);
  await until(async () => (await engine.api('GET', `/containers/${id}/json`)).status === 404, 60_000);
});
