/** The firewall's tables as the kernel has them, next to what nft(8) makes of the same rules. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Bridge } from '../../src/engine/networks/driver.ts';
import { tableOf } from '../../src/engine/networks/firewall-rules.ts';
import { putElements, type Family, type Table } from '../../src/sys/nft-messages.ts';
import { rule } from '../../src/sys/nft-rule.ts';
import { commit, commitTables, fingerprint, generation, mapElements, tryTables } from '../../src/sys/nftables.ts';
import { bridge, bridges as many, NftNetns } from '../support/nft-netns.ts';

const NAME = 'holdfast_t';
let netns: NftNetns;
const nft = (...args: string[]): string => netns.nft(...args);
const declare = (...tables: Table[]): Promise<void> => commitTables(netns.socket, tables);
const rejection = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'succeeded',
    (error: unknown) => String(error),
  );

/** The table in nft's language. */
const scriptOf = ({ family, table, sets, chains }: Table): string =>
  [
    `table ${family} ${table} {`,
    ...sets.map(({ name, key, value }) =>
      value
        ? `map ${name} { type ${key.join(' . ')} : ${value.join(' . ')}; }`
        : `set ${name} { type ${key.join(' . ')}; }`,
    ),
    ...chains.map(
      ({ name, type, hook, priority, rules }) =>
        `chain ${name} { type ${type} hook ${hook} priority ${priority}; policy accept;\n${rules
          .map(({ text }) => text)
          .join('\n')}\n}`,
    ),
    '}\n',
  ].join('\n');

/** What nft lists, without handles; the order of a set's elements is that of a hash table. */
function listing(family: Family): string {
  const { nftables } = JSON.parse(nft('-j', 'list', 'table', family, NAME)) as { nftables: unknown[] };
  return JSON.stringify(
    nftables,
    (key, value: unknown) => {
      if (key === 'handle') return undefined;
      return key === 'set' && Array.isArray(value) ? value.map((each) => JSON.stringify(each)).sort() : value;
    },
    1,
  );
}

beforeAll(() => void (netns = new NftNetns()));
afterEach(() => void nft('flush', 'ruleset'));
afterAll(() => netns?.remove());

test('a listing by nft shows the rules in its language [nft-listing]', async () => {
  await declare(tableOf(NAME, [bridge('br-in', { internal: true, dns: true })], 'ip'));
  expect(nft('list', 'table', 'ip', NAME)).toBe(`table ip ${NAME} {
	map ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
	}

	map addressed_ports {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}

	set askers {
		type ipv4_addr
	}

	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname "br-in" ip daddr 127.0.0.0/8 drop
		iifname != ${/iifname != (\{[^}]*\})/.exec(nft('list', 'table', 'ip', NAME))![1]} ip daddr 10.1.0.1 meta l4proto { tcp, udp } th dport 53 drop
		iifname "br-in" ip daddr != 10.1.0.0/16 fib daddr type local drop
		iifname "br-in" ip daddr 10.1.0.1 meta l4proto { tcp, udp } th dport 53 ip saddr != @askers drop
	}

	chain prerouting {
		type nat hook prerouting priority dstnat - 5; policy accept;
		ip daddr 127.0.0.0/8 return
		dnat ip to ip daddr . meta l4proto . th dport map @addressed_ports
		fib daddr type local dnat ip to meta l4proto . th dport map @ports
	}

	chain output {
		type nat hook output priority -105; policy accept;
		dnat ip to ip daddr . meta l4proto . th dport map @addressed_ports
		fib daddr type local dnat ip to meta l4proto . th dport map @ports
	}

	chain postrouting {
		type nat hook postrouting priority srcnat - 5; policy accept;
		ip saddr 127.0.0.0/8 oifname "br-in" masquerade
		ip saddr 10.1.0.0/16 oifname "br-in" ct status dnat masquerade
	}

	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname "br-in" oifname != "br-in" drop
		iifname != "br-in" oifname "br-in" drop
		oifname "br-in" ct state established,related accept
		oifname "br-in" ct status dnat accept
		iifname "br-in" oifname "br-in" accept
		oifname "br-in" drop
	}
}
`);
});

const CASES: [title: string, bridges: Bridge[], only?: string[]][] = [
  ['no bridge', []],
  ['one bridge', [bridge('br0')]],
  ['without icc and masquerading', [bridge('br0', { icc: false, masquerade: false })]],
  ['with a DNS server', [bridge('br0', { dns: true })]],
  ['internal', [bridge('br0', { internal: true }), bridge('br1', { internal: true, dns: true })]],
  ['prefixes that do not end at a byte', [bridge('b', { addresses: ['172.18.3.1/20', 'fd01::1/61'], internal: true })]],
  ['the longest prefixes', [bridge('b', { addresses: ['10.9.9.9/32', 'fd02::1/127'], internal: true, dns: true })]],
  [
    'subnets next to and within the link-local one',
    [
      bridge('b', { addresses: ['10.1.0.1/24', 'fe80:1::1/64'], internal: true }),
      bridge('c', { addresses: ['10.1.1.1/24', 'fe00::1/9'], internal: true }),
    ],
  ],
  ['a link name of 15 characters', [bridge('br-0123456789ab')]],
  ['only some links are forwarded for', [bridge('br0')], ['br0', 'eth0.17']],
];
describe('what nft lists is the same, whether nft read the rules or we sent them', () => {
  const cases = (['ip', 'ip6'] as const).flatMap((family) =>
    CASES.map(([title, bridges, only]) => ({ family, title, bridges, only })),
  );
  test.each(cases)('$family: $title [nft-equal]', async ({ family, bridges, only }) => {
    const table = tableOf(NAME, bridges, family, only);
    netns.load(scriptOf(table));
    const expected = listing(family);
    // Over a table that nft has made, as releases up to 0.1 did, and then alone.
    await declare(table);
    expect(listing(family)).toBe(expected);
    nft('flush', 'ruleset');
    await declare(table);
    expect(listing(family)).toBe(expected);
  });
});

