/** The network's deciding parts: addresses, ports, plans, files, rules as text. */
import fc from 'fast-check';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { macOf, dnsNamesOn } from '../../src/engine/networks/endpoints.ts';
import {
  addOwnAddresses,
  removeOwnAddresses,
  hosts,
  parseResolvConf,
  resolvConf,
  writeEtcFiles,
  writeResolvConf,
  type EtcFileInput,
  type HostFiles,
} from '../../src/engine/networks/etc-files.ts';
import { script } from '../../src/engine/networks/firewall-rules.ts';
import { define, type NetworkRequest } from '../../src/engine/networks/definition.ts';
import { defaultRouteEndpoint, type Bridge, type EndpointSetup, type Setup } from '../../src/engine/networks/driver.ts';
import { aardvarkTables } from '../../src/engine/networks/dns-policy.ts';
import type { Network } from '../../src/model/network.ts';
import { planEndpoints } from '../../src/engine/networks/plan.ts';
import {
  cidr,
  contains,
  familyOf,
  freeSubnet,
  masked,
  nextAddress,
  overlap,
  parseCidr,
  textOf,
  valueOf,
  type Cidr,
} from '../../src/engine/networks/subnets.ts';
import {
  groupRequests,
  heldPorts,
  portRequests,
  PortTable,
  PortTaken,
  type PortGroup,
} from '../../src/engine/networks/port-allocation.ts';

describe('addresses', () => {
  const family = fc.constantFrom<4 | 6>(4, 6);
  const value = (of: 4 | 6) => fc.bigInt({ min: 0n, max: 2n ** (of === 4 ? 32n : 128n) - 1n });
  const subnet = (least: number) =>
    family.chain((of) =>
      fc
        .tuple(value(of), fc.integer({ min: least, max: 30 }))
        .map(([address, length]) => cidr(masked(cidr(`${textOf(address, of)}/${of === 4 ? length : length + 96}`)))),
    );
  const small = subnet(26);
  const inside = (of: Cidr, offset: number): string =>
    textOf(of.first + (BigInt(offset) % (of.last - of.first + 1n)), of.family);

  test('text and number are the same address', () => {
    fc.assert(
      fc.property(
        family.chain((of) => fc.tuple(fc.constant(of), value(of))),
        ([of, number]) => {
          const text = textOf(number, of);
          expect(familyOf(text)).toBe(of);
          expect(valueOf(text)).toBe(number);
        },
      ),
    );
    expect([valueOf('::'), valueOf('::1'), valueOf('fd00::'), valueOf('::ffff:1.2.3.4')]).toEqual([
      0n,
      1n,
      0xfdn << 120n,
      0xffff01020304n,
    ]);
  });

  test('what is written in CIDR notation lies in what it names', () => {
    fc.assert(
      fc.property(subnet(8), (found) => {
        expect(contains(found, textOf(found.address, found.family))).toBe(true);
        expect(masked(cidr(masked(found)))).toBe(masked(found));
      }),
    );
    for (const text of [
      '10.0.0.0',
      '10.0.0.0/33',
      '10.0.0/8',
      'fd00::/129',
      'x/8',
      '/8',
      '10.0.0.0/8/8',
      '10.0.0.0/-1',
      '10.0.0.0/ 8',
    ])
      expect(parseCidr(text)).toBeUndefined();
  });

  test('one that is given lies in the subnet and the range, and is neither its network, its broadcast, reserved nor taken [address-in-range]', () => {
    fc.assert(
      fc.property(
        subnet(16),
        fc.array(fc.nat(40)),
        fc.nat(),
        fc.option(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 4 }))),
        (found, offsets, last, part) => {
          const gateway = textOf(found.first + 1n, found.family);
          const taken = new Set(offsets.map((offset) => inside(found, offset)));
          const longest = found.family === 4 ? 32 : 128;
          const range =
            part === null
              ? undefined
              : cidr(masked(cidr(`${inside(found, part[0])}/${Math.min(found.prefix + part[1], longest)}`)));
          const address = nextAddress(found, range, new Set([gateway]), inside(found, last), (candidate) =>
            taken.has(candidate),
          );
          if (address === undefined) return;
          expect(contains(range ?? found, address)).toBe(true);
          expect([textOf(found.first, found.family), gateway, ...taken]).not.toContain(address);
          if (found.family === 4) expect(valueOf(address)).not.toBe(found.last);
        },
      ),
    );
  });

  test('all of a subnet are given, each once, and then none [addresses-exhausted]', () => {
    fc.assert(
      fc.property(small, (found) => {
        const gateway = textOf(found.first + 1n, found.family);
        const given = new Set<string>();
        for (let last: string | undefined; ;) {
          const address = nextAddress(found, undefined, new Set([gateway]), last, (candidate) => given.has(candidate));
          if (address === undefined) break;
          expect(given.has(address)).toBe(false);
          given.add(address);
          last = address;
        }
        const size = Number(found.last - found.first) + 1;
        expect(given.size).toBe(found.family === 4 ? size - 3 : size - 2);
      }),
      { numRuns: 40 },
    );
  });

  test('whatever is given and given back, no two have the same [addresses-unique]', () => {
    fc.assert(
      fc.property(small, fc.array(fc.oneof(fc.constant(-1), fc.nat(70)), { maxLength: 200 }), (found, steps) => {
        const held: string[] = [];
        let last: string | undefined;
        for (const step of steps) {
          if (step >= 0 && held.length > 0) {
            held.splice(step % held.length, 1);
            continue;
          }
          const address = nextAddress(found, undefined, new Set(), last, (candidate) => held.includes(candidate));
          if (address === undefined) continue;
          expect(held).not.toContain(address);
          held.push(address);
          last = address;
        }
      }),
    );
  });

  test('the next is behind the last, though a lower one was given back', () => {
    const found = cidr('10.1.2.0/24');
    const taken = new Set(['10.1.2.3']);
    const after = (last: string | undefined): string | undefined =>
      nextAddress(found, undefined, new Set(['10.1.2.1']), last, (a) => taken.has(a));
    expect([after('10.1.2.3'), after('10.1.2.254'), after(undefined)]).toEqual(['10.1.2.4', '10.1.2.2', '10.1.2.2']);
  });

  test('a subnet from the pools overlaps with nothing, and none is left out [subnet-no-overlap]', () => {
    const pools = [
      { base: '10.0.0.0/20', size: 24 },
      { base: '10.1.0.0/22', size: 26 },
    ];
    const taken = fc.array(
      fc
        .tuple(fc.constantFrom('10.0', '10.1'), fc.nat(20), fc.nat(255), fc.integer({ min: 16, max: 32 }))
        .map(([head, a, b, length]) => cidr(masked(cidr(`${head}.${a}.${b}/${length}`)))),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(taken, (others) => {
        const found = freeSubnet(pools, others);
        const all = pools.flatMap(({ base, size }) =>
          Array.from({ length: 2 ** (size - cidr(base).prefix) }, (_, i) =>
            cidr(`${textOf(cidr(base).first + (BigInt(i) << BigInt(32 - size)), 4)}/${size}`),
          ),
        );
        const free = all.filter((each) => !others.some((other) => overlap(each, other)));
        expect(found).toBe(free[0] && masked(free[0]));
      }),
    );
    expect(freeSubnet([{ base: 'fd00:1::/48', size: 64 }], [cidr('fd00:1::/64'), cidr('fd00:1:0:1::/64')])).toBe(
      'fd00:1:0:2::/64',
    );
  });

  test('hardware address', () =>
    expect([macOf('10.77.0.255', ''), macOf('', 'a1b2c3d4e5')]).toEqual(['02:42:0a:4d:00:ff', '02:42:a1:b2:c3:d4']));
});

