/** Firewall rules as text, and the DNS tables of networks. */
import { encode } from 'dns-packet';
import { describe, expect, test } from 'vitest';
import { dnsNamesOn } from '../../src/engine/networks/endpoints.ts';
import { tableOf } from '../../src/engine/networks/firewall-rules.ts';
import type { Family, Table } from '../../src/sys/nft-messages.ts';
import { type Bridge, type Setup } from '../../src/engine/networks/driver.ts';
import { dnsTables } from '../../src/engine/networks/dns-policy.ts';
import { Directory } from '../../src/engine/networks/dns/directory.ts';
import { parseQuery, RCODE, rcodeOf, type Query } from '../../src/engine/networks/dns/message.ts';
import { verdict } from '../../src/engine/networks/dns/verdict.ts';
import type { Network } from '../../src/model/network.ts';

describe('firewall rules', () => {
  const bridge = (link: string, ...addresses: string[]): Bridge => ({
    link,
    addresses,
    mtu: 1500,
    internal: false,
    icc: true,
    masquerade: true,
    dns: true,
  });
  const table = (bridges: Bridge[], family: Family = 'ip', only?: string[]): Table =>
    tableOf('t', bridges, family, only);
  const rules = ({ chains }: Table, chain: string): string[] =>
    chains.find(({ name }) => name === chain)!.rules.map(({ text }) => text);
  const allRules = ({ chains }: Table): string =>
    chains.flatMap(({ rules }) => rules.map(({ text }) => text)).join('\n');

  test('name each bridge in every chain that concerns bridges', () => {
    const made = table([bridge('br1', '10.1.0.1/24'), bridge('br2', '10.2.0.1/24')]);
    for (const [chain, link] of ['guard', 'postrouting', 'forward'].flatMap((name) =>
      ['br1', 'br2'].map((each) => [name, each] as const),
    ))
      expect(rules(made, chain).join('\n')).toContain(`"${link}"`);
  });

  test('put a bridge in the table of its own families', () => {
    const bridges = [
      bridge('br1', '10.1.0.1/24'),
      bridge('br2', 'fd00::1/64'),
      bridge('br3', '10.3.0.1/24', 'fd03::1/64'),
    ];
    const [four, six] = [allRules(table(bridges)), allRules(table(bridges, 'ip6'))];
    expect(['br1', 'br2', 'br3'].map((link) => [four.includes(`"${link}"`), six.includes(`"${link}"`)])).toEqual([
      [true, false],
      [false, true],
      [true, true],
    ]);
    expect(six).toContain('ip6 saddr fd03::/64 oifname != "br3" masquerade');
    expect(six).not.toContain('dnat ip to');
  });

  test('let only its own containers query a bridge’s DNS server, and on an internal network only known ones', () => {
    const guard = (internal: boolean, ...addresses: string[]): string[] =>
      rules(table([{ ...bridge('br1', ...addresses), internal }], addresses[0]!.includes(':') ? 'ip6' : 'ip'), 'guard');
    expect(guard(false, '10.1.0.1/24')).toEqual([
      'iifname "br1" ip daddr 127.0.0.0/8 drop',
      'iifname != { "br1", "lo" } ip daddr 10.1.0.1 meta l4proto { tcp, udp } th dport 53 drop',
    ]);
    expect(guard(true, 'fd01::1/64')).toEqual([
      'iifname != { "br1", "lo" } ip6 daddr fd01::1 meta l4proto { tcp, udp } th dport 53 drop',
      'iifname "br1" ip6 daddr != { fd01::/64, fe80::/10 } fib daddr type local drop',
      'iifname "br1" ip6 daddr fd01::1 meta l4proto { tcp, udp } th dport 53 ip6 saddr != @askers drop',
    ]);
  });

  test('internal drops traffic in and out, no icc drops traffic between containers, and masquerading can be off', () => {
    const inside = table([{ ...bridge('br1', '10.1.0.1/24'), internal: true }]);
    expect(rules(inside, 'forward').slice(0, 2)).toEqual([
      'iifname "br1" oifname != "br1" drop',
      'iifname != "br1" oifname "br1" drop',
    ]);
    expect(rules(inside, 'postrouting').join()).not.toContain('!=');
    expect(rules(table([{ ...bridge('br1', '10.1.0.1/24'), icc: false }]), 'forward')).not.toContain(
      'iifname "br1" oifname "br1" accept',
    );
    expect(rules(table([{ ...bridge('br1', '10.1.0.1/24'), masquerade: false }]), 'postrouting').join()).not.toContain(
      'oifname != "br1"',
    );
  });
  test('drop traffic from and to other links last, where forwarding is for some links only', () => {
    const only = (links: string[] | undefined): string | undefined =>
      rules(table([bridge('br1', '10.1.0.1/24')], 'ip', links), 'forward').at(-1);
    expect(only(['br0', 'br1'])).toBe('iifname != { "br0", "br1" } oifname != { "br0", "br1" } drop');
    expect(only(undefined)).toBe('oifname "br1" drop');
  });
});

