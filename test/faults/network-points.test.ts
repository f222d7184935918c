/**
 * The daemon is killed at every fault point in the life of a network and its containers. The next daemon completes or
 * undoes the step: nothing is left, and everything can be created again.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { linkNames, linksOn } from '../support/links.ts';
import { until } from '../support/until.ts';

/** Fault points of networking. A point that is passed often is tested early and at its last passing. */
const NETWORK_POINTS = /^(network|attachment|netlink|netns|names)\./;
const SUBNET = `10.218.${process.pid % 250}`;
const PORT = 21_000 + (process.pid % 800);

let engine: TestEngine;
let bridge: string;
/** Output of a shell command; empty when it fails. */
const tryShell = (command: string): string => {
  try {
    return execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
};
/**
 * The bridge of the test network and all links on it and on the default bridge; other daemons of this host have their
 * own.
 */
const links = (): string[] => [
  ...linkNames().filter((name) => name === `hft${process.pid}`),
  ...linksOn(`hft${process.pid}`, bridge),
];
/** The steps in the life of a network and a container. */
const steps: readonly (readonly string[])[] = [
  ['network', 'create', '--subnet', `${SUBNET}.0/24`, '-o', `com.docker.network.bridge.name=hft${process.pid}`, 'life'],
  ['run', '-d', '--name', 'one', '--network', 'life', '-p', `${PORT}:80`, 'busybox', 'sleep', '1000'],
  ['network', 'connect', 'bridge', 'one'],
  ['rename', 'one', 'other'],
  ['network', 'disconnect', 'life', 'other'],
  ['network', 'connect', 'life', 'other'],
  ['rm', '-f', 'other'],
  ['network', 'rm', 'life'],
];

async function runSteps(): Promise<void> {
  for (const step of steps) if ((await engine.docker(...step).result).exitCode !== 0) return;
}

/** Removes everything as a client would, and checks that nothing is left anywhere. */
async function removeAll(): Promise<void> {
  // This daemon completes a removal that the previous one had started, and refuses a second one meanwhile (409).
  const gone = async (path: string): Promise<boolean> => [204, 404].includes((await engine.api('DELETE', path)).status);
  for (const path of ['/containers/one?force=1', '/containers/other?force=1', '/networks/life'])
    await until(() => gone(path));
  await until(() => links().length === 0);
  const netns = join(engine.execRoot, 'netns');
  await until(() => !existsSync(netns) || readdirSync(netns).length === 0);
  const names = join(engine.execRoot, 'names');
  await until(() => !existsSync(names) || readdirSync(names).length === 0);
  await until(
    () =>
      !tryShell('iptables -S').includes(`hft${process.pid}`) && tryShell(`nft list ruleset | grep -w ${PORT}`) === '',
  );
  expect((await engine.api('GET', '/networks')).json).toHaveLength(3);
}

beforeAll(async () => {
  engine = await startEngine();
  bridge = ((await engine.api('GET', '/networks/bridge')).json as { Options: Record<string, string> }).Options[
    'com.docker.network.bridge.name'
  ]!;
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

test(
  'a step is completed or undone after a kill at each point [network-step-killed]',
  { timeout: 600_000 },
  async () => {
    const log = join(engine.root, 'points');
    await engine.stop();
    await engine.startAgain({ HOLDFAST_FAULT_LOG: log });
    rmSync(log, { force: true });
    await runSteps();
    await removeAll();
    const passed = readFileSync(log, 'utf8')
      .trim()
      .split('\n')
      .filter((name) => NETWORK_POINTS.test(name));
    const counts = new Map<string, number>();
    for (const name of passed) counts.set(name, (counts.get(name) ?? 0) + 1);
    const points = [...counts].flatMap(([name, count]) =>
      count === 1 ? [name] : [Math.ceil(count / 3), count].map((n) => `${name}#${n}`),
    );
    expect(points.length).toBeGreaterThan(10);
    for (const point of new Set(points)) {
      await engine.stop();
      // At some points it dies before it serves; its kept socket would make clients wait for the next daemon.
      const serves = await engine.startAgain({ HOLDFAST_FAULT: point }).then(
        () => true,
        () => false,
      );
      if (serves) await runSteps();
      await engine.kill9();
      await engine.startAgain();
      await removeAll().catch((error: unknown) => {
        throw new Error(`killed at ${point}: ${(error as Error).message}`, { cause: error });
      });
    }
    // Everything can be created again, with the first address.
    for (const step of steps.slice(0, 2)) {
      const { exitCode, stderr } = await engine.docker(...step).result;
      expect(exitCode, stderr).toBe(0);
    }
    const { stdout } = await engine.docker('inspect', '-f', '{{.NetworkSettings.Networks.life.IPAddress}}', 'one')
      .result;
    expect(stdout.trim()).toBe(`${SUBNET}.2`);
    await removeAll();
  },
);
