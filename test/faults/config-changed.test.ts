/**
 * The daemon comes back with another configuration: what runs keeps the one that it was started with, in fact and in
 * inspect, and new containers get the new one.
 */
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

interface Inspected {
  Id: string;
  State: { Status: string; Pid: number };
  HostConfig: { Runtime: string; LogConfig: { Type: string; Config: Record<string, string> }; ShmSize: number };
  NetworkSettings: { Networks: Record<string, { IPAddress: string; Gateway: string }> };
}

const PORT = 21_930;
let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { inspect, ok } = dockerOf<Inspected>(() => engine);
const SERVE = ['busybox', 'nc', '-ll', '-p', '80', '-e', 'echo', 'here'];

test('defaults of containers change for new ones only [defaults-changed]', async () => {
  await ok('run', '-d', '--name', 'old', 'busybox', 'sh', '-c', 'echo said; exec sleep 9999');
  const before = await inspect('old');
  engine.flags = ['--log-driver', 'none', '--default-shm-size', '32M', '--default-ulimit', 'nofile=500:500'];
  await engine.stop();
  await engine.startAgain();
  expect(await inspect('old')).toEqual(before);
  expect(await ok('logs', 'old')).toBe('said');
  expect(await ok('exec', 'old', 'sh', '-c', 'df -k /dev/shm | tail -1')).toMatch(/\s65536\s/);
  await ok('run', '-d', '--name', 'new', 'busybox', 'sleep', '9999');
  expect((await inspect('new')).HostConfig).toMatchObject({ LogConfig: { Type: 'none' }, ShmSize: 32 * 1024 * 1024 });
  expect(await ok('exec', 'new', 'sh', '-c', 'ulimit -n')).toBe('500');
  // Its own settings belong to it: a restart by policy or by a client keeps them.
  await ok('restart', '-t', '0', 'old');
  expect((await inspect('old')).HostConfig).toEqual(before.HostConfig);
  await until(async () => (await ok('logs', 'old')) === 'said\nsaid', 60_000);
  engine.flags = [];
  await engine.stop();
  await engine.startAgain();
  await ok('rm', '-f', 'old', 'new');
});

test('another subnet of the default bridge leaves running containers reachable at their addresses [bridge-changed]', async () => {
  await ok('run', '-d', '--name', 'old', '-p', `127.0.0.1:${PORT}:80`, ...SERVE);
  await until(async () => (await ask(PORT)) === 'here', 60_000);
  const before = await inspect('old');
  const { IPAddress, Gateway } = before.NetworkSettings.Networks.bridge!;
  const { bip } = engine;
  engine.bip = '10.213.77.1/24';
  await engine.kill9();
  await engine.startAgain();
  expect((await inspect('old')).State).toMatchObject({ Status: 'running', Pid: before.State.Pid });
  expect((await inspect('old')).NetworkSettings).toEqual(before.NetworkSettings);
  expect(await ask(PORT)).toBe('here');
  await ok('exec', 'old', 'ping', '-c', '1', '-W', '10', Gateway);
  await ok('run', '-d', '--name', 'new', ...SERVE);
  const address = (await inspect('new')).NetworkSettings.Networks.bridge!.IPAddress;
  expect(address).toMatch(/^10\.213\.77\./);
  expect(await ok('exec', 'new', 'nc', '-w', '10', IPAddress, '80')).toBe('here');
  // From its next start on, it has an address of the new subnet.
  await ok('stop', '-t', '0', 'old');
  await ok('start', 'old');
  expect((await inspect('old')).NetworkSettings.Networks.bridge!.IPAddress).toMatch(/^10\.213\.77\./);
  await until(async () => (await ask(PORT)) === 'here', 60_000);
  await ok('rm', '-f', 'old', 'new');
  engine.bip = bip;
  await engine.stop();
  await engine.startAgain();
});

function ask(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.on('data', (chunk) => (text += chunk.toString()));
    socket.on('error', (error) => resolve(error.message));
    socket.on('end', () => resolve(text.trim()));
  });
}
