/** The firewall beside other programs that change rules. */
import { spawn } from 'node:child_process';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { PortSetup } from '../../src/engine/networks/driver.ts';
import { Firewall } from '../../src/engine/networks/firewall.ts';
import { deleteUnusedTable } from '../../src/sys/nftables.ts';
import { bridge, bridges as many, NftNetns } from '../support/nft-netns.ts';

const NAME = 'holdfast_t';
let netns: NftNetns;
const nft = (...args: string[]): string => netns.nft(...args);
/** A firewall whose sockets belong to the namespace. */
const firewallInside = async (): Promise<Firewall> => {
  const made = new Firewall(NAME);
  await netns.within(() => made.declare([], {}));
  return made;
};

beforeAll(() => void (netns = new NftNetns()));
afterEach(() => void nft('flush', 'ruleset'));
afterAll(() => netns?.remove());

const port: PortSetup = {
  protocol: 'tcp',
  hostIp: '0.0.0.0',
  hostPort: 80,
  address: '10.1.0.2',
  port: 8,
  via: 'kernel',
};
const openings = { ports: [port], dnsClients: [] };

test('replaces chains and maps of another kind that have its names [nft-other-kind]', async () => {
  const firewall = await firewallInside();
  for (const other of [
    'chain forward { type filter hook input priority 7; }',
    'chain guard { ip saddr 192.0.2.1 drop; }',
    'map ports { type inet_service : ipv4_addr; elements = { 80 : 10.1.0.9 }; }',
  ]) {
    netns.load(`flush ruleset\ntable ip ${NAME} { ${other}\n}\ntable ip theirs { chain c { accept; }\n}\n`);
    await firewall.declare([bridge('br0')], {});
    firewall.sync(openings);
    const found = nft('list', 'ruleset');
    expect(found).toContain('tcp . 80 : 10.1.0.2 . 8');
    expect(found).not.toMatch(/hook input|192\.0\.2\.1|10\.1\.0\.9/);
    expect(found).toContain('table ip theirs');
  }
  firewall.remove();
  expect(nft('list', 'tables')).toBe('table ip theirs\n');
  firewall.remove();
});

test('removes the table of IPv6 with its last bridge, and changes one port in place [nft-sync]', async () => {
  const firewall = await firewallInside();
  await firewall.declare([bridge('br0')], {});
  expect(nft('list', 'tables')).toBe(`table ip ${NAME}\ntable ip6 ${NAME}\n`);
  firewall.sync(openings);
  await firewall.declare([bridge('br0', { addresses: ['10.1.0.1/16'] })], {});
  expect(nft('list', 'tables')).toBe(`table ip ${NAME}\n`);
  expect(nft('list', 'map', 'ip', NAME, 'ports')).toContain('tcp . 80 : 10.1.0.2 . 8');
  expect(firewall.isIntact()).toBe(true);
  const count = firewall.generation();
  firewall.sync(openings);
  expect(firewall.generation()).toBe(count);
  firewall.sync({ ports: [{ ...port, address: '10.1.0.3' }], dnsClients: [] });
  expect(firewall.generation()).toBe(count + 1);
  expect(nft('list', 'map', 'ip', NAME, 'ports')).toContain('tcp . 80 : 10.1.0.3 . 8');
  expect(firewall.isIntact()).toBe(true);
});

test('is not disturbed by a program that changes rules at the same time [nft-concurrent]', async () => {
  const noise =
    'while :; do nft -f - <<E\nadd table ip noise\nadd chain ip noise c\nadd rule ip noise c accept\ndelete table ip noise\nE\ndone';
  const other = spawn('nsenter', [`--net=${netns.path}`, 'sh', '-c', noise], { stdio: 'ignore', detached: true });
  let rounds = 0;
  try {
    const firewall = await firewallInside();
    const start = firewall.generation();
    // Each round is two changes of ours. The other program makes some, too.
    while (rounds < 100 || firewall.generation() - start < 2 * rounds + 20) {
      rounds += 1;
      await firewall.declare(many(1 + (rounds % 7)), {});
      firewall.sync({ ports: [{ ...port, hostPort: rounds }], dnsClients: [] });
    }
  } finally {
    process.kill(-other.pid!, 'SIGKILL');
    await new Promise((resolve) => other.once('exit', resolve));
  }
  const found = nft('list', 'table', 'ip', NAME);
  expect(found).toContain(`elements = { tcp . ${rounds} : 10.1.0.2 . 8 }`);
  expect(found.match(/(?<=^\t\t)oifname "br-\d+" drop$/gm)).toEqual(
    many(1 + (rounds % 7)).map(({ link }) => `oifname "${link}" drop`),
  );
});

test('an empty table of iptables is deleted, one in use is not [nft-unused-table]', () => {
  const deleted = (...content: string[]): boolean => {
    netns.load(
      `flush ruleset\ntable ip other {\nchain c { accept; }\n}\ntable ip filter {\n${content.join('\n')}\n}\n`,
    );
    deleteUnusedTable(netns.socket, { family: 'ip', table: 'filter' });
    return nft('list', 'tables') === 'table ip other\n';
  };
  const chain = (rest: string): string => `chain FORWARD { type filter hook forward priority 0; ${rest}\n}`;
  expect(deleted(chain('policy accept;'))).toBe(true);
  expect(deleted()).toBe(true);
  deleteUnusedTable(netns.socket, { family: 'ip', table: 'filter' });
  for (const inUse of [
    [chain('policy drop;')],
    [chain('policy accept; ip saddr 192.0.2.1 drop;')],
    [chain('policy accept;'), 'chain mine { }'],
    ['set s { type ipv4_addr; }'],
  ])
    expect([inUse, deleted(...inUse)]).toEqual([inUse, false]);
});
