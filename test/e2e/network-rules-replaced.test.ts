/**
 * A daemon finds the firewall's tables as the previous release wrote them, by nft(8), and replaces them while traffic
 * flows. The daemon runs in a network namespace of its own.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

const NETNS = `hfv${process.pid}`;
const PORT = 25_000 + (process.pid % 400);
/**
 * Keeps one connection that echoes every 10 ms, and makes a new one every 10 ms. Prints counts, and what failed, as
 * JSON. A new connection that ends before its answer has failed.
 */
const TRAFFIC = `
const net = require('node:net');
const [address, port] = process.argv.slice(1);
const state = { sent: 0, echoed: 0, fresh: 0, failures: [] };
const fail = (what) => state.failures.push(what);
const steady = net.connect(port, address);
steady.on('data', (data) => (state.echoed += data.length));
steady.on('error', (error) => fail('steady: ' + error.code)).on('close', () => fail('steady: closed'));
setInterval(() => { steady.write('x'); state.sent++; }, 10);
function next() {
  let answered = false;
  const socket = net.connect(port, address, () => socket.write('y'));
  socket.on('data', () => { answered = true; socket.destroy(); });
  socket.on('error', (error) => fail('fresh: ' + error.code));
  socket.on('close', () => { if (answered) state.fresh++; else fail('fresh: closed'); setTimeout(next, 10); });
}
next();
setInterval(() => console.log(JSON.stringify(state)), 100);
`;

interface Traffic {
  sent: number;
  echoed: number;
  fresh: number;
  failures: string[];
}

let engine: TestEngine;
const nft = (input: string, ...args: string[]): string =>
  execFileSync('nsenter', [`--net=/run/netns/${NETNS}`, 'nft', ...args], { encoding: 'utf8', input });

beforeAll(async () => {
  execFileSync('ip', ['netns', 'add', NETNS]);
  execFileSync('ip', ['-n', NETNS, 'link', 'set', 'lo', 'up']);
  engine = await startEngine({ netns: NETNS });
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  execFileSync('ip', ['netns', 'del', NETNS]);
});

test('tables that nft wrote are replaced without a gap for connections, old and new [nft-tables-replaced]', async () => {
  await engine.dockerOutput('network', 'create', '--ipv6', 'n');
  await engine.dockerOutput(
    ...['run', '-d', '--name', 'echo', '--network', 'n', '-p', `${PORT}:7`],
    ...['busybox', 'nc', '-ll', '-p', '7', '-e', 'cat'],
  );
  const tables = [...nft('', 'list', 'tables').matchAll(/table (ip6?) (holdfast_\w+)/g)];
  expect(tables.map(([, family]) => family)).toEqual(['ip', 'ip6']);
  const listing = (): string =>
    tables.map(([, family, name]) => nft('', '-s', '-n', 'list', 'table', family!, name!)).join('');
  // Bridges, and the elements of a set, are in no order.
  const rulesOf = (text: string): string[] =>
    text
      .replace(/(?<=iifname != )\{[^}]*\}/g, '{}')
      .split('\n')
      .sort();
  const written = listing();

  const address = (
    await engine.dockerOutput('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Gateway}}', 'n')
  ).trim();
  const traffic = spawn(
    'nsenter',
    [`--net=/run/netns/${NETNS}`, process.execPath, '-e', TRAFFIC, address, String(PORT)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let last: Traffic = { sent: 0, echoed: 0, fresh: 0, failures: [] };
  createInterface(traffic.stdout).on('line', (line) => (last = JSON.parse(line) as Traffic));
  const flows = async (): Promise<void> => {
    const { echoed, fresh } = last;
    await until(() => last.failures.length > 0 || (last.echoed > echoed + 20 && last.fresh > fresh + 5), 30_000);
    expect(last.failures).toEqual([]);
  };
  try {
    await flows();
    for (const end of [() => engine.kill9(), () => engine.stop()]) {
      await end();
      nft(`${tables.map(([, family, name]) => `delete table ${family} ${name}\n`).join('')}${written}`, '-f', '-');
      const handles = nft('', '-a', 'list', 'ruleset');
      await flows();
      await engine.startAgain();
      await flows();
      // The rules are new ones; what they say is the same.
      expect(nft('', '-a', 'list', 'ruleset')).not.toBe(handles);
      expect(rulesOf(listing())).toEqual(rulesOf(written));
    }
  } finally {
    traffic.kill('SIGKILL');
  }
  expect(last.echoed).toBeGreaterThan(last.sent - 100);
});