describe('port requests', () => {
  const exposed = (...keys: string[]) => Object.fromEntries(keys.map((key) => [key, {}]));
  test.each([
    ['nothing', {}, {}, false, []],
    ['exposed only', exposed('80/tcp'), {}, false, []],
    ['all exposed', exposed('80/tcp', '53/udp'), {}, true, ['80/tcp :0-0', '53/udp :0-0']],
    ['one', {}, { '80/tcp': [{ HostIp: '', HostPort: '8080' }] }, false, ['80/tcp :8080-8080']],
    ['no protocol', {}, { '80': [{ HostIp: '', HostPort: '8080' }] }, false, ['80/tcp :8080-8080']],
    [
      'a range to choose from',
      {},
      { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8000-8010' }] },
      false,
      ['80/tcp 127.0.0.1:8000-8010'],
    ],
    ['any', {}, { '80/udp': [{ HostIp: '', HostPort: '' }] }, false, ['80/udp :0-0']],
    [
      'two addresses',
      {},
      {
        '80/tcp': [
          { HostIp: '127.0.0.1', HostPort: '80' },
          { HostIp: '[::1]', HostPort: '80' },
        ],
      },
      false,
      ['80/tcp 127.0.0.1:80-80', '80/tcp ::1:80-80'],
    ],
    [
      'asked for, and the rest by -P',
      exposed('80/tcp', '443/tcp'),
      { '80/tcp': [{ HostIp: '', HostPort: '8080' }] },
      true,
      ['80/tcp :8080-8080', '443/tcp :0-0'],
    ],
    ['a binding without a list', exposed('80/tcp'), { '80/tcp': null }, false, []],
    ['exposed as a range', exposed('3000-3002/tcp'), {}, true, ['3000/tcp :0-0', '3001/tcp :0-0', '3002/tcp :0-0']],
  ] as const)('%s', (_, ExposedPorts, PortBindings, PublishAllPorts, expected) => {
    const requests = portRequests({ ExposedPorts }, { PortBindings: PortBindings as never, PublishAllPorts });
    expect(requests.map((r) => `${r.containerPort}/${r.protocol} ${r.hostIp}:${r.start}-${r.end}`)).toEqual(expected);
  });

  test('no host address means both families, where there are both; exact ports come first', () => {
    const requests = portRequests(
      {},
      {
        PublishAllPorts: false,
        PortBindings: {
          '70/tcp': [{ HostIp: '', HostPort: '' }],
          '80/tcp': [{ HostIp: '', HostPort: '80' }],
          '90/sctp': [{ HostIp: '', HostPort: '90' }],
        },
      },
    );
    expect(groupRequests(requests, { hostIp: '', ipv6: true }).map((g) => [g.containerPort, g.hostIps])).toEqual([
      [80, ['0.0.0.0', '::']],
      [90, ['0.0.0.0']],
      [70, ['0.0.0.0', '::']],
    ]);
    expect(groupRequests(requests, { hostIp: '', ipv6: false }).map((g) => g.hostIps)).toEqual([
      ['0.0.0.0'],
      ['0.0.0.0'],
      ['0.0.0.0'],
    ]);
    expect(groupRequests(requests, { hostIp: '192.0.2.9', ipv6: true })[0]!.hostIps).toEqual(['192.0.2.9']);
  });

  test('bindings that differ in the address only get one port; the same one twice does not', () => {
    const bindings = (...list: [string, string][]) =>
      portRequests(
        {},
        {
          PublishAllPorts: false,
          PortBindings: { '80/tcp': list.map(([HostIp, HostPort]) => ({ HostIp, HostPort })) },
        },
      );
    expect(groupRequests(bindings(['127.0.0.1', ''], ['127.0.0.2', '']), { hostIp: '', ipv6: true })).toHaveLength(1);
    expect(groupRequests(bindings(['', '80'], ['', '80']), { hostIp: '', ipv6: true })).toHaveLength(2);
    expect(
      groupRequests(bindings(['::ffff:127.0.0.1', '80'], ['0:0::1', '81']), { hostIp: '', ipv6: true }).flatMap(
        (g) => g.hostIps,
      ),
    ).toEqual(['127.0.0.1', '::1']);
  });
});

describe('port table', () => {
  const busy = new Set<string>();
  const table = () =>
    new PortTable({
      ephemeral: [40_000, 40_003],
      probe: (protocol, address, port) =>
        busy.has(`${protocol} ${address} ${port}`) ? 'address already in use' : undefined,
    });
  const group = (hostIps: string[], start = 0, end = start): PortGroup => ({
    protocol: 'tcp',
    containerPort: 80,
    hostIps,
    start,
    end,
  });

  test('a port of ours is refused, in Docker’s words', () => {
    const ports = table();
    expect(ports.allocate('a', group(['0.0.0.0', '::'], 8080), '10.0.0.2')).toBe(8080);
    expect(() => ports.allocate('b', group(['0.0.0.0', '::'], 8080), '10.0.0.3')).toThrow(
      new PortTaken('Bind for 0.0.0.0:8080 failed: port is already allocated'),
    );
    expect(() => ports.allocate('b', group(['127.0.0.1'], 8080), '10.0.0.3')).toThrow(
      new PortTaken('Bind for 0.0.0.0:8080 failed: port is already allocated'),
    );
    expect(() => ports.allocate('b', group(['::1'], 8080), '10.0.0.3')).toThrow(
      new PortTaken('Bind for :::8080 failed: port is already allocated'),
    );
    ports.release('a');
    expect(ports.allocate('b', group(['127.0.0.1'], 8080), '10.0.0.3')).toBe(8080);
    expect(ports.allocate('c', group(['127.0.0.2'], 8080), '10.0.0.4')).toBe(8080);
    expect(() => ports.allocate('d', group(['0.0.0.0'], 8080), '10.0.0.5')).toThrow(
      /^Bind for 127\.0\.0\.1:8080 failed/,
    );
    expect(ports.allocate('d', { ...group(['0.0.0.0'], 8080), protocol: 'udp' }, '10.0.0.5')).toBe(8080);
  });

  test('another process’s is refused, in Docker’s words', () => {
    busy.add('tcp 0.0.0.0 80').add('tcp :: 81').add('tcp 0.0.0.0 90');
    expect(() => table().allocate('a', group(['0.0.0.0', '::'], 80), '172.17.0.2')).toThrow(
      new PortTaken('failed to bind host port for 0.0.0.0:80:172.17.0.2:80/tcp: address already in use'),
    );
    expect(() => table().allocate('a', group(['0.0.0.0', '::'], 81), '172.17.0.2')).toThrow(
      new PortTaken('failed to bind host port for [::]:81:172.17.0.2:80/tcp: address already in use'),
    );
    expect(() => table().allocate('a', group(['0.0.0.0'], 90, 91), '172.17.0.2')).not.toThrow();
    busy.clear();
  });

  test('of a range the first free one, going on behind the last', () => {
    const ports = table();
    expect([1, 2].map((n) => ports.allocate(`${n}`, group(['0.0.0.0'], 8000, 8002), 'x'))).toEqual([8000, 8001]);
    ports.release('1');
    expect(['3', '4'].map((n) => ports.allocate(n, group(['0.0.0.0'], 8000, 8002), 'x'))).toEqual([8002, 8000]);
    expect(() => ports.allocate('5', group(['0.0.0.0'], 8000, 8002), 'x')).toThrow('all ports are allocated');
  });

  test('an ephemeral one, not one that another process has', () => {
    busy.add('tcp 0.0.0.0 40000').add('tcp :: 40001');
    const ports = table();
    expect([1, 2].map((n) => ports.allocate(`${n}`, group(['0.0.0.0', '::']), 'x'))).toEqual([40_002, 40_003]);
    expect(() => ports.allocate('3', group(['0.0.0.0', '::']), 'x')).toThrow(PortTaken);
    busy.clear();
  });

  test('a daemon of another place in the ephemeral ones goes round from there', () => {
    const ports = new PortTable({ ephemeral: [40_000, 40_003], offset: 2, probe: () => undefined });
    expect([1, 2, 3, 4].map((n) => ports.allocate(`${n}`, group(['0.0.0.0']), 'x'))).toEqual([
      40_002, 40_003, 40_000, 40_001,
    ]);
    expect(ports.allocate('5', group(['0.0.0.0'], 8000, 8002), 'x')).toBe(8000);
  });

  test('whatever is allocated and released, no two hold what collides [ports-no-collision]', () => {
    const address = fc.constantFrom('0.0.0.0', '127.0.0.1', '192.0.2.1', '::', '::1');
    const step = fc.record({
      holder: fc.constantFrom('a', 'b', 'c', 'd'),
      address,
      port: fc.integer({ min: 1, max: 3 }),
      release: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const ports = table();
        const held: { holder: string; address: string; port: number }[] = [];
        const six = (a: string): boolean => a.includes(':');
        const collide = (a: string, b: string): boolean =>
          six(a) === six(b) && (a === b || ['0.0.0.0', '::'].includes(a) || ['0.0.0.0', '::'].includes(b));
        for (const { holder, address: at, port, release } of steps) {
          if (release) {
            ports.release(holder);
            held.splice(0, held.length, ...held.filter((h) => h.holder !== holder));
            continue;
          }
          const free = !held.some((h) => h.port === port && collide(h.address, at));
          if (free) expect(ports.allocate(holder, group([at], port), 'x')).toBe(port);
          else expect(() => ports.allocate(holder, group([at], port), 'x')).toThrow(PortTaken);
          if (free) held.push({ holder, address: at, port });
        }
      }),
    );
  });

  test('the keeper holds what no proxy listens on', () => {
    const base = { containerPort: 80, hostPort: 80 };
    expect(
      heldPorts([
        { ...base, protocol: 'tcp', hostIp: '0.0.0.0' },
        { ...base, protocol: 'tcp', hostIp: '::', proxied: true },
        { ...base, protocol: 'sctp', hostIp: '0.0.0.0' },
      ]),
    ).toEqual([{ protocol: 'tcp', address: '0.0.0.0', port: 80 }]);
  });
});

