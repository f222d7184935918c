/** The network's deciding parts: addresses, ports, plans, files, rules as text. */
import fc from 'fast-check';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cidrOf, contains, macOf, nextAddress, subnetOf, toAddress, toNumber } from '../../src/engine/networks/addresses.ts';
import { hosts, parseResolvConf, resolvConf, writeNetworkFiles, type FileInput, type HostFiles } from '../../src/engine/networks/files.ts';
import { script } from '../../src/engine/networks/firewall.ts';
import { planEndpoints } from '../../src/engine/networks/plan.ts';
import { groupRequests, heldPorts, portRequests, PortTable, PortTaken, type PortGroup } from '../../src/engine/networks/ports.ts';

describe('addresses', () => {
  const subnets = fc.tuple(fc.integer({ min: toNumber('10.0.0.0'), max: toNumber('10.255.255.255') }), fc.integer({ min: 16, max: 30 })).map(([address, prefix]) => subnetOf(`${toAddress(address)}/${prefix}`));
  const small = fc.tuple(fc.integer({ min: toNumber('10.0.0.0'), max: toNumber('10.255.255.255') }), fc.integer({ min: 26, max: 30 })).map(([address, prefix]) => subnetOf(`${toAddress(address)}/${prefix}`));

  test('text and number are the same address', () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (value) => toNumber(toAddress(value)) === value));
  });

  test('one that is given lies in the subnet, and is neither its network, its broadcast, its gateway nor taken', () => {
    fc.assert(fc.property(subnets, fc.array(fc.nat(40)), fc.nat(), (subnet, offsets, last) => {
      const gateway = toAddress(subnet.network + 1);
      const taken = new Set(offsets.map((offset) => toAddress(subnet.network + offset)));
      const previous = toAddress(subnet.network + (last % (subnet.broadcast - subnet.network + 1)));
      const address = nextAddress(subnet, new Set([gateway]), previous, (candidate) => taken.has(candidate));
      if (address === undefined) return;
      expect(contains(subnet, address)).toBe(true);
      expect([toAddress(subnet.network), toAddress(subnet.broadcast), gateway, ...taken]).not.toContain(address);
    }));
  });

  test('all of a subnet are given, each once, and then none', () => {
    fc.assert(fc.property(small, (subnet) => {
      const gateway = toAddress(subnet.network + 1);
      const given = new Set<string>();
      let last: string | undefined;
      for (;;) {
        const address = nextAddress(subnet, new Set([gateway]), last, (candidate) => given.has(candidate));
        if (address === undefined) break;
        expect(given.has(address)).toBe(false);
        given.add(address);
        last = address;
      }
      expect(given.size).toBe(2 ** (32 - subnet.prefix) - 3);
    }));
  });

  test('the next is behind the last, though a lower one was given back', () => {
    const subnet = subnetOf('10.1.2.1/24');
    const taken = new Set(['10.1.2.3']);
    expect(nextAddress(subnet, new Set(['10.1.2.1']), '10.1.2.3', (a) => taken.has(a))).toBe('10.1.2.4');
    expect(nextAddress(subnet, new Set(['10.1.2.1']), '10.1.2.254', (a) => taken.has(a))).toBe('10.1.2.2');
    expect(nextAddress(subnet, new Set(['10.1.2.1']), undefined, (a) => taken.has(a))).toBe('10.1.2.2');
  });

  test('subnet and hardware address', () => {
    expect(cidrOf(subnetOf('172.20.5.1/16'))).toBe('172.20.0.0/16');
    expect(macOf('10.77.0.255')).toBe('02:42:0a:4d:00:ff');
  });
});

