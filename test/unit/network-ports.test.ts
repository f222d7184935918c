/** How published ports are requested, allocated and reserved. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  groupRequests,
  heldPorts,
  portRequests,
  PortTable,
  PortTaken,
  type PortGroup,
} from '../../src/engine/networks/port-allocation.ts';

describe('port requests', () => {
  const exposed = (...keys: string[]) => Object.fromEntries(keys.map((key) => [key, {}]));
  test.each([
    ['nothing requested', {}, {}, false, []],
    ['exposed, not published', exposed('80/tcp'), {}, false, []],
    ['publish all exposed ports', exposed('80/tcp', '53/udp'), {}, true, ['80/tcp :0-0', '53/udp :0-0']],
    ['one host port', {}, { '80/tcp': [{ HostIp: '', HostPort: '8080' }] }, false, ['80/tcp :8080-8080']],
    ['no protocol', {}, { '80': [{ HostIp: '', HostPort: '8080' }] }, false, ['80/tcp :8080-8080']],
    [
      'a range to choose from',
      {},
      { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8000-8010' }] },
      false,
      ['80/tcp 127.0.0.1:8000-8010'],
    ],
    ['any host port', {}, { '80/udp': [{ HostIp: '', HostPort: '' }] }, false, ['80/udp :0-0']],
    [
      'two host addresses',
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
      'one requested, the rest by -P',
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

  test('no host address means all families of the endpoint; exact ports come first', () => {
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

  test('bindings that differ only in the address share one port; identical bindings do not', () => {
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

  test('rejects a port of another container with Docker’s message', () => {
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

  test('rejects a port of another process with Docker’s message', () => {
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

  test('takes the first free port of a range, continuing after the last', () => {
    const ports = table();
    expect([1, 2].map((n) => ports.allocate(`${n}`, group(['0.0.0.0'], 8000, 8002), 'x'))).toEqual([8000, 8001]);
    ports.release('1');
    expect(['3', '4'].map((n) => ports.allocate(n, group(['0.0.0.0'], 8000, 8002), 'x'))).toEqual([8002, 8000]);
    expect(() => ports.allocate('5', group(['0.0.0.0'], 8000, 8002), 'x')).toThrow('all ports are allocated');
  });

  test('takes an ephemeral port that no other process has', () => {
    busy.add('tcp 0.0.0.0 40000').add('tcp :: 40001');
    const ports = table();
    expect([1, 2].map((n) => ports.allocate(`${n}`, group(['0.0.0.0', '::']), 'x'))).toEqual([40_002, 40_003]);
    expect(() => ports.allocate('3', group(['0.0.0.0', '::']), 'x')).toThrow(PortTaken);
    busy.clear();
  });

  test('starts at an offset in the ephemeral ports that differs per daemon, and wraps around', () => {
    const ports = new PortTable({ ephemeral: [40_000, 40_003], offset: 2, probe: () => undefined });
    expect([1, 2, 3, 4].map((n) => ports.allocate(`${n}`, group(['0.0.0.0']), 'x'))).toEqual([
      40_002, 40_003, 40_000, 40_001,
    ]);
    expect(ports.allocate('5', group(['0.0.0.0'], 8000, 8002), 'x')).toBe(8000);
  });

  test('no two holders collide, whatever is allocated and released [ports-no-collision]', () => {
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

  test('the keeper reserves the ports that no proxy listens on', () => {
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
