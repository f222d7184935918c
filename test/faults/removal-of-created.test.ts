/**
 * A removal meets a container whose init waits for a start that never comes, because the daemon that asked for it was
 * killed: it is ended and removed.
 */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { recordsOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

/** Creates a container and kills the daemon when the shim has journalled `created`. Returns the init's pid. */
async function killWithinStart(name: string): Promise<{ id: string; init: number }> {
  await engine.kill9();
  await engine.startAgain({ HOLDFAST_FAULT: 'start.created' });
  const { Id: id } = (
    await engine.api('POST', `/containers/create?name=${name}`, { Image: 'busybox', Cmd: ['sleep', '9999'] })
  ).json as { Id: string };
  await engine.api('POST', `/containers/${id}/start`).catch(() => undefined);
  await until(() => engine.isDead());
  const created = recordsOf(engine, id).find(({ type }) => type === 'created');
  const init = created?.type === 'created' ? created.pid : 0;
  expect(isDead(init)).toBe(false);
  return { id, init };
}

test('the next daemon finishes a removal that was begun [removal-finished]', async () => {
  const { id, init } = await killWithinStart('begun');
  const db = new Database(join(engine.root, 'data', 'holdfast.db'));
  db.prepare("UPDATE containers SET phase = 'removing' WHERE id = ?").run(id);
  db.close();
  await engine.startAgain();
  await until(async () => (await engine.api('GET', `/containers/${id}/json`)).status === 404);
  expect(isDead(init)).toBe(true);
});

test('rm -f right after the next start of the daemon removes it', async () => {
  const { id, init } = await killWithinStart('asked');
  await engine.startAgain();
  expect((await engine.api('DELETE', `/containers/${id}?force=1`)).status).toBe(204);
  expect((await engine.api('GET', `/containers/${id}/json`)).status).toBe(404);
  expect(isDead(init)).toBe(true);
});
