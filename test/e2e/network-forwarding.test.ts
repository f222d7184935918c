/**
 * Where the daemon switches IP forwarding on, the host does not become a router between its other networks. Each daemon
 * runs in a network namespace of its own, the host, with two neighbours that have it as their default gateway.
 */
import { execFileSync } from 'node:child_process';
import { afterEach, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

const HOST = `hff${process.pid}`;
const [EAST, WEST] = [`hfe${process.pid}`, `hfw${process.pid}`];
const SIDES = [
  {
    netns: EAST,
    link: 'east',
    gateway: '192.0.2.1',
    address: '192.0.2.2',
    gateway6: 'fd00:e::1',
    address6: 'fd00:e::2',
  },
  {
    netns: WEST,
    link: 'west',
    gateway: '198.51.100.1',
    address: '198.51.100.2',
    gateway6: 'fd00:f::1',
    address6: 'fd00:f::2',
  },
] as const;
const [east, west] = SIDES;

const ip = (netns: string, ...args: string[]): string =>
  execFileSync('ip', ['-n', netns, ...args], { encoding: 'utf8' });
const run = (netns: string, ...command: string[]): string =>
  execFileSync('nsenter', [`--net=/run/netns/${netns}`, ...command], { encoding: 'utf8', stdio: 'pipe' });

/** A host that has two neighbours, and forwards or not. */
function makeHost(forwards: '0' | '1'): void {
  for (const netns of [HOST, EAST, WEST]) {
    execFileSync('ip', ['netns', 'add', netns]);
    ip(netns, 'link', 'set', 'lo', 'up');
  }
  for (const { netns, link, gateway, address, gateway6, address6 } of SIDES) {
    ip(HOST, 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns);
    ip(HOST, 'addr', 'add', `${gateway}/24`, 'dev', link);
    ip(HOST, 'addr', 'add', `${gateway6}/64`, 'dev', link, 'nodad');
    ip(HOST, 'link', 'set', link, 'up');
    ip(netns, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
    ip(netns, 'addr', 'add', `${address6}/64`, 'dev', 'eth0', 'nodad');
    ip(netns, 'link', 'set', 'eth0', 'up');
    ip(netns, 'route', 'add', 'default', 'via', gateway);
    ip(netns, 'route', 'add', 'default', 'via', gateway6);
  }
  for (const setting of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding'])
    run(HOST, 'sh', '-c', `echo ${forwards} > /proc/sys/net/${setting}`);
}

function reaches(from: string, address: string): boolean {
  try {
    run(from, 'busybox', address.includes(':') ? 'ping6' : 'ping', '-c', '1', '-W', '1', address);
    return true;
  } catch {
    return false;
  }
}
const routes = (): boolean[] => [reaches(EAST, west.address), reaches(EAST, west.address6)];
const setting = (path: string): string => run(HOST, 'cat', `/proc/sys/net/${path}`).trim();

let engine: TestEngine | undefined;
afterEach(async () => {
  await engine?.[Symbol.asyncDispose]();
  engine = undefined;
  for (const netns of [HOST, EAST, WEST]) execFileSync('ip', ['netns', 'del', netns]);
});

test('a host that did not forward does not route between its networks [forward-others-dropped]', async () => {
  makeHost('0');
  engine = await startEngine({ netns: HOST });
  await engine.dockerOutput('network', 'create', '--ipv6', 'six');
  await engine.dockerOutput('run', '-d', '--name', 'inside', '--network', 'six', 'busybox', 'sleep', '10000');
  expect([setting('ipv4/ip_forward'), setting('ipv6/conf/all/forwarding')]).toEqual(['1', '1']);
  expect(reaches(HOST, west.address)).toBe(true);
  expect(routes()).toEqual([false, false]);
  // Containers get out.
  await engine.dockerOutput('exec', 'inside', 'ping', '-c', '1', '-W', '3', east.address);
  await engine.dockerOutput('exec', 'inside', 'ping', '-c', '1', '-W', '3', east.address6);

  // The next daemon finds forwarding on, and knows who switched it on.
  await engine.kill9();
  run(HOST, 'nft', 'flush', 'ruleset');
  expect(routes()).toEqual([true, true]);
  await engine.startAgain();
  await until(() => !routes().some(Boolean));

  // An accept rule of the administrator's has its effect.
  run(HOST, 'iptables', '-I', 'FORWARD', '-i', 'east', '-o', 'west', '-j', 'ACCEPT');
  run(HOST, 'iptables', '-I', 'FORWARD', '-i', 'west', '-o', 'east', '-j', 'ACCEPT');
  expect(routes()).toEqual([true, false]);
});

test('a host that forwarded before goes on routing [forward-before-kept]', async () => {
  makeHost('1');
  engine = await startEngine({ netns: HOST });
  await engine.dockerOutput('network', 'create', '--ipv6', 'six');
  // The first answers wait for neighbour discovery on the new links.
  await until(() => routes().every(Boolean));
  await engine.stop();
  await engine.startAgain();
  expect(routes()).toEqual([true, true]);
});
