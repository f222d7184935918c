/**
 * The daemon restores its firewall rules and its DNS server after another program removed them. The daemon runs in a
 * network namespace of its own, where a test may flush the whole ruleset and play the DNS server of the host.
 */
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { dnsServer } from '../support/dns-server.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

const NETNS = `hfr${process.pid}`;
const PORT = 24_000 + (process.pid % 400);
/** Starts like the /etc/nftables.conf of a host. */
const CONFIGURATION = `flush ruleset
table inet mine {
  chain input { type filter hook input priority 0; policy accept; tcp dport 9 drop; }
}
`;

let engine: TestEngine;
let [address, gateway] = ['', ''];
const inNetns = (command: string, input = ''): string =>
  execFileSync('nsenter', [`--net=/run/netns/${NETNS}`, 'sh', '-c', command], {
    encoding: 'utf8',
    input,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
const { docker } = dockerOf(() => engine);

/**
 * Checks each property: the published port on the host and from another network through the host; isolation of that
 * network; names; no way out of an internal network.
 */
async function probe(): Promise<Record<string, boolean>> {
  const from = async (name: string, url: string): Promise<string> =>
    (await docker('exec', name, 'timeout', '3', 'wget', '-qO-', url)).stdout.trim();
  const reached = async (name: string): Promise<boolean> =>
    (await docker('exec', name, 'timeout', '2', 'nc', '-w', '1', address, '80')).exitCode === 0;
  return {
    port: (await engine.curl(`http://127.0.0.1:${PORT}/`).catch(() => '')).trim() === 'web',
    'port from another network': (await from('stranger', `http://${gateway}:${PORT}/`)) === 'web',
    isolated: !(await reached('stranger')),
    name: (await from('neighbour', 'http://web/')) === 'web',
    internal: !(await reached('locked')),
  };
}
const ALL = { port: true, 'port from another network': true, isolated: true, name: true, internal: true };
async function expectAll(): Promise<void> {
  let last: unknown;
  await until(async () => {
    last = await probe();
    return JSON.stringify(last) === JSON.stringify(ALL);
  }).catch(() => expect(last).toEqual(ALL));
}

beforeAll(async () => {
  execFileSync('ip', ['netns', 'add', NETNS]);
  execFileSync('ip', ['-n', NETNS, 'link', 'set', 'lo', 'up']);
  engine = await startEngine({ netns: NETNS });
  for (const network of [['n1'], ['n2'], ['--internal', 'inner']])
    await engine.dockerOutput('network', 'create', ...network);
  await engine.dockerOutput(
    ...['run', '-d', '--name', 'web', '--network', 'n1', '-p', `${PORT}:80`],
    ...['busybox', 'sh', '-c', 'mkdir -p /w; echo web > /w/index.html; exec httpd -f -h /w -p 80'],
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
beforeEach(expectAll);

test('all rules are restored after nft flush ruleset [rules-restored-flush]', async () => {
  inNetns('nft flush ruleset');
  await expectAll();
});

test('rules are restored after nft -f of the host’s own rules, which stay [rules-restored-reload]', async () => {
  inNetns('nft -f -', CONFIGURATION);
  await expectAll();
  expect(inNetns('nft list ruleset')).toContain('tcp dport 9 drop');
});

test('rules are restored after an iptables reload with policy DROP [rules-restored-iptables]', async () => {
  inNetns(
    'iptables -P FORWARD DROP; iptables -F FORWARD; iptables -P INPUT DROP; iptables -F INPUT; iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT',
  );
  try {
    await until(async () => JSON.stringify(await probe()) === JSON.stringify(ALL));
  } finally {
    inNetns('iptables -P FORWARD ACCEPT; iptables -P INPUT ACCEPT');
  }
});

test('a single flushed chain or map is restored [rules-restored-single]', async () => {
  const table = /table ip (holdfast_\w+)/.exec(inNetns('nft list tables'))![1]!;
  inNetns(`nft flush chain ip ${table} forward`);
  await expectAll();
  inNetns(`nft flush map ip ${table} ports`);
  await expectAll();
});

test('a killed DNS server and all rules are restored [dns-server-restored]', async () => {
  process.kill(dnsServer(engine), 'SIGKILL');
  inNetns('nft flush ruleset');
  await expectAll();
});

test('the next daemon restores rules and DNS server lost while none ran [rules-restored-start]', async () => {
  await engine.kill9();
  process.kill(dnsServer(engine), 'SIGKILL');
  inNetns('nft -f -', CONFIGURATION);
  await engine.startAgain();
  await expectAll();
});

test('unknown names are forwarded to the host’s DNS servers, not from an internal network [dns-host-upstream]', async () => {
  const server = /^nameserver\s+([\d.]+)/m.exec(readFileSync('/etc/resolv.conf', 'utf8'))?.[1];
  if (server === undefined) throw new Error('this host has no IPv4 DNS server in /etc/resolv.conf');
  if (!server.startsWith('127.')) inNetns(`ip addr add ${server}/32 dev lo`);
  // Answers every A query with 192.0.2.9 (RFC 1035).
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
    if (!server.startsWith('127.')) inNetns(`ip addr del ${server}/32 dev lo`);
  }
});
