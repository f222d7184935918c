/** A daemon that starts with something that it cannot handle: that is logged, and everything else works. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { archive } from '../support/tar.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok, refusal } = dockerOf<{ Id: string }>(() => engine);
const log = (): string => readFileSync(join(engine.root, 'log'), 'utf8');

test('a link of another kind with the name of a bridge: containers of the other networks run [start-foreign-link]', async () => {
  const id = await ok('network', 'create', 'blocked');
  const bridge = `br-${id.slice(0, 12)}`;
  await engine.stop();
  // The bridge was deleted with the daemon; its name belongs to a link of another kind now.
  execFileSync('ip', ['link', 'add', bridge, 'type', 'veth', 'peer', 'name', `p${bridge.slice(1)}`]);
  try {
    await engine.startAgain();
    expect(await ok('run', '--rm', 'busybox', 'echo', 'works')).toBe('works');
    expect(await ok('network', 'create', 'another')).not.toBe('');
    expect(await ok('run', '--rm', '--network', 'another', 'busybox', 'echo', 'works')).toBe('works');
    expect(await refusal('run', '--rm', '--network', 'blocked', 'busybox', 'true')).toContain('networking');
  } finally {
    execFileSync('ip', ['link', 'del', bridge]);
  }
  expect(await ok('run', '--rm', '--network', 'blocked', 'busybox', 'echo', 'works')).toBe('works');
  await ok('network', 'rm', 'blocked', 'another');
});

test('a layer that cannot be deleted: its image is gone, and a later daemon deletes it [layer-irremovable]', async () => {
  const layers = join(engine.root, 'data/images/layers');
  const before = readdirSync(layers);
  const imported = await engine.api('POST', '/images/create?fromSrc=-&repo=other', archive(['file', 'x']), {
    'Content-Type': 'application/x-tar',
  });
  expect(imported.status).toBe(200);
  const layer = join(
    layers,
    readdirSync(layers).find((name) => !before.includes(name))!,
  );
  execFileSync('chattr', ['+i', join(layer, 'diff/file')]);
  try {
    expect(await refusal('rmi', 'other')).toContain('Operation not permitted');
    await engine.stop();
    await engine.startAgain();
    await until(() => log().includes('could not delete unused layers'));
    expect(await ok('image', 'ls', '-q', 'other')).toBe('');
    expect(await ok('run', '--rm', 'busybox', 'echo', 'works')).toBe('works');
  } finally {
    execFileSync('chattr', ['-i', join(layer, 'diff/file')]);
  }
  await engine.stop();
  await engine.startAgain();
  await until(() => !existsSync(layer));
});
