/**
 * Rows of volumes, networks, images, attachments, execs and events that cannot be parsed: the daemon starts, says so,
 * lists what is left of them, and everything else works. What a damaged row may protect is not deleted.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { isDead } from '../support/processes.ts';
import { archive } from '../support/tar.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok, refusal, inspect } = dockerOf<{ Id: string; State: { Pid: number } }>(() => engine);
const log = (): string => readFileSync(join(engine.root, 'log'), 'utf8');

/** Runs SQL on the store while no daemon has it open, and starts the next daemon. */
async function damage(sql: string, ...values: unknown[]): Promise<void> {
  await engine.kill9();
  const db = new Database(join(engine.root, 'data', 'holdfast.db'));
  try {
    expect(db.prepare(sql).run(...values).changes).toBeGreaterThan(0);
  } finally {
    db.close();
    await engine.startAgain();
  }
}

const works = async (): Promise<void> => expect(await ok('run', '--rm', 'busybox', 'echo', 'works')).toBe('works');

test('a volume: listed, not mounted, not pruned, removed on request [damaged-volume-row]', async () => {
  await ok('volume', 'create', '--label', 'keep', 'broken');
  await ok('volume', 'create', 'whole');
  await ok('run', '--rm', '-v', 'broken:/v', '-v', 'whole:/w', 'busybox', 'sh', '-c', 'echo a >/v/a; echo b >/w/b');
  await damage("UPDATE volumes SET definition = '{' WHERE name = 'broken'");
  expect(log()).toContain('cannot read the row of a volume');
  const listed = (await engine.api('GET', '/volumes')).json as { Volumes: { Name: string }[]; Warnings: string[] };
  expect(listed.Volumes.map(({ Name }) => Name)).toEqual(['broken', 'whole']);
  expect(listed.Warnings).toEqual([expect.stringContaining('volume broken: the row of this volume in the store')]);
  const { Status } = (await engine.api('GET', '/volumes/broken')).json as { Status: { Damaged: string } };
  expect(Status.Damaged).toContain('cannot be read');
  expect(await refusal('run', '--rm', '-v', 'broken:/v', 'busybox', 'true')).toContain('cannot mount volume broken');
  expect(await ok('run', '--rm', '-v', 'whole:/w', 'busybox', 'cat', '/w/b')).toBe('b');
  await ok('volume', 'prune', '-a', '-f');
  expect(await ok('volume', 'ls', '-q')).toBe('broken');
  await works();
  await ok('volume', 'rm', 'broken');
  expect(await ok('volume', 'ls', '-q')).toBe('');
});

test('the volumes of a damaged container are neither pruned nor removed [damaged-container-volumes]', async () => {
  await ok('volume', 'create', 'used');
  await ok('volume', 'create', 'free');
  const id = await ok('create', '--name', 'user', '-v', 'used:/v', '-v', '/anonymous', 'busybox', 'true');
  const volumes = (await ok('volume', 'ls', '-q')).split('\n');
  expect(volumes).toHaveLength(3);
  await damage('UPDATE containers SET definition = substr(definition, 1, length(definition) - 3) WHERE id = ?', id);
  await ok('volume', 'prune', '-a', '-f');
  expect((await ok('volume', 'ls', '-q')).split('\n')).toEqual(volumes);
  expect(log()).toContain('no volume is pruned');
  for (const name of volumes.filter((each) => each !== 'free'))
    expect(await refusal('volume', 'rm', name)).toContain(`volume is in use - [${id}]`);
  await ok('volume', 'rm', 'free');
  await ok('rm', 'user');
  await ok('volume', 'prune', '-a', '-f');
  expect(await ok('volume', 'ls', '-q')).toBe('');
});

test('the volumes of a running container without a row are kept [damaged-container-no-row-volumes]', async () => {
  await ok('volume', 'create', 'held');
  const id = await ok('run', '-d', '--name', 'rowless', '-v', 'held:/v', 'busybox', 'sleep', '10000');
  await damage('DELETE FROM containers WHERE id = ?', id);
  await ok('volume', 'prune', '-a', '-f');
  expect(await refusal('volume', 'rm', 'held')).toContain('volume is in use');
  await ok('rm', '-f', 'rowless');
  await ok('volume', 'rm', 'held');
});

