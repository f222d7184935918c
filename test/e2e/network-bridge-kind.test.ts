/** A link that is no bridge has the name of a network's bridge. The daemon runs in a network namespace of its own. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';

const NETNS = `hfk${process.pid}`;
let engine: TestEngine;
const ip = (...args: string[]): string => execFileSync('ip', ['-n', NETNS, ...args], { encoding: 'utf8' });
/** Adds a link of another kind. */
const addOther = (link: string): string => ip('link', 'add', link, 'type', 'veth', 'peer', 'name', `${link}-peer`);
const createNamed = (link: string, network: string): string[] => [
  ...['network', 'create', '-o', `com.docker.network.bridge.name=${link}`, network],
];

beforeAll(async () => {
  execFileSync('ip', ['netns', 'add', NETNS]);
  ip('link', 'set', 'lo', 'up');
  engine = await startEngine({ netns: NETNS });
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  execFileSync('ip', ['netns', 'del', NETNS]);
});

test('a network is not created on a link that is no bridge, and the link stays as it is [bridge-kind-create]', async () => {
  addOther('nobridge');
  const before = ip('address', 'show', 'dev', 'nobridge');
  expect(await engine.dockerRefusal(...createNamed('nobridge', 'wrong'))).toBe(
    'Error response from daemon: failed to create network wrong: existing interface nobridge is not a bridge\n',
  );
  expect(ip('address', 'show', 'dev', 'nobridge')).toBe(before);
  expect(await engine.dockerOutput('network', 'ls', '--format', '{{.Name}}')).not.toContain('wrong');
});

test('a start fails with the name of the link, and works when the bridge can be made again [bridge-kind-start]', async () => {
  await engine.dockerOutput(...createNamed('taken', 'right'));
  await engine.dockerOutput('create', '--name', 'job', '--network', 'right', 'busybox', 'true');
  for (const restart of [false, true]) {
    ip('link', 'delete', 'taken');
    addOther('taken');
    if (restart) {
      await engine.kill9();
      await engine.startAgain();
    }
    expect(await engine.dockerRefusal('start', 'job')).toContain(
      'failed to set up container networking: existing interface taken is not a bridge',
    );
    await engine.dockerOutput('run', '--rm', 'busybox', 'true');
    ip('link', 'delete', 'taken');
    await engine.dockerOutput('start', '-a', 'job');
  }
  // Not removed with the network, because it is not its bridge.
  ip('link', 'delete', 'taken');
  addOther('taken');
  await engine.dockerOutput('rm', 'job');
  await engine.dockerOutput('network', 'rm', 'right');
  expect(ip('link', 'show', 'dev', 'taken')).toContain('taken');
});