describe('port requests', () => {
  const exposed = (...keys: string[]) => Object.fromEntries(keys.map((key) => [key, {} as Record<string, never>]));
  test.each([
    ['nothing', {}, {}, false, []],
    ['exposed only', exposed('80/tcp'), {}, false, []],
    ['all exposed', exposed('80/tcp', '53/udp'), {}, true, ['80/tcp :0-0', '53/udp :0-0']],
    ['one', {}, { '80/tcp': [{ HostIp: '', HostPort: '8080' }] }, false, ['80/tcp :8080-8080']],
    ['no protocol', {}, { '80': [{ HostIp: '', HostPort: '8080' }] }, false, ['80/tcp :8080-8080']],
    ['a range to choose from', {}, { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8000-8010' }] }, false, ['80/tcp 127.0.0.1:8000-8010']],
    ['any', {}, { '80/udp': [{ HostIp: '', HostPort: '' }] }, false, ['80/udp :0-0']],
    ['two addresses', {}, { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '80' }, { HostIp: '[::1]', HostPort: '80' }] }, false, ['80/tcp 127.0.0.1:80-80', '80/tcp ::1:80-80']],
    ['asked for, and the rest by -P', exposed('80/tcp', '443/tcp'), { '80/tcp': [{ HostIp: '', HostPort: '8080' }] }, true, ['80/tcp :8080-8080', '443/tcp :0-0']],
    ['a binding without a list', exposed('80/tcp'), { '80/tcp': null }, false, []],
    ['exposed as a range', exposed('3000-3002/tcp'), {}, true, ['3000/tcp :0-0', '3001/tcp :0-0', '3002/tcp :0-0']],
  ] as const)('%s', (_, ExposedPorts, PortBindings, PublishAllPorts, expected) => {
    const requests = portRequests({ ExposedPorts }, { PortBindings: PortBindings as never, PublishAllPorts });
    expect(requests.map((r) => `${r.containerPort}/${r.protocol} ${r.hostIp}:${r.start}-${r.end}`)).toEqual(expected);
  });

  test('no host address means both families, where there are both; exact ports come first', () => {
    const requests = portRequests({}, { PublishAllPorts: false, PortBindings: { '70/tcp': [{ HostIp: '', HostPort: '' }], '80/tcp': [{ HostIp: '', HostPort: '80' }], '90/sctp': [{ HostIp: '', HostPort: '90' }] } });
    expect(groupRequests(requests, { hostIp: '', ipv6: true }).map((g) => [g.containerPort, g.hostIps])).toEqual([[80, ['0.0.0.0', '::']], [90, ['0.0.0.0']], [70, ['0.0.0.0', '::']]]);
    expect(groupRequests(requests, { hostIp: '', ipv6: false }).map((g) => g.hostIps)).toEqual([['0.0.0.0'], ['0.0.0.0'], ['0.0.0.0']]);
    expect(groupRequests(requests, { hostIp: '192.0.2.9', ipv6: true })[0]!.hostIps).toEqual(['192.0.2.9']);
  });

  test('bindings that differ in the address only get one port; the same one twice does not', () => {
    const bindings = (...list: [string, string][]) => portRequests({}, { PublishAllPorts: false, PortBindings: { '80/tcp': list.map(([HostIp, HostPort]) => ({ HostIp, HostPort })) } });
    expect(groupRequests(bindings(['127.0.0.1', ''], ['127.0.0.2', '']), { hostIp: '', ipv6: true })).toHaveLength(1);
    expect(groupRequests(bindings(['', '80'], ['', '80']), { hostIp: '', ipv6: true })).toHaveLength(2);
    expect(groupRequests(bindings(['::ffff:127.0.0.1', '80'], ['0:0::1', '81']), { hostIp: '', ipv6: true }).flatMap((g) => g.hostIps)).toEqual(['127.0.0.1', '::1']);
  });
});

describe('port table', () => {
  const busy = new Set<string>();
  const table = () => new PortTable({ ephemeral: [40_000, 40_003], probe: (protocol, address, port) => (busy.has(`${protocol} ${address} ${port}`) ? 'address already in use' : undefined) });
  const group = (hostIps: string[], start = 0, end = start): PortGroup => ({ protocol: 'tcp', containerPort: 80, hostIps, start, end });

  test('a port of ours is refused, in Docker’s words', () => {
    const ports = table();
    expect(ports.allocate('a', group(['0.0.0.0', '::'], 8080), '10.0.0.2')).toBe(8080);
    expect(() => ports.allocate('b', group(['0.0.0.0', '::'], 8080), '10.0.0.3')).toThrow(new PortTaken('Bind for 0.0.0.0:8080 failed: port is already allocated'));
    expect(() => ports.allocate('b', group(['127.0.0.1'], 8080), '10.0.0.3')).toThrow(new PortTaken('Bind for 0.0.0.0:8080 failed: port is already allocated'));
    expect(() => ports.allocate('b', group(['::1'], 8080), '10.0.0.3')).toThrow(new PortTaken('Bind for :::8080 failed: port is already allocated'));
    ports.release('a');
    expect(ports.allocate('b', group(['127.0.0.1'], 8080), '10.0.0.3')).toBe(8080);
    expect(ports.allocate('c', group(['127.0.0.2'], 8080), '10.0.0.4')).toBe(8080);
    expect(() => ports.allocate('d', group(['0.0.0.0'], 8080), '10.0.0.5')).toThrow(/^Bind for 127\.0\.0\.1:8080 failed/);
    expect(ports.allocate('d', { ...group(['0.0.0.0'], 8080), protocol: 'udp' }, '10.0.0.5')).toBe(8080);
  });

  test('another process’s is refused, in Docker’s words', () => {
    busy.add('tcp 0.0.0.0 80').add('tcp :: 81').add('tcp 0.0.0.0 90');
    expect(() => table().allocate('a', group(['0.0.0.0', '::'], 80), '172.17.0.2')).toThrow(new PortTaken('failed to bind host port for 0.0.0.0:80:172.17.0.2:80/tcp: address already in use'));
    expect(() => table().allocate('a', group(['0.0.0.0', '::'], 81), '172.17.0.2')).toThrow(new PortTaken('failed to bind host port for [::]:81:172.17.0.2:80/tcp: address already in use'));
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

  test('whatever is allocated and released, no two hold what collides', () => {
    const address = fc.constantFrom('0.0.0.0', '127.0.0.1', '192.0.2.1', '::', '::1');
    const step = fc.record({ holder: fc.constantFrom('a', 'b', 'c', 'd'), address, port: fc.integer({ min: 1, max: 3 }), release: fc.boolean() });
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const ports = table();
      const held: { holder: string; address: string; port: number }[] = [];
      const six = (a: string): boolean => a.includes(':');
      const collide = (a: string, b: string): boolean => six(a) === six(b) && (a === b || ['0.0.0.0', '::'].includes(a) || ['0.0.0.0', '::'].includes(b));
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
    }));
  });

  test('the keeper holds what no proxy listens on', () => {
    const base = { containerPort: 80, hostPort: 80 };
    expect(heldPorts([{ ...base, protocol: 'tcp', hostIp: '0.0.0.0' }, { ...base, protocol: 'tcp', hostIp: '::', proxied: true }, { ...base, protocol: 'sctp', hostIp: '0.0.0.0' }])).toEqual([{ protocol: 'tcp', address: '0.0.0.0', port: 80 }]);
  });
});