describe('DNS tables', () => {
  const network = (id: string, name: string): Network =>
    ({
      id,
      name,
      driver: 'bridge',
      internal: false,
      ipv4: { subnet: '10.1.0.0/24', gateway: `10.1.0.${id}`, range: '', reserved: [], static: false },
    }) as unknown as Network;
  const setup = (
    container: string,
    endpoints: [networkId: string, address: string, names: string[], changing?: 'leaving'][],
    dnsServers: string[] = [],
  ): Setup =>
    ({
      container,
      dnsServers,
      endpoints: endpoints.map(([networkId, address, names, changing]) => ({
        networkId,
        address,
        address6: '',
        names,
        changing,
      })),
    }) as unknown as Setup;

  test('have the user-defined networks with containers, and each container’s names on them', () => {
    const tables = dnsTables(
      [network('1', 'bridge'), network('2', 'mine'), network('3', 'idle')],
      [
        setup('c1', [
          ['1', '10.0.0.2', []],
          ['2', '10.1.0.2', ['web', 'w']],
        ]),
        setup('c2', [['2', '10.1.0.3', ['db']]], ['9.9.9.9']),
        setup('c3', [['1', '10.0.0.3', []]]),
      ],
    );
    const endpoint = { network: '2', links: {} };
    expect(tables).toEqual({
      version: 1,
      networks: [{ id: '2', name: 'mine', internal: false, resolvers: ['10.1.0.2'] }],
      containers: [
        {
          id: 'c1',
          endpoints: [{ ...endpoint, addresses: ['10.1.0.2'], names: ['web', 'w'] }],
          servers: [],
          ndots: false,
        },
        {
          id: 'c2',
          endpoints: [{ ...endpoint, addresses: ['10.1.0.3'], names: ['db'] }],
          servers: ['9.9.9.9'],
          ndots: false,
        },
      ],
    });
  });
  test('leave out an endpoint that is being removed', () =>
    expect(dnsTables([network('2', 'mine')], [setup('c1', [['2', '10.1.0.2', ['web'], 'leaving']])]).networks).toEqual(
      [],
    ));
  test('forward no question that arrives at an internal network, whatever else the container is attached to [dns-internal-refused]', () => {
    const inner = { ...network('2', 'inner'), internal: true };
    const directory = new Directory(
      dnsTables(
        [inner, network('3', 'open')],
        [
          setup(
            'c1',
            [
              ['2', '10.1.0.2', ['web']],
              ['3', '10.3.0.2', ['web']],
            ],
            ['9.9.9.9'],
          ),
        ],
      ),
    );
    const query = parseQuery(encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'outside.example' }] }));
    const asked = (resolver: string, source: string): unknown => {
      const audience = directory.audience(resolver, source);
      const decided = audience && verdict(query as Query, audience, 512);
      return decided && ('answer' in decided ? rcodeOf(decided.answer) : decided.servers);
    };
    expect(asked('10.1.0.2', '10.1.0.2')).toBe(RCODE.serverFailure);
    expect(asked('10.1.0.3', '10.3.0.2')).toEqual(['9.9.9.9']);
    // Addresses that no container has on that network: another network's, any.
    expect(asked('10.1.0.2', '10.3.0.2')).toBe(undefined);
    expect(asked('10.1.0.2', '203.0.113.9')).toBe(undefined);
    expect(asked('10.1.0.3', '203.0.113.9')).toEqual([]);
  });
  test('have every name in lower case', () => {
    const of = (Aliases: string[]): string[] =>
      dnsNamesOn({ id: 'f'.repeat(64), name: 'Web', config: { Hostname: 'h' } as never }, { Aliases });
    expect(of(['x,y', 'DB', '', 'db'])).toEqual(['web', 'x,y', 'db', 'ffffffffffff', 'h']);
  });
});