describe('plan', () => {
  const who = { id: '0123456789abcdef', name: 'web', hostname: 'box' };
  test.each([
    ['', 'bridge'],
    ['default', 'bridge'],
    ['bridge', 'bridge'],
    ['host', 'host'],
    ['none', 'none'],
    ['mine', 'mine'],
  ])('mode %j is on %s', (mode, network) => {
    const endpoints = planEndpoints(mode, {}, who);
    expect(Object.keys(endpoints)).toEqual([network]);
    expect(endpoints[network]).toMatchObject({ network, networkId: '', endpointId: '', ipAddress: '', macAddress: '' });
  });
  test('a shared namespace has no endpoints', () => expect(planEndpoints('container:x', {}, who)).toEqual({}));
  test('names on a network of one’s own', () =>
    expect(planEndpoints('mine', { mine: { Aliases: ['a', 'web'] } }, who).mine!.dnsNames).toEqual([
      'web',
      'a',
      '0123456789ab',
      'box',
    ]));
  test('what is asked for `default` is for the bridge', () =>
    expect(
      planEndpoints('default', { default: { MacAddress: '02:42:ac:11:00:09' } }, who).bridge!.request.MacAddress,
    ).toBe('02:42:ac:11:00:09'));
  test.each([
    [
      { bridge: { IPAMConfig: { IPv4Address: '172.17.0.9' } } },
      'invalid config for network bridge: invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only',
    ],
    [
      { bridge: { Aliases: ['x'] } },
      'invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks',
    ],
    [{ bridge: { MacAddress: 'zz' } }, 'invalid config for network bridge: invalid MAC address zz'],
    [{ bridge: null }, 'invalid config for network bridge: EndpointsConfig is nil'],
    [
      { mine: { IPAMConfig: { IPv4Address: '1.2.3' } } },
      'invalid config for network mine: invalid endpoint settings:\ninvalid IPv4 address: 1.2.3',
    ],
  ])('refused: %j', (requests, message) => expect(() => planEndpoints('bridge', requests, who)).toThrow(message));
});