test('a change that the kernel refuses changes nothing; the error names it [nft-all-or-nothing]', async () => {
  await declare(tableOf(NAME, [bridge('br0')], 'ip'));
  const [before, count] = [listing('ip'), generation(netns.socket)];
  const changed = tableOf(NAME, [bridge('br1')], 'ip');
  changed.chains[2]!.rules.push(rule({ text: 'frobnicate', expressions: [{ name: 'frobnicate', attributes: [] }] }));
  const message = `Errno: add rule \`frobnicate\` to chain output of table ip ${NAME}: ENOENT: the kernel lacks a module of nf_tables that this needs`;
  expect(await rejection(declare(changed))).toBe(message);
  expect(() => tryTables(netns.socket, [changed])).toThrow(message.replace('Errno: ', ''));
  tryTables(netns.socket, [tableOf(NAME, [bridge('br1')], 'ip'), tableOf('another', [bridge('br1')], 'ip6')]);
  expect([listing('ip'), generation(netns.socket)]).toEqual([before, count]);
  expect(nft('list', 'tables')).toBe(`table ip ${NAME}\n`);
});

test('hundreds of bridges and thousands of elements are one change [nft-large]', async () => {
  const table = tableOf(NAME, many(300), 'ip');
  const count = generation(netns.socket);
  await declare(table);
  expect(generation(netns.socket)).toBe(count + 1);
  expect(nft('list', 'table', 'ip', NAME).match(/^\t\toifname "br-\d+" drop$/gm)).toHaveLength(300);
  const name = { family: 'ip', table: NAME, map: 'ports' } as const;
  const elements = Array.from({ length: 5_000 }, (_, i) => ({
    key: Buffer.from([6, 0, 0, 0, i >> 8, i & 255, 0, 0]),
    value: Buffer.from([10, 0, i >> 8, i & 255, 0, 80, 0, 0]),
  }));
  commit(netns.socket, putElements(name, elements));
  expect([mapElements(netns.socket, name).length, generation(netns.socket)]).toEqual([elements.length, count + 2]);
  // Each of these changes fails: more answers than the receive buffer holds.
  const wrong = elements.flatMap((element) => putElements({ ...name, map: 'none' }, [element]));
  expect(() => commit(netns.socket, [...wrong, ...wrong])).toThrow(`put into map none of table ip ${NAME}: ENOENT`);
  expect([mapElements(netns.socket, name).length, generation(netns.socket)]).toEqual([elements.length, count + 2]);
});

test('every change of a table by another program is noticed, elements of maps aside [nft-changes-noticed]', async () => {
  const table = tableOf(NAME, [bridge('br0')], 'ip');
  const changes = [
    `delete table ip ${NAME}`,
    `flush chain ip ${NAME} guard`,
    `add rule ip ${NAME} forward accept`,
    `insert rule ip ${NAME} forward accept`,
    `add chain ip ${NAME} forward { policy drop; }`,
    `add table ip ${NAME} { flags dormant; }`,
    `add chain ip ${NAME} mine`,
  ];
  for (const change of changes) {
    await declare(table);
    const before = fingerprint(netns.socket, table);
    expect(before).toHaveLength(64);
    netns.load(`${change}\n`);
    expect([change, fingerprint(netns.socket, table) === before]).toEqual([change, false]);
    await declare(table);
  }
  nft('delete', 'chain', 'ip', NAME, 'mine');
  // As many rules as before.
  const before = fingerprint(netns.socket, table);
  const handle = /oifname "br0" drop # handle (\d+)/.exec(nft('-a', 'list', 'chain', 'ip', NAME, 'forward'))![1]!;
  nft('replace', 'rule', 'ip', NAME, 'forward', 'handle', handle, 'accept');
  expect(fingerprint(netns.socket, table)).not.toBe(before);
  await declare(table);
  expect(nft('list', 'table', 'ip', NAME)).toContain('oifname "br0" drop');
  const again = fingerprint(netns.socket, table);
  nft('add', 'element', 'ip', NAME, 'ports', '{ tcp . 80 : 10.1.0.2 . 80 }');
  expect(fingerprint(netns.socket, table)).toBe(again);
});
