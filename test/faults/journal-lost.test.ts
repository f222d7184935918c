/**
 * A container's journal is emptied, garbled or deleted, and its shim is killed: what else tells of the container (its
 * row, the runtime's state, its cgroup) is believed, and no request succeeds while its process runs on, ownerless.
 */
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { initialRunState } from '../../src/protocol/runstate.ts';
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

const { inspect } = dockerOf<{
  Id: string;
  State: { Status: string; Pid: number; ExitCode: number; StartedAt: string };
}>(() => engine);

const LOSSES = {
  emptied: (path: string) => truncateSync(path),
  garbled: (path: string) => writeFileSync(path, Buffer.alloc(statSync(path).size, 'garbage\n')),
  deleted: (path: string) => rmSync(path),
};
type Loss = keyof typeof LOSSES;
const losses = Object.keys(LOSSES) as Loss[];

/** Starts a container, loses its journal and kills its shim. */
async function lose(loss: Loss, name: string, { daemon }: { daemon: 'alive' | 'killed' }): Promise<Lost> {
  const id = (await engine.dockerOutput('run', '-d', '--name', name, 'busybox', 'sleep', '9999')).trim();
  const { Pid: init, StartedAt: startedAt } = (await inspect(name)).State;
  const shim = shimOf(engine, id);
  if (daemon === 'killed') await engine.kill9();
  LOSSES[loss](journalOf(engine, id));
  process.kill(shim, 'SIGKILL');
  await until(() => isDead(shim));
  return { id, init, startedAt };
}
interface Lost {
  id: string;
  init: number;
  startedAt: string;
}

const mountsOf = (id: string): string[] =>
  readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .filter((line) => line.includes(id.slice(0, 16)));

describe('a lost journal and a dead shim', () => {
  test.each(losses)('%s under a daemon: the next shim adopts it, and stop ends it [journal-lost-up]', async (loss) => {
    const { init, startedAt } = await lose(loss, loss, { daemon: 'alive' });
    await until(async () => (await engine.docker('exec', loss, 'true').result).exitCode === 0);
    expect((await inspect(loss)).State).toMatchObject({ Status: 'running', Pid: init, StartedAt: startedAt });
    expect(await engine.dockerRefusal('rm', loss)).toContain('container is running');
    await engine.dockerOutput('stop', '-t', '0', loss);
    expect(isDead(init)).toBe(true);
    expect((await inspect(loss)).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
    await engine.dockerOutput('start', loss);
    await engine.dockerOutput('rm', '-f', loss);
  });

  test.each(losses)('%s without a daemon: it is shown running, and rm -f ends it [journal-lost-down]', async (loss) => {
    const { id, init } = await lose(loss, loss, { daemon: 'killed' });
    await engine.startAgain();
    expect((await inspect(loss)).State).toMatchObject({ Status: 'running', Pid: init });
    await engine.dockerOutput('rm', '-f', loss);
    expect(isDead(init)).toBe(true);
    expect(mountsOf(id)).toEqual([]);
    expect(readdirSync(join(engine.execRoot, 'netns'))).not.toContain(id.slice(0, 16));
  });

  test('and a process that has died meanwhile: its end is reported [journal-lost-dead]', async () => {
    const { init } = await lose('emptied', 'died', { daemon: 'killed' });
    process.kill(init, 'SIGKILL');
    await until(() => isDead(init));
    await engine.startAgain();
    const { Status, ExitCode } = (await inspect('died')).State;
    expect(Status).toBe('exited');
    expect([137, 255]).toContain(ExitCode);
    await engine.dockerOutput('rm', 'died');
  });

  test('and a row from before the start: the runtime is believed [journal-row-lost]', async () => {
    const { id, init } = await lose('deleted', 'stale', { daemon: 'killed' });
    const db = new Database(join(engine.root, 'data', 'holdfast.db'));
    db.prepare('UPDATE containers SET state = ?, cursor = 0 WHERE id = ?').run(JSON.stringify(initialRunState()), id);
    db.close();
    await engine.startAgain();
    expect((await inspect('stale')).State).toMatchObject({ Status: 'running', Pid: init });
    expect(await engine.dockerOutput('exec', 'stale', 'echo', 'fine')).toBe('fine\n');
    await engine.dockerOutput('stop', '-t', '0', 'stale');
    expect(isDead(init)).toBe(true);
    await engine.dockerOutput('rm', 'stale');
  });

  test("and a row and runtime's state from before the start: it is adopted, rm -f ends it [journal-runtime-lost]", async () => {
    const { id, init } = await lose('deleted', 'unknown', { daemon: 'killed' });
    const db = new Database(join(engine.root, 'data', 'holdfast.db'));
    db.prepare('UPDATE containers SET state = ?, cursor = 0 WHERE id = ?').run(JSON.stringify(initialRunState()), id);
    db.close();
    rmSync(join(engine.execRoot, 'oci', 'runc', id), { recursive: true });
    await engine.startAgain();
    expect((await inspect('unknown')).State).toMatchObject({ Status: 'running', Pid: init });
    expect(await engine.dockerRefusal('rm', 'unknown')).toContain('container is running');
    expect(isDead(init)).toBe(false);
    await engine.dockerOutput('rm', '-f', 'unknown');
    expect(isDead(init)).toBe(true);
  });

  test('a container that has exited keeps its exit code', async () => {
    await engine.docker('run', '--name', 'code', 'busybox', 'sh', '-c', 'exit 7').result;
    await until(() => engine.shims().length === 0);
    rmSync(journalOf(engine, (await inspect('code')).Id));
    // An attach brings a shim, which finds no journal.
    await engine.api('POST', '/containers/code/attach?logs=1&stdout=1');
    expect(engine.shims()).toHaveLength(1);
    expect((await inspect('code')).State).toMatchObject({ Status: 'exited', ExitCode: 7 });
    await engine.dockerOutput('rm', 'code');
  });
});