describe('files', () => {
  let directory: string;
  let host: HostFiles;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'hf-net-files-'));
    host = {
      hosts: join(directory, 'h.hosts'),
      resolvConf: join(directory, 'h.resolv'),
      resolvedConf: join(directory, 'h.resolved'),
    };
    writeFileSync(host.hosts, '127.0.0.1 localhost\n127.0.1.1 thehost\n');
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  const input = (changes: Partial<EtcFileInput> = {}): EtcFileInput => ({
    hostname: 'box',
    domainname: '',
    addresses: ['10.77.0.2'],
    extraHosts: [],
    hostGateway: '10.77.0.1',
    hostNetwork: false,
    ipv6: true,
    dns: { servers: [], search: [], options: [] },
    resolvers: [],
    ...changes,
  });
  const LOCAL =
    '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n';
  const directives = (text: string): string[] =>
    text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

  test('hosts is Docker’s, to the byte', () => {
    expect(hosts(input(), host)).toBe(`${LOCAL}10.77.0.2\tbox\n`);
    expect(hosts(input({ domainname: 'example.org' }), host)).toBe(`${LOCAL}10.77.0.2\tbox.example.org box\n`);
    expect(
      hosts(input({ extraHosts: ['db:10.0.0.9', 'up:host-gateway', 'six:[fd00::1]', 'seven:fd00::2'] }), host),
    ).toBe(`${LOCAL}10.0.0.9\tdb\n10.77.0.1\tup\nfd00::1\tsix\nfd00::2\tseven\n10.77.0.2\tbox\n`);
    expect(hosts(input({ ipv6: false, extraHosts: ['six:fd00::1'] }), host)).toBe(
      '127.0.0.1\tlocalhost\n10.77.0.2\tbox\n',
    );
    expect(hosts(input({ addresses: [] }), host)).toBe(LOCAL);
  });

  test('with the host’s network it is the host’s, unless there are names to add', () => {
    expect(hosts(input({ hostNetwork: true, addresses: [] }), host)).toBe('127.0.0.1 localhost\n127.0.1.1 thehost\n');
    expect(hosts(input({ hostNetwork: true, addresses: [], extraHosts: ['db:10.0.0.9'] }), host)).toBe(
      `${LOCAL}10.0.0.9\tdb\n`,
    );
  });

  test.each<[string, string, Partial<EtcFileInput>, string[]]>([
    [
      'the host’s',
      'nameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2\n',
      {},
      ['nameserver 192.0.2.53', 'search a.example b.example', 'options ndots:2'],
    ],
    [
      'without loopback and IPv6 servers',
      'nameserver 127.0.0.1\nnameserver ::1\nnameserver fd00::53\nnameserver 192.0.2.53\n',
      {},
      ['nameserver 192.0.2.53'],
    ],
    ['public servers where none is left', 'nameserver 127.0.0.1\n', {}, ['nameserver 8.8.8.8', 'nameserver 8.8.4.4']],
    [
      'those behind systemd-resolved',
      'nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n',
      {},
      ['nameserver 198.51.100.53', 'search resolved.example'],
    ],
    [
      'asked for',
      'nameserver 192.0.2.53\nsearch a.example\n',
      { dns: { servers: ['127.0.0.11', '1.1.1.1'], search: ['.'], options: ['timeout:1'] } },
      ['nameserver 127.0.0.11', 'nameserver 1.1.1.1', 'options timeout:1'],
    ],
    ['all of the host’s on its network', 'nameserver 127.0.0.53\n', { hostNetwork: true }, ['nameserver 127.0.0.53']],
    [
      'what nobody knows is kept',
      'sortlist 10.0.0.0\nnameserver 192.0.2.53 # here\n',
      {},
      ['nameserver 192.0.2.53', 'sortlist 10.0.0.0'],
    ],
  ])('resolv.conf: %s', (_, source, changes, expected) => {
    writeFileSync(host.resolvConf, source);
    writeFileSync(host.resolvedConf, 'nameserver 198.51.100.53\nsearch resolved.example\n');
    expect(directives(resolvConf(input(changes), host))).toEqual(expected);
  });

  test('any text is read without a fault', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc
            .tuple(fc.constantFrom('nameserver', 'search', 'options', 'domain', '#', 'x'), fc.string())
            .map(([a, b]) => `${a} ${b}`),
        ),
        (lines) => void parseResolvConf(lines.join('\n')),
      ),
    );
  });

  test('the files are written in place, and an edited resolv.conf stays', () => {
    writeFileSync(host.resolvConf, 'nameserver 192.0.2.53\n');
    const at = join(directory, 'c');
    writeEtcFiles(at, input(), host);
    const inode = statSync(join(at, 'hosts')).ino;
    expect(readFileSync(join(at, 'hostname'), 'utf8')).toBe('box\n');
    writeEtcFiles(at, input({ addresses: ['10.77.0.3'] }), host);
    expect(statSync(join(at, 'hosts')).ino).toBe(inode);
    expect(readFileSync(join(at, 'hosts'), 'utf8')).toContain('10.77.0.3\tbox\n');
    writeFileSync(host.resolvConf, 'nameserver 192.0.2.54\n');
    writeEtcFiles(at, input(), host);
    expect(readFileSync(join(at, 'resolv.conf'), 'utf8')).toContain('192.0.2.54');
    writeFileSync(join(at, 'resolv.conf'), 'nameserver 9.9.9.9\n');
    writeEtcFiles(at, input(), host);
    expect(readFileSync(join(at, 'resolv.conf'), 'utf8')).toBe('nameserver 9.9.9.9\n');
  });

  test('addresses come and go in a hosts file that was edited, byte for byte', () => {
    const at = join(directory, 'edited');
    mkdirSync(at);
    writeFileSync(join(at, 'hosts'), Buffer.from('10.0.0.9\tm\xfcller', 'latin1'));
    addOwnAddresses(at, ['10.77.0.3', '10.77.0.4'], { hostname: 'box', domainname: '' });
    addOwnAddresses(at, ['10.77.0.3'], { hostname: 'box', domainname: '' });
    expect(readFileSync(join(at, 'hosts'), 'latin1')).toBe('10.0.0.9\tm\xfcller\n10.77.0.3\tbox\n10.77.0.4\tbox\n');
    removeOwnAddresses(at, ['10.77.0.3']);
    expect(readFileSync(join(at, 'hosts'), 'latin1')).toBe('10.0.0.9\tm\xfcller\n10.77.0.4\tbox\n');
  });

  test('files that a container has blown up are not read in whole', () => {
    const at = join(directory, 'huge');
    writeEtcFiles(at, input(), host);
    for (const name of ['hosts', 'resolv.conf']) truncateSync(join(at, name), 1e12);
    const before = process.resourceUsage().maxRSS;
    addOwnAddresses(at, ['10.77.0.3'], { hostname: 'box', domainname: '' });
    removeOwnAddresses(at, ['10.77.0.3']);
    writeResolvConf(at, input(), host);
    expect(['hosts', 'resolv.conf'].map((name) => statSync(join(at, name)).size)).toEqual([1e12, 1e12]);
    writeEtcFiles(at, input(), host);
    expect(readFileSync(join(at, 'hosts'), 'utf8')).toBe(hosts(input(), host));
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(100_000);
  });
});

