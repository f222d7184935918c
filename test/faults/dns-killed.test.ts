/**
 * Names while daemon and DNS server are killed, replaced and frozen. A program in a container asks all the time, each
 * question once: a lost one is a failure that a user would see as a delay of seconds.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { ask, dataOf, queryLoop } from '../support/dns-client.ts';
import { dnsHolders, dnsServer, dnsServers } from '../support/dns-server.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { hasExited, isDead } from '../support/processes.ts';
import { until } from '../support/until.ts';

interface Inspected {
  State: { Pid: number };
  NetworkSettings: { Networks: Record<string, { IPAddress: string; Gateway: string }> };
}

const DEADLINE_MS = 60_000;
let engine: TestEngine;
/** Of the container that asks. */
let [pid, gateway, address] = [0, '', ''];
const { ok: dockerOk, inspect } = dockerOf<Inspected>(() => engine);
const sleeper = (name: string): Promise<string> =>
  dockerOk('run', '-d', '--name', name, '--network', 'dn', 'busybox', 'sleep', '1000');
const resolved = async (name: string): Promise<unknown[]> => dataOf(await ask({ pid, server: gateway, name }));

beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());
beforeEach(async () => {
  await dockerOk('network', 'create', 'dn');
  await sleeper('cc');
  await sleeper('dd');
  pid = (await inspect('dd')).State.Pid;
  gateway = (await inspect('dd')).NetworkSettings.Networks.dn!.Gateway;
  address = (await inspect('cc')).NetworkSettings.Networks.dn!.IPAddress;
});
afterEach(async () => {
  const all = (await engine.api('GET', '/containers/json?all=1')).json as { Id: string }[];
  await Promise.all(all.map(({ Id }) => engine.api('DELETE', `/containers/${Id}?force=1`)));
  await dockerOk('network', 'rm', 'dn');
});

test('no question is lost while the daemon is killed and started, and names change [dns-daemon-killed]', async () => {
  const server = dnsServer(engine);
  using loop = queryLoop(pid, gateway, 'cc');
  const goesOn = async (): Promise<void> => {
    const before = loop.answered();
    await until(() => loop.answered() > before + 10, DEADLINE_MS);
  };
  await goesOn();
  for (let i = 0; i < 3; i++) {
    await engine.kill9();
    await goesOn();
    await engine.startAgain();
    await goesOn();
    await sleeper(`new${i}`);
    expect(await resolved(`new${i}`)).toHaveLength(1);
    await dockerOk('network', 'disconnect', 'dn', `new${i}`);
    await goesOn();
  }
  await engine.stop();
  await goesOn();
  await engine.startAgain();
  await goesOn();
  expect(loop.failures()).toEqual([]);
  // The daemons have told the same server.
  expect(dnsServer(engine)).toBe(server);
});

test('a killed server loses at most what it had read [dns-server-killed]', async () => {
  using loop = queryLoop(pid, gateway, 'cc');
  await until(() => loop.answered() > 10, DEADLINE_MS);
  const KILLS = 3;
  for (let i = 0; i < KILLS; i++) {
    const old = dnsServer(engine);
    process.kill(old, 'SIGKILL');
    await until(() => dnsServers(engine).some((each) => each !== old), DEADLINE_MS);
    const before = loop.answered();
    await until(() => loop.answered() > before + 10, DEADLINE_MS);
  }
  // One question is asked at a time, so at most one is read when the server dies. None is refused.
  expect(loop.failures().filter((line) => line !== 'lost')).toEqual([]);
  expect(loop.failures().length).toBeLessThanOrEqual(KILLS);
});

test('questions wait while neither daemon nor server runs [dns-all-killed]', async () => {
  await engine.kill9();
  process.kill(dnsServer(engine), 'SIGKILL');
  await until(() => dnsServers(engine).length === 0, DEADLINE_MS);
  const asked = resolved('cc');
  await engine.startAgain();
  expect(await asked).toEqual([address]);
});

test('a killed socket holder, a frozen server and lost files are replaced [dns-damage]', async () => {
  const holders = dnsHolders(engine);
  for (const holder of holders) process.kill(holder, 'SIGKILL');
  await until(() => dnsHolders(engine).some((each) => !holders.includes(each)), DEADLINE_MS);
  expect(await resolved('cc')).toEqual([address]);
  // The daemon notices a frozen server when it has something to tell.
  const frozen = dnsServer(engine);
  process.kill(frozen, 'SIGSTOP');
  await sleeper('late');
  expect(await resolved('late')).toHaveLength(1);
  expect(isDead(frozen)).toBe(true);
  // As damaged as a file can be.
  await engine.kill9();
  process.kill(dnsServer(engine), 'SIGKILL');
  for (const name of ['tables.json', 'holders.json']) writeFileSync(join(engine.execRoot, 'dns', name), '{');
  for (const holder of dnsHolders(engine)) process.kill(holder, 'SIGKILL');
  await engine.startAgain();
  expect(await resolved('cc')).toEqual([address]);
});

/** Listens on the network's address as aardvark-dns did, with its command line. */
const AARDVARK = `require('dgram').createSocket('udp4').bind(53, process.argv[1], () => console.log('ready'));`;
async function startAardvark(directory: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, ['-e', AARDVARK, gateway, '--', '--config', directory, '-p', '53', 'run'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'aardvark.pid'), String(child.pid));
  return child;
}

test('an aardvark-dns of an earlier release is ended, no other process is [dns-upgrade]', async () => {
  const directory = join(engine.execRoot, 'names');
  await engine.kill9();
  for (const each of [...dnsServers(engine), ...dnsHolders(engine)]) process.kill(each, 'SIGKILL');
  await until(() => dnsServers(engine).length + dnsHolders(engine).length === 0, DEADLINE_MS);
  const stranger = spawn('sleep', ['1000'], { stdio: 'ignore' });
  const aardvark = await startAardvark(directory);
  try {
    await engine.startAgain();
    await until(() => hasExited(aardvark), DEADLINE_MS);
    // For a moment nobody listens at the addresses, and a question may get lost.
    await until(async () => (await resolved('cc').catch((): unknown[] => [])).includes(address), DEADLINE_MS);
    await engine.kill9();
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'aardvark.pid'), String(stranger.pid));
    await engine.startAgain();
    expect(await resolved('cc')).toEqual([address]);
    expect(hasExited(stranger)).toBe(false);
  } finally {
    stranger.kill('SIGKILL');
    aardvark.kill('SIGKILL');
  }
});