describe('plan', () => {
  const who = { id: '0123456789abcdef', name: 'web', hostname: 'box' };
  test.each([['', 'bridge'], ['default', 'bridge'], ['bridge', 'bridge'], ['host', 'host'], ['none', 'none'], ['mine', 'mine']])('mode %j is on %s', (mode, network) => {
    const endpoints = planEndpoints(mode, {}, who);
    expect(Object.keys(endpoints)).toEqual([network]);
    expect(endpoints[network]).toMatchObject({ network, networkId: '', endpointId: '', ipAddress: '', macAddress: '' });
  });
  test('a shared namespace has no endpoints', () => expect(planEndpoints('container:x', {}, who)).toEqual({}));
  test('names on a network of one’s own', () => expect(planEndpoints('mine', { mine: { Aliases: ['a', 'web'] } }, who)['mine']!.dnsNames).toEqual(['web', 'a', '0123456789ab', 'box']));
  test('what is asked for `default` is for the bridge', () => expect(planEndpoints('default', { default: { MacAddress: '02:42:ac:11:00:09' } }, who)['bridge']!.request.MacAddress).toBe('02:42:ac:11:00:09'));
  test.each([
    [{ bridge: { IPAMConfig: { IPv4Address: '172.17.0.9' } } }, 'invalid config for network bridge: invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only'],
    [{ bridge: { Aliases: ['x'] } }, 'invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks'],
    [{ bridge: { MacAddress: 'zz' } }, 'invalid config for network bridge: invalid MAC address zz'],
    [{ bridge: null }, 'invalid config for network bridge: EndpointsConfig is nil'],
    [{ mine: { IPAMConfig: { IPv4Address: '1.2.3' } } }, 'invalid config for network mine: invalid endpoint settings:\ninvalid IPv4 address: 1.2.3'],
  ])('refused: %j', (requests, message) => expect(() => planEndpoints('bridge', requests, who)).toThrow(message));
});