describe('rules', () => {
  const bridge = (link: string, ...addresses: string[]): Bridge => ({
    link,
    addresses,
    mtu: 1500,
    internal: false,
    icc: true,
    masquerade: true,
    dns: true,
  });
  const rules = (text: string, chain: string): string[] =>
    text
      .split('\n')
      .filter((line) => line.startsWith('add rule') && line.includes(` t ${chain} `))
      .map((line) => line.replace(/^.* t \w+ /, ''));

  test('each bridge is named in every chain that knows bridges', () => {
    const text = script('t', [bridge('br1', '10.1.0.1/24'), bridge('br2', '10.2.0.1/24')]);
    for (const [chain, link] of ['guard', 'postrouting', 'forward'].flatMap((name) =>
      ['br1', 'br2'].map((each) => [name, each] as const),
    ))
      expect(rules(text, chain).join('\n')).toContain(`"${link}"`);
  });

  test('a bridge is in the table of its own family', () => {
    const bridges = [
      bridge('br1', '10.1.0.1/24'),
      bridge('br2', 'fd00::1/64'),
      bridge('br3', '10.3.0.1/24', 'fd03::1/64'),
    ];
    const [four, six] = [script('t', bridges), script('t', bridges, 'ip6')];
    expect(['br1', 'br2', 'br3'].map((link) => [four.includes(`"${link}"`), six.includes(`"${link}"`)])).toEqual([
      [true, false],
      [false, true],
      [true, true],
    ]);
    expect(six).toContain('ip6 saddr fd03::/64 oifname != "br3" masquerade');
    expect(six).not.toContain('dnat ip to');
  });

  test('where forwarding is for some links only, what is from and to others is dropped last', () => {
    const only = (links: string[] | undefined): string | undefined =>
      rules(script('t', [bridge('br1', '10.1.0.1/24')], 'ip', links), 'forward').at(-1);
    expect(only(['br0', 'br1'])).toBe('iifname != { "br0", "br1" } oifname != { "br0", "br1" } drop');
    expect(only(undefined)).toBe('oifname "br1" drop');
  });

  test('a bridge’s server of names is asked by its own containers; on an internal one by those that are known', () => {
    const guard = (internal: boolean, ...addresses: string[]): string[] =>
      rules(
        script('t', [{ ...bridge('br1', ...addresses), internal }], addresses[0]!.includes(':') ? 'ip6' : 'ip'),
        'guard',
      );
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

  test('internal: nothing in or out; no icc: no one to another; no masquerade', () => {
    const inside = script('t', [{ ...bridge('br1', '10.1.0.1/24'), internal: true }]);
    expect(rules(inside, 'forward').slice(0, 2)).toEqual([
      'iifname "br1" oifname != "br1" drop',
      'iifname != "br1" oifname "br1" drop',
    ]);
    expect(rules(inside, 'postrouting').join()).not.toContain('!=');
    expect(rules(script('t', [{ ...bridge('br1', '10.1.0.1/24'), icc: false }]), 'forward')).not.toContain(
      'iifname "br1" oifname "br1" accept',
    );
    expect(
      rules(script('t', [{ ...bridge('br1', '10.1.0.1/24'), masquerade: false }]), 'postrouting').join(),
    ).not.toContain('oifname != "br1"');
  });
});

describe('what is asked for a network', () => {
  const defaults = { mtu: 1500, hostIp: '' };
  test('nothing but a name', () =>
    expect(define({ Name: 'n' }, defaults)).toMatchObject({
      name: 'n',
      enableIPv4: true,
      enableIPv6: false,
      internal: false,
      subnets: {},
      settings: { icc: true, masquerade: true, mtu: 1500, hostIp: '', linkPrefix: 'eth' },
    }));
  test('options', () =>
    expect(
      define(
        {
          Name: 'n',
          Options: {
            'com.docker.network.bridge.enable_icc': 'false',
            'com.docker.network.bridge.enable_ip_masquerade': '0',
            'com.docker.network.driver.mtu': '1400',
            'com.docker.network.bridge.host_binding_ipv4': '127.0.0.1',
            'com.docker.network.bridge.name': 'mybr',
          },
        },
        defaults,
      ),
    ).toMatchObject({ bridge: 'mybr', settings: { icc: false, masquerade: false, mtu: 1400, hostIp: '127.0.0.1' } }));
  test.each<[string, NetworkRequest, string]>([
    ['predefined', { Name: 'bridge' }, 'operation is not permitted on predefined bridge network '],
    ['no name', { Name: ' ' }, 'invalid name: name is empty'],
    [
      'host bits',
      { Name: 'n', IPAM: { Config: [{ Subnet: '10.1.2.3/24' }] } },
      'invalid network config:\ninvalid subnet 10.1.2.3/24: it should be 10.1.2.0/24',
    ],
    [
      'no CIDR',
      { Name: 'n', IPAM: { Config: [{ Subnet: 'x' }] } },
      'invalid network config:\ninvalid subnet x: invalid CIDR block notation',
    ],
    [
      'gateway elsewhere',
      { Name: 'n', IPAM: { Config: [{ Subnet: '10.1.2.0/24', Gateway: '10.1.3.1' }] } },
      "invalid network config:\ninvalid gateway 10.1.3.1: parent subnet 10.1.2.0/24 doesn't contain this address",
    ],
    [
      'range of the other family',
      { Name: 'n', IPAM: { Config: [{ Subnet: '10.1.2.0/24', IPRange: 'fd00::/64' }] } },
      'invalid network config:\ninvalid ip-range fd00::/64: parent subnet is an IPv4 block',
    ],
    [
      'several faults',
      {
        Name: 'n',
        IPAM: { Config: [{ Subnet: '10.1.2.0/24', IPRange: '10.1.2.1/25', AuxiliaryAddresses: { a: 'y' } }] },
      },
      'invalid network config:\n* invalid ip-range 10.1.2.1/25: it should be 10.1.2.0/25\n* invalid auxiliary address a: invalid address',
    ],
    [
      'two subnets',
      { Name: 'n', IPAM: { Config: [{ Subnet: '10.1.2.0/24' }, { Subnet: '10.1.3.0/24' }] } },
      "bridge driver doesn't support multiple subnets",
    ],
    ['no family', { Name: 'n', EnableIPv4: false }, 'IPv4 or IPv6 must be enabled'],
    ['a driver of others', { Name: 'n', Driver: 'weave' }, 'plugin "weave" not found'],
    ['a second host', { Name: 'n', Driver: 'host' }, 'only one instance of "host" network is allowed'],
    [
      'icc',
      { Name: 'n', Options: { 'com.docker.network.bridge.enable_icc': 'x' } },
      'failed to parse com.docker.network.bridge.enable_icc value: x (strconv.ParseBool: parsing "x": invalid syntax)',
    ],
  ])('refused: %s', (_, request, message) => expect(() => define(request, defaults)).toThrow(message));
});

describe('names', () => {
  const network = (id: string, name: string): Network =>
    ({
      id,
      name,
      driver: 'bridge',
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

  test('one table a network, one line a container, none for the default ones', () => {
    const tables = aardvarkTables(
      [network('1', 'bridge'), network('2', 'mine'), network('3', 'idle')],
      [
        setup('c1', [
          ['1', '10.0.0.2', []],
          ['2', '10.1.0.2', ['web', 'w']],
        ]),
        setup('c2', [['2', '10.1.0.3', ['db']]], ['9.9.9.9']),
      ],
      '127.1.2.3',
    );
    expect([...tables]).toEqual([['2', '10.1.0.2\nc1 10.1.0.2  web,w\nc2 10.1.0.3  db 9.9.9.9\n']]);
  });
  test('who is on the way out is not told of', () =>
    expect(
      aardvarkTables([network('2', 'mine')], [setup('c1', [['2', '10.1.0.2', ['web'], 'leaving']])], '127.1.2.3').size,
    ).toBe(0));
  test('from an address on an internal network nobody but the refuser is asked, whatever else the container is on [dns-internal-refused]', () => {
    const inner = { ...network('2', 'inner'), internal: true };
    const tables = aardvarkTables(
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
      '127.1.2.3',
    );
    expect([...tables.values()]).toEqual([
      '10.1.0.2\nc1 10.1.0.2  web 127.1.2.3\n',
      '10.1.0.3\nc1 10.3.0.2  web 9.9.9.9\n',
    ]);
  });
  test('what would break a line is no name', () => {
    const of = (Aliases: string[]): string[] =>
      dnsNamesOn({ id: 'f'.repeat(64), name: 'Web', config: { Hostname: 'h' } as never }, { Aliases });
    expect(of(['a b', 'x,y', 'A\nb', '', 'db'])).toEqual(['web', 'db', 'ffffffffffff', 'h']);
  });
});

describe('the way out', () => {
  const end = (network: string, changes: Partial<EndpointSetup> = {}): EndpointSetup =>
    ({ network, gateway: `gw-${network}`, gateway6: '', internal: false, priority: 0, ...changes }) as EndpointSetup;
  test.each<[string, EndpointSetup[], string | undefined]>([
    ['the only one', [end('a')], 'a'],
    ['the first by name', [end('b'), end('a')], 'a'],
    ['the highest priority', [end('a'), end('b', { priority: 1 })], 'b'],
    ['not an internal one', [end('a', { internal: true, gateway: '', priority: 5 }), end('b')], 'b'],
    ['not one that is leaving', [end('a', { changing: 'leaving' }), end('b')], 'b'],
    ['none', [end('a', { gateway: '' })], undefined],
  ])('%s', (_, endpoints, expected) => expect(defaultRouteEndpoint({ endpoints }, 4)?.network).toBe(expected));
});
