/** A host's firewall is loaded anew, names' server dies, the host's own servers of names are asked: in a network
 * namespace of the daemon's own, where a test may
 *  flush every rule there is, and be whom the host asks. */
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startEngine, type TestEngine } from './engine.ts';
import { until } from './until.ts';

const NETNS = `hfr${process.pid}`;
const PORT = 24_000 + (process.pid % 400);
/** As /etc/nftables.conf of a host begins. */
const CONFIGURATION = `flush ruleset
table inet mine {
  chain input { type filter hook input priority 0; policy accept; tcp dport 9 drop; }
}
`;

let engine: TestEngine;
let [address, gateway] = ['', ''];
const there = (command: string, input = ''): string =>
  execFileSync('nsenter', [`--net=/run/netns/${NETNS}`, 'sh', '-c', command], {
    encoding: 'utf8',
    input,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
const docker = (...args: string[]) => engine.docker(...args).result;
const dnsPid = (): number => Number(readFileSync(join(engine.execRoot, 'names/aardvark.pid'), 'utf8'));

/**
 * What of it works: the port on the host, and from another network by the host; that nothing else gets from there;
 * names; no way out of an internal network.
 */
async function works(): Promise<Record<string, boolean>> {
  const from = async (name: string, url: string): Promise<string> =>
    (await docker('exec', name, 'timeout', '3', 'wget', '-qO-', url)).stdout.trim();
  const reached = async (name: string): Promise<boolean> =>
    (await docker('exec', name, 'timeout', '2', 'nc', '-w', '1', address, '80')).exitCode === 0;
  return {
    port: (await engine.curl(`http://127.0.0.1:${PORT}/`).catch(() => '')).trim() === 'web',
    'port from another network': (await from('stranger', `http://${gateway}:${PORT}/`)) === 'web',
    apart: !(await reached('stranger')),
    name: (await from('neighbour', 'http://web/')) === 'web',
    internal: !(await reached('locked')),
  };
}
const ALL = { port: true, 'port from another network': true, apart: true, name: true, internal: true };
async function allWorks(): Promise<void> {
  let last: unknown;
  await until(async () => JSON.stringify((last = await works())) === JSON.stringify(ALL)).catch(() =>
    expect(last).toEqual(ALL),
  );
}

beforeAll(async () => {
  execFileSync('ip', ['netns', 'add', NETNS]);
  execFileSync('ip', ['-n', NETNS, 'link', 'set', 'lo', 'up']);
  engine = await startEngine({ netns: NETNS });
  for (const network of [['n1'], ['n2'], ['--internal', 'inner']])
    await engine.dockerOutput('network', 'create', ...network);
  await engine.dockerOutput(
    'run',
    '-d',
    '--name',
    'web',
    '--network',
    'n1',
    '-p',
    `${PORT}:80`,
    'busybox',
    'sh',
    '-c',
    'mkdir -p /w; echo web > /w/index.html; exec httpd -f -h /w -p 80',
  );
  for (const [name, network] of [
    ['neighbour', 'n1'],
    ['stranger', 'n2'],
    ['locked', 'inner'],
  ])
    await engine.dockerOutput('run', '-d', '--name', name!, '--network', network!, 'busybox', 'sleep', '10000');
  address = (await engine.dockerOutput('inspect', '-f', '{{.NetworkSettings.Networks.n1.IPAddress}}', 'web')).trim();
  gateway = (await engine.dockerOutput('inspect', '-f', '{{.NetworkSettings.Networks.n2.Gateway}}', 'stranger')).trim();
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  execFileSync('ip', ['netns', 'del', NETNS]);
});
beforeEach(allWorks);

test('nft flush ruleset: all rules come back by themselves', async () => {
  there('nft flush ruleset');
  await allWorks();
});

test('nft -f of the host’s own rules: ours come back, and theirs stay', async () => {
  there('nft -f -', CONFIGURATION);
  await allWorks();
  expect(there('nft list ruleset')).toContain('tcp dport 9 drop');
});

test('iptables anew, with DROP for all that nobody has a rule for', async () => {
  there(
    'iptables -P FORWARD DROP; iptables -F FORWARD; iptables -P INPUT DROP; iptables -F INPUT; iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT',
  );
  try {
    await until(async () => JSON.stringify(await works()) === JSON.stringify(ALL));
  } finally {
    there('iptables -P FORWARD ACCEPT; iptables -P INPUT ACCEPT');
  }
});

test('one rule of ours taken out, or a chain emptied', async () => {
  const table = /table ip (holdfast_\w+)/.exec(there('nft list tables'))![1]!;
  there(`nft flush chain ip ${table} forward`);
  await allWorks();
  there(`nft flush map ip ${table} ports`);
  await allWorks();
});

test('the server of names killed, and every rule with it', async () => {
  process.kill(dnsPid(), 'SIGKILL');
  there('nft flush ruleset');
  await allWorks();
});

test('all of it while there is no daemon: the next one puts it back', async () => {
  await engine.kill9();
  process.kill(dnsPid(), 'SIGKILL');
  there('nft -f -', CONFIGURATION);
  await engine.startAgain();
  await allWorks();
});

test('what no container is called is asked of the servers that the host has', async () => {
  const server = /^nameserver\s+([\d.]+)/m.exec(readFileSync('/etc/resolv.conf', 'utf8'))?.[1];
  if (server === undefined) throw new Error('this host has no IPv4 server of names');
  if (!server.startsWith('127.')) there(`ip addr add ${server}/32 dev lo`);
  // One A record, 192.0.2.9, for whatever is asked (RFC 1035).
  const answering = `
    const s = require('dgram').createSocket('udp4');
    s.on('message', (query, from) => {
      const end = query.indexOf(0, 12) + 5;
      const head = Buffer.from([query[0], query[1], 0x81, 0x80, 0, 1, 0, query[end - 3] === 1 ? 1 : 0, 0, 0, 0, 0]);
      const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 9]);
      s.send(Buffer.concat([head, query.subarray(12, end), ...(head[7] ? [record] : [])]), from.port, from.address);
    }).bind(53, process.argv[1], () => console.log('ready'));`;
  const stub = spawn('nsenter', [`--net=/run/netns/${NETNS}`, process.execPath, '-e', answering, server], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await new Promise((resolve) => stub.stdout.once('data', resolve));
    await until(async () =>
      (await docker('exec', 'neighbour', 'nslookup', 'elsewhere.example')).stdout.includes('192.0.2.9'),
    );
    expect((await docker('exec', 'neighbour', 'nslookup', 'web')).stdout).toContain(address);
    expect((await docker('exec', 'locked', 'nslookup', 'elsewhere.example')).stdout).not.toContain('192.0.2.9');
  } finally {
    stub.kill('SIGKILL');
    if (!server.startsWith('127.')) there(`ip addr del ${server}/32 dev lo`);
  }
});
