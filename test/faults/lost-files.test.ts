/** A container's directory, or its spec.json, is lost under the daemon: it is listed, can be removed, and goes on. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { shimOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

const DEADLINE_MS = 60_000;

let engine: TestEngine;
let bystander: number;
beforeAll(async () => {
  engine = await startEngine();
  bystander = (await run('bystander')).init;
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok, inspect } = dockerOf<{ Id: string; State: { Pid: number; Status: string; Error: string } }>(() => engine);
const directoryOf = (id: string): string => join(engine.root, 'data', 'containers', id);

async function run(name: string): Promise<{ id: string; init: number; shim: number }> {
  const id = await ok('run', '-d', '--name', name, '--network', 'none', 'busybox', 'sleep', '10000');
  return { id, init: (await inspect(name)).State.Pid, shim: shimOf(engine, id) };
}

async function killShim(shim: number): Promise<void> {
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim));
}

async function expectRemoved(name: string, init: number): Promise<void> {
  await ok('rm', '-f', name);
  expect([isDead(init), isDead(bystander)]).toEqual([true, false]);
  expect((await engine.api('GET', `/containers/${name}/json`)).status).toBe(404);
}

test.each(['under a running daemon', 'before a daemon starts'])(
  'a deleted directory %s: the container runs on and can be removed [lost-directory]',
  async (when) => {
    const { id, init } = await run('bare');
    if (when.startsWith('before')) await engine.kill9();
    rmSync(directoryOf(id), { recursive: true });
    if (when.startsWith('before')) await engine.startAgain();
    expect((await inspect('bare')).State).toMatchObject({ Status: 'running', Pid: init });
    expect(await ok('exec', 'bare', '/bin/sleep', '0')).toBe('');
    await expectRemoved('bare', init);
  },
);

test.each(['under a running daemon', 'before a daemon starts'])(
  'a deleted directory and a dead shim %s: nothing is killed, and it can be removed [lost-directory-and-shim]',
  async (when) => {
    const { id, init, shim } = await run('bare2');
    if (when.startsWith('before')) await engine.kill9();
    rmSync(directoryOf(id), { recursive: true });
    await killShim(shim);
    if (when.startsWith('before')) await engine.startAgain();
    expect((await inspect('bare2')).State).toMatchObject({ Status: 'running', Pid: init });
    expect(isDead(init)).toBe(false);
    await expectRemoved('bare2', init);
  },
);

test('a stopped container whose directory was deleted is listed and removed [lost-directory-stopped]', async () => {
  const { id, init } = await run('bare3');
  await ok('stop', '-t', '0', 'bare3');
  rmSync(directoryOf(id), { recursive: true });
  await engine.kill9();
  await engine.startAgain();
  expect((await inspect('bare3')).State.Status).toBe('exited');
  await expectRemoved('bare3', init);
});

test('a damaged spec.json and a dead shim: the spec is made again, the container goes on [damaged-spec]', async () => {
  const { id, init, shim } = await run('spec');
  writeFileSync(join(directoryOf(id), 'spec.json'), '{');
  await killShim(shim);
  await until(() => shimOf(engine, id) !== shim, DEADLINE_MS);
  expect(engine.log()).toContain('files of the container were lost');
  expect((await inspect('spec')).State).toMatchObject({ Status: 'running', Pid: init });
  expect(await ok('exec', 'spec', 'echo', 'here')).toBe('here');
  await expectRemoved('spec', init);
});

test('row, spec.json and shim are lost: listed as damaged, nothing killed until told [damaged-spec-and-row]', async () => {
  const { id, init, shim } = await run('all');
  await engine.kill9();
  writeFileSync(join(directoryOf(id), 'spec.json'), '{');
  const db = new Database(join(engine.root, 'data', 'holdfast.db'));
  db.prepare("UPDATE containers SET definition = '{' WHERE id = ?").run(id);
  db.close();
  await killShim(shim);
  await engine.startAgain();
  expect(await ok('ps', '-a', '--format', '{{.Names}}')).toContain('all');
  expect((await inspect(id)).State.Error).toContain('the row of this container');
  expect(isDead(init)).toBe(false);
  expect(await ok('run', '--rm', '--network', 'none', 'busybox', 'echo', 'works')).toBe('works');
  await expectRemoved(id, init);
});
