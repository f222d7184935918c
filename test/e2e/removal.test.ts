/**
 * Removal and what happens at the same time: what was checked before an operation's turn is checked again in it, and a
 * container that could not be killed is what it was before.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

/** A start takes some 100 ms: these moments lie before, within and after it. */
const MOMENTS_MS = [0, 5, 10, 20, 30, 45, 60, 80, 100, 130, 160, 200];

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { inspect } = dockerOf<{ Id: string; State: { Status: string; Pid: number }; HostConfig: { Memory: number } }>(
  () => engine,
);
const status = async (name: string): Promise<string> => {
  const answer = await engine.api('GET', `/containers/${name}/json`);
  return answer.status === 404 ? 'gone' : (answer.json as { State: { Status: string } }).State.Status;
};
const created = async (name: string): Promise<void> => {
  const { status: code } = await engine.api('POST', `/containers/create?name=${name}`, {
    Image: 'busybox',
    Cmd: ['sleep', '999'],
  });
  expect(code).toBe(201);
};
const after = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('a container that is just starting', () => {
  const outcomes = async (name: string, ms: number, removal: () => Promise<{ status: number }>) => {
    await created(name);
    const start = engine.api('POST', `/containers/${name}/start`);
    await after(ms);
    const removed = await removal();
    return { start: (await start).status, removed: removed.status, left: await status(name) };
  };

  test.each(MOMENTS_MS)(
    'is started or removed, never both, by a plain rm after %d ms [rm-while-starting]',
    async (ms) => {
      const name = `rm-${ms}`;
      const outcome = await outcomes(name, ms, () => engine.api('DELETE', `/containers/${name}`));
      if (outcome.start === 204) expect(outcome).toEqual({ start: 204, removed: 409, left: 'running' });
      else expect(outcome).toMatchObject({ removed: 204, left: 'gone' });
    },
  );

  test.each(MOMENTS_MS)(
    'is started or pruned, never both, by a prune after %d ms [prune-while-starting]',
    async (ms) => {
      const name = `prune-${ms}`;
      const { start, left } = await outcomes(name, ms, () => engine.api('POST', '/containers/prune'));
      expect({ start, left }).toEqual(start === 204 ? { start: 204, left: 'running' } : { start, left: 'gone' });
    },
  );

  test('is removed by rm -f, and the start fails or succeeded before [rm-force-while-starting]', async () => {
    for (const ms of MOMENTS_MS) {
      const name = `force-${ms}`;
      const outcome = await outcomes(name, ms, () => engine.api('DELETE', `/containers/${name}?force=1`));
      expect(outcome).toMatchObject({ removed: 204, left: 'gone' });
    }
  });
});

test('a rename and a removal at the same time leave the new name free [rename-while-removed]', async () => {
  for (const ms of [0, 1, 2, 5, 10]) {
    await created('old');
    const removal = engine.api('DELETE', '/containers/old');
    await after(ms);
    const rename = await engine.api('POST', '/containers/old/rename?name=new');
    expect((await removal).status).toBe(204);
    expect([204, 404]).toContain(rename.status);
    await created('new');
    expect((await engine.api('DELETE', '/containers/new')).status).toBe(204);
  }
});

test('updates at the same time do not undo each other [updates-concurrent]', async () => {
  await created('updated');
  const update = (changes: object) => engine.api('POST', '/containers/updated/update', changes);
  const answers = await Promise.all([
    update({ Memory: 64 << 20, MemorySwap: -1 }),
    update({ RestartPolicy: { Name: 'always' } }),
    update({ CpuShares: 300 }),
  ]);
  expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200]);
  const { HostConfig } = await inspect('updated');
  expect(HostConfig).toMatchObject({ Memory: 64 << 20, CpuShares: 300, RestartPolicy: { Name: 'always' } });
});

test('two removals of one container record one destroy event [removals-one-event]', async () => {
  await created('twice');
  const { Id } = await inspect('twice');
  const since = Date.now() / 1000 - 1;
  const answers = await Promise.all([1, 2, 3].map(() => engine.api('DELETE', `/containers/${Id}?force=1`)));
  expect(answers.map((answer) => answer.status).sort()).toEqual([204, 409, 409]);
  const filters = encodeURIComponent(JSON.stringify({ container: [Id], event: ['destroy'] }));
  const events = await engine.api('GET', `/events?since=${since}&until=${Date.now() / 1000}&filters=${filters}`);
  expect(events.text.trim().split('\n')).toHaveLength(1);
});

// On cgroup v1 a frozen process does not die of SIGKILL. On v2 it does.
const FREEZER = '/sys/fs/cgroup/freezer';
test.skipIf(!existsSync(FREEZER))('a container that cannot be killed goes on, and ends when it can', async () => {
  await created('unkillable');
  expect((await engine.api('POST', '/containers/unkillable/start')).status).toBe(204);
  const { State } = await inspect('unkillable');
  const cgroup = /^\d+:freezer:(.*)$/m.exec(readFileSync(`/proc/${State.Pid}/cgroup`, 'utf8'))![1]!;
  const state = join(FREEZER, cgroup, 'freezer.state');
  writeFileSync(state, 'FROZEN');
  try {
    await until(() => readFileSync(state, 'utf8').trim() === 'FROZEN');
    expect((await engine.api('DELETE', '/containers/unkillable?force=1')).status).toBe(500);
    expect(await status('unkillable')).toBe('running');
    const { json: info } = await engine.api('GET', '/info');
    expect((info as { ContainersRunning: number }).ContainersRunning).toBeGreaterThan(0);
    // Not 409: it runs.
    expect((await engine.api('POST', '/containers/unkillable/kill?signal=CONT')).status).toBe(204);
    writeFileSync(state, 'THAWED');
    await until(async () => (await status('unkillable')) === 'exited');
  } finally {
    if (existsSync(state)) writeFileSync(state, 'THAWED');
  }
});