test('a network: listed, nothing attached, not pruned, removed on request [damaged-network-row]', async () => {
  const id = await ok('network', 'create', 'broken');
  await ok('network', 'create', 'whole');
  const running = await ok('run', '-d', '--name', 'on-it', '--network', 'broken', 'busybox', 'sleep', '10000');
  const { Pid } = (await inspect(running)).State;
  await damage("UPDATE networks SET definition = 'x' WHERE id = ?", id);
  expect(log()).toContain('network broken: the row of this network in the store cannot be read');
  expect(await ok('network', 'ls', '--format', '{{.Name}}')).toContain('broken');
  const { Options } = (await engine.api('GET', `/networks/${id}`)).json as { Options: Record<string, string> };
  expect(Options['holdfast.damaged']).toContain('cannot be read');
  expect(await refusal('run', '--rm', '--network', 'broken', 'busybox', 'true')).toContain('cannot use network broken');
  expect(await ok('run', '--rm', '--network', 'whole', 'busybox', 'echo', 'works')).toBe('works');
  expect([isDead(Pid), await ok('exec', 'on-it', 'echo', 'here')]).toEqual([false, 'here']);
  expect(await refusal('network', 'rm', 'broken')).toContain('has active endpoints');
  expect(await refusal('network', 'create', 'broken')).toContain('already exists');
  await ok('rm', '-f', 'on-it');
  await ok('network', 'prune', '-f');
  expect(await ok('network', 'ls', '--format', '{{.Name}}')).toBe('bridge\nbroken\nhost\nnone');
  await ok('network', 'rm', 'broken');
  await works();
});

test('the default bridge is made from the configuration again [damaged-default-bridge]', async () => {
  const id = await ok('network', 'inspect', '--format', '{{.Id}}', 'bridge');
  await damage("UPDATE networks SET definition = 'null' WHERE name = 'bridge'");
  expect(await ok('network', 'inspect', '--format', '{{.Id}}', 'bridge')).toBe(id);
  await works();
});

test('an image: listed, not run, its layers kept, removed on request [damaged-image-row]', async () => {
  const other = archive(['file', 'x']);
  await engine.api('POST', '/images/create?fromSrc=-&repo=broken', other, { 'Content-Type': 'application/x-tar' });
  await damage(
    "UPDATE images SET config = x'78', chains = '{' WHERE id != (SELECT image_id FROM image_names WHERE name LIKE '%busybox%')",
  );
  expect(await ok('image', 'ls', '--format', '{{.Repository}}')).toBe('busybox\nbroken');
  expect(await ok('image', 'inspect', '--format', '{{.Comment}}', 'broken')).toContain('cannot be read');
  expect(await refusal('run', '--rm', 'broken', 'true')).toContain('cannot use image broken');
  const saved = await engine.api('GET', '/images/broken/get');
  expect([saved.status, saved.text]).toEqual([500, expect.stringContaining('cannot use image')]);
  await works();
  await ok('image', 'rm', 'broken');
  expect(await ok('image', 'ls', '--format', '{{.Repository}}')).toBe('busybox');
  await works();
});

test('rows of attachments, execs and events keep nothing else from working [damaged-other-rows]', async () => {
  await ok('run', '-d', '--name', 'attached', '-p', '127.0.0.1::80', 'busybox', 'sleep', '10000');
  const exec = (await engine.api('POST', '/containers/attached/exec', { Cmd: ['true'] })).json as { Id: string };
  await damage("UPDATE attachments SET setup = '{'");
  await works();
  await damage("UPDATE execs SET definition = 'x' WHERE id = ?", exec.Id);
  expect((await engine.api('GET', `/exec/${exec.Id}/json`)).status).toBe(404);
  await damage("UPDATE events SET attributes = 'x' WHERE row = (SELECT max(row) FROM events)");
  const { status, text } = await engine.api('GET', `/events?since=0&until=${Math.ceil(Date.now() / 1000)}`);
  expect([status, text.split('\n').length > 10]).toEqual([200, true]);
  expect(await ok('exec', 'attached', 'echo', 'here')).toBe('here');
  await ok('restart', '-t', '0', 'attached');
  await ok('rm', '-f', 'attached');
  await works();
});