describe('files', () => {
  let directory: string;
  let host: HostFiles;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'hf-net-files-'));
    host = { hosts: join(directory, 'h.hosts'), resolvConf: join(directory, 'h.resolv'), resolvedConf: join(directory, 'h.resolved') };
    writeFileSync(host.hosts, '127.0.0.1 localhost\n127.0.1.1 thehost\n');
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  const input = (changes: Partial<FileInput> = {}): FileInput => ({
    hostname: 'box', domainname: '', addresses: ['10.77.0.2'], extraHosts: [], hostGateway: '10.77.0.1', hostNetwork: false, ipv6: true, dns: { servers: [], search: [], options: [] }, ...changes,
  });
  const LOCAL = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n';
  const directives = (text: string): string[] => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

  test('hosts is Docker’s, to the byte', () => {
    expect(hosts(input(), host)).toBe(`${LOCAL}10.77.0.2\tbox\n`);
    expect(hosts(input({ domainname: 'example.org' }), host)).toBe(`${LOCAL}10.77.0.2\tbox.example.org box\n`);
    expect(hosts(input({ extraHosts: ['db:10.0.0.9', 'up:host-gateway', 'six:[fd00::1]', 'seven:fd00::2'] }), host)).toBe(`${LOCAL}10.0.0.9\tdb\n10.77.0.1\tup\nfd00::1\tsix\nfd00::2\tseven\n10.77.0.2\tbox\n`);
    expect(hosts(input({ ipv6: false, extraHosts: ['six:fd00::1'] }), host)).toBe('127.0.0.1\tlocalhost\n10.77.0.2\tbox\n');
    expect(hosts(input({ addresses: [] }), host)).toBe(LOCAL);
  });

  test('with the host’s network it is the host’s, unless there are names to add', () => {
    expect(hosts(input({ hostNetwork: true, addresses: [] }), host)).toBe('127.0.0.1 localhost\n127.0.1.1 thehost\n');
    expect(hosts(input({ hostNetwork: true, addresses: [], extraHosts: ['db:10.0.0.9'] }), host)).toBe(`${LOCAL}10.0.0.9\tdb\n`);
  });

  test.each<[string, string, Partial<FileInput>, string[]]>([
    ['the host’s', 'nameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2\n', {}, ['nameserver 192.0.2.53', 'search a.example b.example', 'options ndots:2']],
    ['without loopback and IPv6 servers', 'nameserver 127.0.0.1\nnameserver ::1\nnameserver fd00::53\nnameserver 192.0.2.53\n', {}, ['nameserver 192.0.2.53']],
    ['public servers where none is left', 'nameserver 127.0.0.1\n', {}, ['nameserver 8.8.8.8', 'nameserver 8.8.4.4']],
    ['those behind systemd-resolved', 'nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n', {}, ['nameserver 198.51.100.53', 'search resolved.example']],
    ['asked for', 'nameserver 192.0.2.53\nsearch a.example\n', { dns: { servers: ['127.0.0.11', '1.1.1.1'], search: ['.'], options: ['timeout:1'] } }, ['nameserver 127.0.0.11', 'nameserver 1.1.1.1', 'options timeout:1']],
    ['all of the host’s on its network', 'nameserver 127.0.0.53\n', { hostNetwork: true }, ['nameserver 127.0.0.53']],
    ['what nobody knows is kept', 'sortlist 10.0.0.0\nnameserver 192.0.2.53 # here\n', {}, ['nameserver 192.0.2.53', 'sortlist 10.0.0.0']],
  ])('resolv.conf: %s', (_, source, changes, expected) => {
    writeFileSync(host.resolvConf, source);
    writeFileSync(host.resolvedConf, 'nameserver 198.51.100.53\nsearch resolved.example\n');
    expect(directives(resolvConf(input(changes), host))).toEqual(expected);
  });

  test('any text is read without a fault', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.constantFrom('nameserver', 'search', 'options', 'domain', '#', 'x'), fc.string()).map(([a, b]) => `${a} ${b}`)), (lines) => void parseResolvConf(lines.join('\n'))));
  });

  test('the files are written in place, and an edited resolv.conf stays', () => {
    writeFileSync(host.resolvConf, 'nameserver 192.0.2.53\n');
    const at = join(directory, 'c');
    writeNetworkFiles(at, input(), host);
    const inode = statSync(join(at, 'hosts')).ino;
    expect(readFileSync(join(at, 'hostname'), 'utf8')).toBe('box\n');
    writeNetworkFiles(at, input({ addresses: ['10.77.0.3'] }), host);
    expect(statSync(join(at, 'hosts')).ino).toBe(inode);
    expect(readFileSync(join(at, 'hosts'), 'utf8')).toContain('10.77.0.3\tbox\n');
    writeFileSync(host.resolvConf, 'nameserver 192.0.2.54\n');
    writeNetworkFiles(at, input(), host);
    expect(readFileSync(join(at, 'resolv.conf'), 'utf8')).toContain('192.0.2.54');
    writeFileSync(join(at, 'resolv.conf'), 'nameserver 9.9.9.9\n');
    writeNetworkFiles(at, input(), host);
    expect(readFileSync(join(at, 'resolv.conf'), 'utf8')).toBe('nameserver 9.9.9.9\n');
  });
});

test('the table names each bridge in every chain that knows bridges', () => {
  const text = script('t', [{ link: 'br1', address: '10.1.0.1/24', mtu: 1500 }, { link: 'br2', address: '10.2.0.1/24', mtu: 1500 }]);
  for (const [chain, bridge] of ['guard', 'postrouting', 'forward'].flatMap((name) => ['br1', 'br2'].map((link) => [name, link] as const))) {
    expect(text).toMatch(new RegExp(`add rule ip t ${chain} .*"${bridge}"`));
  }
});
