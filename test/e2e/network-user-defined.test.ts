/**
 * User-defined networks: create, options, connect, DNS, isolation, release of addresses, and recovery after a killed
 * daemon. Needs real bridges, firewall rules and DNS server.
 */
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { tableName } from '../../src/engine/networks/netlink-driver.ts';
import { dnsServer, dnsServers } from '../support/dns-server.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { linkNames, linksOn } from '../support/links.ts';
import { until } from '../support/until.ts';

interface Net {
  Id: string;
  Name: string;
  IPAM: { Config: { Subnet: string; Gateway: string }[] };
  Containers: Record<string, { Name: string; IPv4Address: string; IPv6Address: string; EndpointID: string }>;
}
interface Endpoint {
  IPAddress: string;
  Gateway: string;
  EndpointID: string;
  NetworkID: string;
  DNSNames: string[];
  Aliases: string[] | null;
  MacAddress: string;
  GlobalIPv6Address: string;
}

let engine: TestEngine;
let subnet: string;
/** Name of the nftables table of this daemon. */
let table: string;
const { docker, ok: dockerOk } = dockerOf(() => engine);
const inspect = async (name: string): Promise<Net> => (await engine.api('GET', `/networks/${name}`)).json as Net;
const endpointsOf = async (name: string): Promise<Record<string, Endpoint>> =>
  (
    (await engine.api('GET', `/containers/${name}/json`)).json as {
      NetworkSettings: { Networks: Record<string, Endpoint> };
    }
  ).NetworkSettings.Networks;
const endpointOf = async (name: string, network: string): Promise<Endpoint> => (await endpointsOf(name))[network]!;
const message = async (method: string, path: string, body?: unknown): Promise<[number, string]> => {
  const { status, json } = await engine.api(method, path, body);
  return [status, (json as { message?: string } | undefined)?.message ?? ''];
};
const sleeper = (name: string, ...options: string[]): Promise<string> =>
  dockerOk('run', '-d', '--name', name, ...options, 'busybox', 'sleep', '1000');
const web = (name: string, ...options: string[]): Promise<string> =>
  dockerOk(
    ...['run', '-d', '--name', name, ...options],
    ...['busybox', 'sh', '-c', `mkdir -p /w; echo ${name} > /w/index.html; exec httpd -f -h /w -p 80`],
  );
const get = async (from: string, host: string): Promise<string> =>
  (await docker('exec', from, 'timeout', '5', 'wget', '-qO-', `http://${host}/`)).stdout.trim();
/** Addresses that a name resolves to inside a container; empty when it is unknown. */
const resolved = async (from: string, name: string): Promise<string[]> =>
  [...(await docker('exec', from, 'nslookup', name)).stdout.matchAll(/^Name:\s+\S+\nAddress(?: \d+)?: (\S+)/gm)]
    .map(([, address]) => address!)
    .sort();
const inNetns = (c: string, ...args: string[]): Promise<string> => dockerOk('exec', c, ...args);
/** Output of a shell command; empty when it fails. */
const tryShell = (command: string): string => {
  try {
    return execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
};

beforeAll(async () => {
  engine = await startEngine();
  subnet = `10.217.${process.pid % 250}`;
  const { Options } = (await engine.api('GET', '/networks/bridge')).json as { Options: Record<string, string> };
  table = tableName(Options['com.docker.network.bridge.name']!);
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  // The DNS server exits when no network is left.
  await until(() => dnsServers(engine).length === 0);
});
afterEach(async () => {
  const all = (await engine.api('GET', '/containers/json?all=1')).json as { Id: string }[];
  await Promise.all(all.map(({ Id }) => engine.api('DELETE', `/containers/${Id}?force=1&v=1`)));
  const mine = ((await engine.api('GET', '/networks')).json as Net[]).filter(
    ({ Name }) => !['bridge', 'host', 'none'].includes(Name),
  );
  for (const { Id } of mine) expect((await engine.api('DELETE', `/networks/${Id}`)).status).toBe(204);
});

describe('create and remove', () => {
  test('create, inspect, list and rm show all settings [network-create]', async () => {
    const made = await engine.api('POST', '/networks/create', {
      Name: 'n1',
      Labels: { a: 'b' },
      Attachable: true,
      Options: { 'com.docker.network.driver.mtu': '1400' },
      IPAM: {
        Config: [
          {
            Subnet: `${subnet}.0/24`,
            Gateway: `${subnet}.9`,
            IPRange: `${subnet}.128/25`,
            AuxiliaryAddresses: { router: `${subnet}.128` },
          },
        ],
      },
    });
    expect([made.status, made.json]).toEqual([
      201,
      { Id: expect.stringMatching(/^[0-9a-f]{64}$/) as string, Warning: '' },
    ]);
    expect(await inspect('n1')).toEqual({
      Name: 'n1',
      Id: (made.json as Net).Id,
      Created: expect.any(String) as string,
      Scope: 'local',
      Driver: 'bridge',
      EnableIPv4: true,
      EnableIPv6: false,
      IPAM: {
        Driver: 'default',
        Options: null,
        Config: [
          {
            Subnet: `${subnet}.0/24`,
            Gateway: `${subnet}.9`,
            IPRange: `${subnet}.128/25`,
            AuxiliaryAddresses: { router: `${subnet}.128` },
          },
        ],
      },
      Internal: false,
      Attachable: true,
      Ingress: false,
      ConfigFrom: { Network: '' },
      ConfigOnly: false,
      Containers: {},
      Options: { 'com.docker.network.driver.mtu': '1400' },
      Labels: { a: 'b' },
    });
    await sleeper('c1', '--network', 'n1');
    expect(await endpointOf('c1', 'n1')).toMatchObject({ IPAddress: `${subnet}.129`, Gateway: `${subnet}.9` });
    expect(await inNetns('c1', 'cat', '/sys/class/net/eth0/mtu')).toBe('1400');
    const { Containers } = await inspect('n1');
    expect(Object.values(Containers)).toEqual([
      {
        Name: 'c1',
        EndpointID: (await endpointOf('c1', 'n1')).EndpointID,
        MacAddress: (await endpointOf('c1', 'n1')).MacAddress,
        IPv4Address: `${subnet}.129/24`,
        IPv6Address: '',
      },
    ]);
    expect(await message('DELETE', '/networks/n1')).toEqual([
      403,
      `error while removing network: network n1 id ${(made.json as Net).Id} has active endpoints`,
    ]);
    await dockerOk('rm', '-f', 'c1');
    expect(await dockerOk('network', 'rm', 'n1')).toBe('n1');
    expect(await message('GET', '/networks/n1')).toEqual([404, 'network n1 not found']);
    expect(tryShell('ip -br link')).not.toContain(`br-${(made.json as Net).Id.slice(0, 12)}`);
  });

  test('gateway and containers get addresses of the ip-range only, until it is exhausted [network-ip-range]', async () => {
    await dockerOk('network', 'create', '--subnet', `${subnet}.0/24`, '--ip-range', `${subnet}.64/30`, 'n1');
    const given: string[] = [];
    for (const name of ['c1', 'c2', 'c3']) {
      await sleeper(name, '--network', 'n1');
      const { IPAddress, Gateway } = await endpointOf(name, 'n1');
      given.push(IPAddress);
      expect(Gateway).toBe(`${subnet}.64`);
    }
    expect(given).toEqual([65, 66, 67].map((last) => `${subnet}.${last}`));
    expect((await docker('run', '--rm', '--network', 'n1', 'busybox', 'true')).stderr).toContain(
      "no available IPv4 addresses on this network's address pools: n1",
    );
    // A static address may be outside the range.
    await sleeper('c4', '--network', 'n1', '--ip', `${subnet}.200`);
    expect(await inNetns('c4', 'ip', '-4', 'addr', 'show', 'eth0')).toContain(`${subnet}.200/24`);
    await inNetns('c4', 'ping', '-c1', '-W2', given[0]!);
  });

  test('impossible networks are refused with Docker’s messages [network-create-refusals]', async () => {
    await dockerOk('network', 'create', '--subnet', `${subnet}.0/24`, 'n1');
    const create = (body: unknown): Promise<[number, string]> => message('POST', '/networks/create', body);
    expect(await create({ Name: 'n1' })).toEqual([409, 'network with name n1 already exists']);
    expect(await create({ Name: 'bridge' })).toEqual([403, 'operation is not permitted on predefined bridge network ']);
    expect(await create({ Name: 'n2', IPAM: { Config: [{ Subnet: `${subnet}.128/25` }] } })).toEqual([
      403,
      'invalid pool request: Pool overlaps with other one on this address space',
    ]);
    expect((await create({ Name: 'n2', Driver: 'overlay' }))[0]).toBe(403);
    expect(await create({ Name: 'n2', Driver: 'nonesuch' })).toEqual([404, 'plugin "nonesuch" not found']);
    expect(await message('GET', '/networks/n1?scope=swarm')).toEqual([404, 'network n1 not found']);
    expect(await message('POST', '/networks/n1/disconnect', { Container: 'gone', Force: true })).toEqual([
      404,
      'endpoint gone not found',
    ]);
    expect(await message('DELETE', '/networks/host')).toEqual([
      403,
      'host is a pre-defined network and cannot be removed',
    ]);
    expect(await message('DELETE', '/networks/nope')).toEqual([404, 'network nope not found']);
    expect(await message('GET', '/networks?filters={"foo":["x"]}')).toEqual([400, "invalid filter 'foo'"]);
  });

  test('list and prune apply filters [network-filters]', async () => {
    await dockerOk('network', 'create', '--label', 'who=me', 'idle');
    const id = await dockerOk('network', 'create', 'busy');
    await sleeper('c1', '--network', 'busy');
    const listed = async (...filters: string[]): Promise<string[]> =>
      (await dockerOk('network', 'ls', '--format', '{{.Name}}', ...filters.flatMap((f) => ['-f', f])))
        .split('\n')
        .filter(Boolean)
        .sort();
    expect(await listed()).toEqual(['bridge', 'busy', 'host', 'idle', 'none']);
    expect(await listed('type=custom')).toEqual(['busy', 'idle']);
    expect(await listed('type=builtin')).toEqual(['bridge', 'host', 'none']);
    expect(await listed('dangling=true')).toEqual(['idle']);
    expect(await listed('dangling=false')).toEqual(['bridge', 'busy', 'host', 'none']);
    expect(await listed('label=who=me')).toEqual(['idle']);
    expect(await listed('label=who=you')).toEqual([]);
    expect(await listed(`id=${id.slice(0, 8)}`)).toEqual(['busy']);
    expect(await listed('name=us')).toEqual(['busy']);
    expect(await listed('driver=null', 'driver=host')).toEqual(['host', 'none']);
    expect(await listed('scope=swarm')).toEqual([]);
    const prune = async (filters: object): Promise<unknown> =>
      (await engine.api('POST', `/networks/prune?filters=${encodeURIComponent(JSON.stringify(filters))}`)).json;
    expect([
      await prune({ label: ['who=you'] }),
      await prune({ 'label!': ['who'] }),
      await prune({ until: ['1h'] }),
    ]).toEqual([{ NetworksDeleted: null }, { NetworksDeleted: null }, { NetworksDeleted: null }]);
    expect((await engine.api('POST', '/networks/prune')).json).toEqual({ NetworksDeleted: ['idle'] });
    expect((await engine.api('POST', '/networks/prune')).json).toEqual({ NetworksDeleted: null });
  });

  test('subnets come from the pools, are unique and collide with no route of the host [network-subnet-choice]', async () => {
    const all = await Promise.all(
      Array.from({ length: 4 }, (_, i) => dockerOk('network', 'create', `p${i}`).then(() => inspect(`p${i}`))),
    );
    const subnets = all.map(({ IPAM }) => IPAM.Config[0]!.Subnet);
    expect(new Set(subnets).size).toBe(4);
    for (const each of subnets) expect(tryShell(`ip -o route show ${each}`).trim().split('\n')).toHaveLength(1);
  });

  test('create, connect, disconnect and destroy events are emitted [network-events]', async () => {
    const since = String(Date.now() / 1000 - 1);
    await dockerOk('network', 'create', 'n1');
    await sleeper('c1');
    const id = (await engine.api('GET', '/containers/c1/json')).json as { Id: string };
    await dockerOk('network', 'connect', 'n1', 'c1');
    await dockerOk('network', 'disconnect', 'n1', 'c1');
    await dockerOk('network', 'rm', 'n1');
    const range = ['--since', since, '--until', String(Date.now() / 1000)];
    const filters = ['--filter', 'type=network', '--filter', 'network=n1'];
    const lines = (await dockerOk('events', ...range, ...filters, '--format', '{{json .}}'))
      .split('\n')
      .map((line) => JSON.parse(line) as { Action: string; Actor: { Attributes: Record<string, string> } });
    expect(lines.map(({ Action, Actor: { Attributes } }) => [Action, Attributes])).toEqual([
      ['create', { name: 'n1', type: 'bridge' }],
      ['connect', { name: 'n1', type: 'bridge', container: id.Id }],
      ['disconnect', { name: 'n1', type: 'bridge', container: id.Id }],
      ['destroy', { name: 'n1', type: 'bridge' }],
    ]);
  });
});

describe('options', () => {
  test('internal: members reach each other, have no default route and publish nothing [network-internal]', async () => {
    await dockerOk('network', 'create', '--internal', 'inner');
    await web('aa', '--network', 'inner', '-p', '80');
    await sleeper('bb', '--network', 'inner');
    expect(await get('bb', 'aa')).toBe('aa');
    expect(await inNetns('bb', 'ip', 'route')).not.toContain('default');
    expect(await dockerOk('port', 'aa')).toBe('');
  });

  test('enable_icc=false: containers reach the host but not each other [network-icc]', async () => {
    await dockerOk('network', 'create', '-o', 'com.docker.network.bridge.enable_icc=false', 'apart');
    await web('aa', '--network', 'apart');
    await sleeper('bb', '--network', 'apart');
    const { IPAddress, Gateway } = await endpointOf('aa', 'apart');
    await inNetns('bb', 'ping', '-c1', '-W2', Gateway);
    expect((await docker('exec', 'bb', 'ping', '-c1', '-W1', IPAddress)).exitCode).toBe(1);
    await until(async () => (await engine.curl(`http://${IPAddress}/`).catch(() => '')).trim() === 'aa');
  });

  test('bridge name, host_binding_ipv4 and enable_ip_masquerade are applied [network-bridge-options]', async () => {
    const link = `hfn${process.pid}`;
    await dockerOk(
      ...['network', 'create', '-o', `com.docker.network.bridge.name=${link}`],
      ...['-o', 'com.docker.network.bridge.host_binding_ipv4=127.0.0.1'],
      ...['-o', 'com.docker.network.bridge.enable_ip_masquerade=false', 'named'],
    );
    expect(tryShell(`ip -br link show ${link}`)).toContain(link);
    await web('aa', '--network', 'named', '-p', '80');
    expect(await dockerOk('port', 'aa')).toMatch(/^80\/tcp -> 127\.0\.0\.1:\d+$/);
    expect(tryShell('nft list ruleset')).not.toContain(`oifname != "${link}" masquerade`);
    expect(
      await message('POST', '/networks/create', { Name: 'other', Options: { 'com.docker.network.bridge.name': link } }),
    ).toEqual([403, expect.stringContaining('networks have same bridge name') as string]);
  });

  test('IPv6: addresses, routes, names, ports and static addresses work, also without IPv4 [network-ipv6]', async () => {
    await dockerOk('network', 'create', '--ipv6', 'both');
    await dockerOk('network', 'create', '--ipv6', '--ipv4=false', 'six');
    await web('aa', '--network', 'both', '-p', '80');
    await web('ss', '--network', 'six', '-p', '80');
    await sleeper('bb', '--network', 'both', '--network', 'six');
    const { GlobalIPv6Address } = await endpointOf('aa', 'both');
    expect(GlobalIPv6Address).toMatch(/^fd/);
    expect((await inspect('both')).IPAM.Config).toHaveLength(2);
    expect(await resolved('bb', 'aa')).toEqual([(await endpointOf('aa', 'both')).IPAddress, GlobalIPv6Address].sort());
    expect(await get('bb', `[${GlobalIPv6Address}]`)).toBe('aa');
    expect(await get('bb', `[${(await endpointOf('ss', 'six')).GlobalIPv6Address}]`)).toBe('ss');
    expect(await endpointOf('ss', 'six')).toMatchObject({ IPAddress: '', Gateway: '' });
    // Static addresses at create and at connect.
    await dockerOk(
      ...['network', 'create', '--ipv6', '--subnet', 'fd12:3456:789a:1::/64', '--gateway', 'fd12:3456:789a:1::9'],
      'chosen',
    );
    await web('cc', '--network', 'chosen', '--ip6', 'fd12:3456:789a:1::77');
    await dockerOk('network', 'connect', '--ip6', 'fd12:3456:789a:1::78', 'chosen', 'bb');
    expect([
      (await endpointOf('cc', 'chosen')).GlobalIPv6Address,
      (await endpointOf('bb', 'chosen')).GlobalIPv6Address,
    ]).toEqual(['fd12:3456:789a:1::77', 'fd12:3456:789a:1::78']);
    expect(await get('bb', '[fd12:3456:789a:1::77]')).toBe('cc');
    expect(await inNetns('cc', 'ip', '-6', 'route')).toContain('default via fd12:3456:789a:1::9');
    for (const name of ['aa', 'ss']) {
      const port = /:(\d+)$/m.exec(await dockerOk('port', name))![1]!;
      for (const host of ['127.0.0.1', '[::1]'])
        await until(async () => (await engine.curl(`http://${host}:${port}/`).catch(() => '')).trim() === name);
    }
  });

  test('several networks at create: aliases, static addresses and gateway priority are applied [network-several]', async () => {
    await dockerOk('network', 'create', '--subnet', `${subnet}.0/25`, 'n1');
    await dockerOk('network', 'create', '--subnet', `${subnet}.128/25`, 'n2');
    const body = {
      Image: 'busybox',
      Cmd: ['sleep', '1000'],
      HostConfig: { NetworkMode: 'n1' },
      NetworkingConfig: {
        EndpointsConfig: {
          n2: { GwPriority: 1, Aliases: ['two'] },
          n1: { IPAMConfig: { IPv4Address: `${subnet}.77` }, Aliases: ['one'] },
        },
      },
    };
    expect(await message('POST', '/v1.43/containers/create?name=old', body)).toEqual([
      400,
      'Container cannot be created with multiple network endpoints: n1, n2',
    ]);
    expect((await engine.api('POST', '/containers/create?name=c1', body)).status).toBe(201);
    await dockerOk('start', 'c1');
    const both = await endpointsOf('c1');
    expect(Object.keys(both).sort()).toEqual(['n1', 'n2']);
    expect(both.n1).toMatchObject({ IPAddress: `${subnet}.77`, Aliases: ['one'] });
    const id = ((await engine.api('GET', '/containers/c1/json')).json as { Id: string }).Id.slice(0, 12);
    expect(both.n1!.DNSNames).toEqual(['c1', 'one', id]);
    expect(await inNetns('c1', 'ip', 'route')).toContain(`default via ${both.n2!.Gateway}`);
    expect(await inNetns('c1', 'ip', '-4', 'addr', 'show', 'eth0')).toContain(`${subnet}.77/25`);
  });
});

describe('connect and disconnect', () => {
  test('a running container gains and loses links, routes, names and ports [network-connect-running]', async () => {
    await dockerOk('network', 'create', 'n1');
    await dockerOk('network', 'create', 'n2');
    await web('aa', '--network', 'n1', '-p', '80');
    await sleeper('bb', '--network', 'n2');
    const port = /:(\d+)$/m.exec(await dockerOk('port', 'aa'))![1]!;
    expect(await resolved('bb', 'aa')).toEqual([]);
    await dockerOk('network', 'connect', '--alias', 'other', 'n2', 'aa');
    const second = await endpointOf('aa', 'n2');
    expect(await inNetns('aa', 'ip', '-4', 'addr', 'show', 'eth1')).toContain(second.IPAddress);
    expect(await resolved('bb', 'other')).toEqual([second.IPAddress]);
    expect(await get('bb', 'aa')).toBe('aa');
    expect(await inNetns('aa', 'cat', '/etc/hosts')).toContain(second.IPAddress);
    await dockerOk('network', 'disconnect', 'n1', 'aa');
    expect(Object.keys(await endpointsOf('aa'))).toEqual(['n2']);
    expect(await inNetns('aa', 'ls', '/sys/class/net')).toBe('eth1\nlo');
    expect(await inNetns('aa', 'ip', 'route')).toContain(`default via ${second.Gateway} dev eth1`);
    expect(await get('bb', 'aa')).toBe('aa');
    await until(async () => (await engine.curl(`http://127.0.0.1:${port}/`).catch(() => '')).trim() === 'aa');
    await dockerOk('network', 'disconnect', 'n2', 'aa');
    expect(await inNetns('aa', 'ls', '/sys/class/net')).toBe('lo');
    expect(await resolved('bb', 'aa')).toEqual([]);
    await dockerOk('network', 'connect', 'n1', 'aa');
    expect(await inNetns('aa', 'ip', 'route')).toContain('default via');
    await until(
      async () =>
        (
          await engine.curl(`http://127.0.0.1:${/:(\d+)$/m.exec(await dockerOk('port', 'aa'))![1]!}/`).catch(() => '')
        ).trim() === 'aa',
    );
  });

  test('a stopped container is connected from its next start [network-connect-stopped]', async () => {
    await dockerOk('network', 'create', 'n1');
    await dockerOk('create', '--name', 'c1', 'busybox', 'sleep', '1000');
    await dockerOk('network', 'connect', '--alias', 'x', 'n1', 'c1');
    expect(Object.keys(await endpointsOf('c1')).sort()).toEqual(['bridge', 'n1']);
    await dockerOk('network', 'connect', 'n1', 'c1');
    await dockerOk('start', 'c1');
    expect((await endpointOf('c1', 'n1')).IPAddress).not.toBe('');
    expect(await resolved('c1', 'x')).toEqual([(await endpointOf('c1', 'n1')).IPAddress]);
    await dockerOk('stop', '-t', '0', 'c1');
    await dockerOk('network', 'disconnect', 'n1', 'c1');
    expect(Object.keys(await endpointsOf('c1'))).toEqual(['bridge']);
    expect(await message('POST', '/networks/n1/disconnect', { Container: 'c1' })).toEqual([
      500,
      expect.stringMatching(/^container \w{64} is not connected to the network n1$/) as string,
    ]);
  });

  test('static addresses are kept over restarts; taken and foreign ones are refused [network-static-address]', async () => {
    await dockerOk('network', 'create', '--subnet', `${subnet}.0/24`, 'n1');
    await dockerOk('network', 'create', 'auto');
    await sleeper('c1', '--network', 'n1', '--ip', `${subnet}.50`);
    await sleeper('c2');
    const connect = (network: string, IPv4Address: string): Promise<[number, string]> =>
      message('POST', `/networks/${network}/connect`, {
        Container: 'c2',
        EndpointConfig: { IPAMConfig: { IPv4Address } },
      });
    expect(await connect('n1', `${subnet}.50`)).toEqual([403, 'Address already in use']);
    expect(await connect('n1', '192.0.2.1')).toEqual([
      400,
      'invalid endpoint settings:\nno configured subnet contains IP address 192.0.2.1',
    ]);
    expect((await connect('auto', '10.78.0.99'))[0]).toBe(400);
    const late = await docker('run', '--rm', '--network', 'n1', '--ip', `${subnet}.50`, 'busybox', 'true');
    expect([late.exitCode, late.stderr]).toEqual([125, expect.stringContaining('Address already in use') as string]);
    expect(await connect('n1', `${subnet}.51`)).toEqual([200, '']);
    expect((await endpointOf('c2', 'n1')).IPAddress).toBe(`${subnet}.51`);
    // With an alias, connected while it runs, and kept over its next start.
    await sleeper('c3');
    await dockerOk('network', 'connect', '--ip', `${subnet}.60`, '--alias', 'chosen', 'n1', 'c3');
    expect([
      await inNetns('c3', 'ip', '-4', 'addr', 'show', 'eth1').then((text) => text.includes(`${subnet}.60/24`)),
      await resolved('c1', 'chosen'),
    ]).toEqual([true, [`${subnet}.60`]]);
    await dockerOk('restart', '-t', '0', 'c3');
    await dockerOk('stop', '-t', '0', 'c3');
    await dockerOk('start', 'c3');
    expect([(await endpointOf('c3', 'n1')).IPAddress, await resolved('c1', 'chosen')]).toEqual([
      `${subnet}.60`,
      [`${subnet}.60`],
    ]);
  });

  test('impossible connections are refused with Docker’s messages [network-connect-refusals]', async () => {
    await dockerOk('network', 'create', 'n1');
    await sleeper('c1', '--network', 'n1');
    await sleeper('hh', '--network', 'host');
    await sleeper('nn', '--network', 'none');
    await sleeper('ss', '--network', 'container:c1');
    const connect = (network: string, Container: string): Promise<[number, string]> =>
      message('POST', `/networks/${network}/connect`, { Container });
    const shared =
      'container sharing network namespace with another container or host cannot be connected to any other network';
    expect(await connect('n1', 'c1')).toEqual([403, 'endpoint with name c1 already exists in network n1']);
    expect(await connect('nope', 'c1')).toEqual([404, 'network nope not found']);
    expect(await connect('n1', 'nope')).toEqual([404, 'No such container: nope']);
    expect(await connect('host', 'c1')).toEqual([
      400,
      'cannot connect container to host network - container must be created in host network mode',
    ]);
    expect(await connect('n1', 'hh')).toEqual([400, shared]);
    expect(await connect('n1', 'ss')).toEqual([400, shared]);
    expect(await connect('n1', 'nn')).toEqual([
      400,
      'container cannot be connected to multiple networks with one of the networks in private (none) mode',
    ]);
    expect(await message('POST', '/networks/bridge/disconnect', { Container: 'c1' })).toEqual([
      500,
      expect.stringMatching(/^container \w{64} is not connected to network bridge$/) as string,
    ]);
    expect(await message('POST', '/networks/host/disconnect', { Container: 'hh' })).toEqual([
      400,
      'container cannot be disconnected from host network or connected to host network',
    ]);
  });

  test('a start fails with a message when its network is gone [network-gone]', async () => {
    await dockerOk('network', 'create', 'n1');
    await dockerOk('run', '--name', 'c1', '--network', 'n1', 'busybox', 'true');
    await dockerOk('network', 'rm', 'n1');
    const { exitCode, stderr } = await docker('start', 'c1');
    expect([exitCode, stderr]).toEqual([
      1,
      expect.stringMatching(/failed to set up container networking: network \w+ not found/) as string,
    ]);
  });
});

describe('DNS', () => {
  test('resolves container name, alias, short id and service name, per network [dns-names]', async () => {
    await dockerOk('network', 'create', 'n1');
    await dockerOk('network', 'create', 'n2');
    const id = await web('aa', '--network', 'n1', '--network-alias', 'service');
    await sleeper('a2', '--network', 'n1', '--network-alias', 'service');
    await sleeper('bb', '--network', 'n1');
    await sleeper('cc', '--network', 'n2');
    const [a, a2] = [(await endpointOf('aa', 'n1')).IPAddress, (await endpointOf('a2', 'n1')).IPAddress];
    for (const name of ['aa', 'AA', id.slice(0, 12)]) expect(await resolved('bb', name)).toEqual([a]);
    expect(await resolved('bb', 'service')).toEqual([a, a2].sort());
    expect(await resolved('cc', 'aa')).toEqual([]);
    expect(await inNetns('bb', 'cat', '/etc/resolv.conf')).toContain(
      `nameserver ${(await endpointOf('bb', 'n1')).Gateway}\noptions ndots:0`,
    );
    await dockerOk('rename', 'aa', 'renamed');
    expect([await resolved('bb', 'renamed'), await resolved('bb', 'aa')]).toEqual([[a], []]);
    await dockerOk('rm', '-f', 'renamed');
    expect(await resolved('bb', 'service')).toEqual([a2]);
  });

  test('forwards unknown names to the --dns servers, from an internal network to none [dns-given-upstream]', async () => {
    const server = `127.77.${process.pid % 250}.1`;
    const queried: string[] = [];
    const stub = createSocket('udp4').on('message', (query, from) => {
      queried.push(query.toString('latin1', 12));
      // Echoes the question with one A record of 192.0.2.7 (RFC 1035).
      const answer = query.readUInt16BE(query.length - 4) === 1 || !query.includes(Buffer.from([0, 28, 0, 1]));
      const head = Buffer.from(query.subarray(0, 12));
      head.writeUInt16BE(0x8180, 2);
      head.writeUInt32BE(answer ? 0x00010001 : 0x00010000, 4);
      head.writeUInt32BE(0, 8);
      const end = query.indexOf(0, 12) + 5;
      stub.send(
        Buffer.concat([
          head,
          query.subarray(12, end),
          answer ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]) : Buffer.alloc(0),
        ]),
        from.port,
        from.address,
      );
    });
    await new Promise<void>((resolve) => stub.bind(53, server, resolve));
    try {
      await dockerOk('network', 'create', 'n1');
      await dockerOk('network', 'create', '--internal', 'inner');
      await sleeper('aa', '--network', 'n1', '--dns', server);
      await sleeper('bb', '--network', 'inner', '--dns', server);
      expect(await resolved('aa', 'outside.example')).toEqual(['192.0.2.7']);
      expect(await resolved('aa', 'aa')).toEqual([(await endpointOf('aa', 'n1')).IPAddress]);
      queried.length = 0;
      expect(await resolved('bb', 'outside.example')).toEqual([]);
      // SERVFAIL arrives at once instead of a timeout, also after a daemon restart, and until the container is on
      // another network too.
      const refused = async (): Promise<boolean> =>
        (await docker('exec', 'bb', 'nslookup', 'outside.example')).stdout.includes('SERVFAIL');
      expect(await refused()).toBe(true);
      await engine.kill9();
      await engine.startAgain();
      expect(await refused()).toBe(true);
      expect(queried).toEqual([]);
      await dockerOk('network', 'connect', 'n1', 'bb');
      expect(await resolved('bb', 'outside.example')).toEqual(['192.0.2.7']);
      await dockerOk('network', 'disconnect', 'n1', 'bb');
      expect(await refused()).toBe(true);
    } finally {
      stub.close();
    }
  });

  test('works without the daemon and after a container restart [dns-without-daemon]', async () => {
    await dockerOk('network', 'create', 'n1');
    await web('aa', '--network', 'n1', '--restart', 'always');
    const b = await sleeper('bb', '--network', 'n1');
    const { IPAddress } = await endpointOf('aa', 'n1');
    const inside = ((await engine.api('GET', `/containers/${b}/json`)).json as { State: { Pid: number } }).State.Pid;
    const looked = (): string => tryShell(`nsenter -t ${inside} -n -m -r -w nslookup aa`);
    await engine.kill9();
    expect(looked()).toContain(IPAddress);
    expect(tryShell(`nsenter -t ${inside} -n -m -r -w timeout 5 wget -qO- http://aa/`).trim()).toBe('aa');
    await engine.startAgain();
    expect(await resolved('bb', 'aa')).toEqual([IPAddress]);
    await dockerOk('restart', '-t', '0', 'aa');
    expect((await endpointOf('aa', 'n1')).IPAddress).toBe(IPAddress);
    expect(await resolved('bb', 'aa')).toEqual([IPAddress]);
  });

  test('restarts a killed DNS server, with the daemon running and at its start [dns-server-restart]', async () => {
    await dockerOk('network', 'create', 'n1');
    await sleeper('aa', '--network', 'n1');
    const { IPAddress } = await endpointOf('aa', 'n1');
    const old = dnsServer(engine);
    process.kill(old, 'SIGKILL');
    await until(() => dnsServers(engine).some((pid) => pid !== old));
    expect(await resolved('aa', 'aa')).toEqual([IPAddress]);
    await engine.kill9();
    process.kill(dnsServer(engine), 'SIGKILL');
    await engine.startAgain();
    await until(async () => (await resolved('aa', 'aa'))[0] === IPAddress);
  });
});

test('12 containers on 4 networks in parallel: unique addresses, all names resolve, nothing is left [network-parallel]', async () => {
  await Promise.all([0, 1, 2, 3].map((n) => dockerOk('network', 'create', `m${n}`)));
  const containers = Array.from({ length: 12 }, (_, i) => ({ name: `c${i}`, network: `m${i % 4}` }));
  await Promise.all(
    containers.map(({ name, network }) => sleeper(name, '--network', network, '--network-alias', 'all')),
  );
  await Promise.all(containers.map(({ name }, i) => dockerOk('network', 'connect', `m${(i + 1) % 4}`, name)));
  const members = await Promise.all([0, 1, 2, 3].map((n) => inspect(`m${n}`)));
  for (const { Containers } of members)
    expect(new Set(Object.values(Containers).map(({ IPv4Address }) => IPv4Address)).size).toBe(6);
  for (const { name, network } of containers.slice(0, 4)) {
    expect(await resolved('c0', name)).toEqual(
      network === 'm0' || network === 'm1' || network === 'm3'
        ? expect.arrayContaining([expect.stringMatching(/^10\./)])
        : [],
    );
  }
  // As in dockerd, a name is answered from the first of the container's networks that has it.
  const [first, second] = [await resolved('c0', 'all.m0'), await resolved('c0', 'all.m1')];
  expect(new Set([...first, ...second]).size).toBe(6);
  expect(await resolved('c0', 'all')).toEqual(first);
  const links = linksOn(...members.map(({ Id }) => `br-${Id.slice(0, 12)}`));
  expect(links).toHaveLength(24);
  await Promise.all(containers.map(({ name }) => dockerOk('rm', '-f', name)));
  await until(() => !linkNames().some((link) => links.includes(link)));
  for (const n of [0, 1, 2, 3]) expect((await inspect(`m${n}`)).Containers).toEqual({});
  expect(readdirSync(join(engine.execRoot, 'netns'))).toEqual([]);
});

describe('isolation', () => {
  test('a container is unreachable from another network by its address [network-unreachable]', async () => {
    await dockerOk('network', 'create', 'n1');
    await dockerOk('network', 'create', 'n2');
    await web('aa', '--network', 'n1');
    await sleeper('bb', '--network', 'n2');
    await sleeper('dd');
    const { IPAddress } = await endpointOf('aa', 'n1');
    for (const from of ['bb', 'dd'])
      expect((await docker('exec', from, 'timeout', '2', 'nc', '-w', '1', IPAddress, '80')).exitCode).not.toBe(0);
    await sleeper('ee', '--network', 'n1');
    expect(await get('ee', IPAddress)).toBe('aa');
  });
});

describe('a killed daemon', () => {
  test('releases the address of a container that ended while it was away [address-release-daemon]', async () => {
    await dockerOk('network', 'create', '--subnet', `${subnet}.0/30`, 'tiny');
    await sleeper('aa', '--network', 'tiny');
    expect((await endpointOf('aa', 'tiny')).IPAddress).toBe(`${subnet}.2`);
    const full = await docker('run', '--rm', '--network', 'tiny', 'busybox', 'true');
    expect(full.stderr).toContain("no available IPv4 addresses on this network's address pools: tiny");
    const {
      State: { Pid },
    } = (await engine.api('GET', '/containers/aa/json')).json as { State: { Pid: number } };
    await engine.kill9();
    process.kill(Pid, 'SIGKILL');
    await engine.startAgain();
    await until(async () => (await docker('run', '--rm', '--network', 'tiny', 'busybox', 'true')).exitCode === 0);
  });

  test('releases an address when the container’s process is killed, with or without its shim [address-release-killed]', async () => {
    await dockerOk('network', 'create', '--subnet', `${subnet}.0/30`, 'tiny');
    const pid = async (): Promise<number> =>
      ((await engine.api('GET', '/containers/aa/json')).json as { State: { Pid: number } }).State.Pid;
    const status = async (): Promise<string> =>
      ((await engine.api('GET', '/containers/aa/json')).json as { State: { Status: string } }).State.Status;
    const another = async (): Promise<boolean> =>
      (await docker('run', '--rm', '--network', 'tiny', 'busybox', 'true')).exitCode === 0;
    await sleeper('aa', '--network', 'tiny');
    process.kill(await pid(), 'SIGKILL');
    await until(another);
    await dockerOk('start', 'aa');
    // Killing the shim alone releases no address of a container that still runs.
    for (const shim of engine.shims()) process.kill(shim, 'SIGKILL');
    expect(await another()).toBe(false);
    expect([await status(), (await endpointOf('aa', 'tiny')).IPAddress]).toEqual(['running', `${subnet}.2`]);
    const running = await pid();
    for (const shim of engine.shims()) process.kill(shim, 'SIGKILL');
    process.kill(running, 'SIGKILL');
    await until(another);
    expect((await endpointOf('aa', 'tiny')).IPAddress).toBe('');
  });

  test('restores deleted rules while it runs and at its start [rules-restored-own-table]', async () => {
    await dockerOk('network', 'create', 'n1');
    await dockerOk('network', 'create', 'n2');
    await web('aa', '--network', 'n1', '-p', '80');
    await sleeper('bb', '--network', 'n2');
    const { IPAddress } = await endpointOf('aa', 'n1');
    const url = `http://127.0.0.1:${/:(\d+)$/m.exec(await dockerOk('port', 'aa'))![1]!}/`;
    expect(tryShell(`nft list table ip ${table}`)).toContain(`"br-${(await inspect('n1')).Id.slice(0, 12)}"`);
    const works = async (): Promise<boolean> =>
      (await engine.curl(url).catch(() => '')).trim() === 'aa' &&
      (await docker('exec', 'bb', 'timeout', '2', 'nc', '-w', '1', IPAddress, '80')).exitCode !== 0;
    expect(await works()).toBe(true);
    // Delete only this daemon's table: `nft flush ruleset` would remove the rules of other programs.
    execFileSync('nft', ['delete', 'table', 'ip', table]);
    await until(works);
    await engine.kill9();
    execFileSync('nft', ['delete', 'table', 'ip', table]);
    await engine.startAgain();
    await until(works);
  });

  test.each([
    ['before the network is recorded', 'network.before'],
    ['after the network is recorded', 'network.recorded'],
    ['after its bridge is created', 'network.made'],
  ])('a create that dies %s leaves nothing [network-create-killed]', async (_, point) => {
    await engine.stop();
    const before = linkNames();
    const rules = (): string[] =>
      [...tryShell('iptables -S; ip6tables -S').matchAll(/br-[0-9a-f]{12}/g)].map(([link]) => link);
    const ruled = rules();
    await engine.startAgain({ HOLDFAST_FAULT: point });
    expect((await docker('network', 'create', 'half')).exitCode).not.toBe(0);
    await engine.startAgain();
    expect(await message('GET', '/networks/half')).toEqual([404, 'network half not found']);
    const known = ((await engine.api('GET', '/networks')).json as Net[]).map(({ Id }) => `br-${Id.slice(0, 12)}`);
    // The daemon serves before its sweep has finished, and bridges of other daemons come and go: count only what stays
    // and is in no table of another daemon.
    const left = (): string[] => {
      const theirs = foreignBridges();
      return [
        ...linkNames().filter((link) => link.startsWith('br-') && !before.includes(link)),
        ...rules().filter((link) => !ruled.includes(link)),
      ].filter((link) => !known.includes(link) && !theirs.includes(link));
    };
    const seen = left();
    await until(() => !left().some((link) => seen.includes(link)), 60_000);
    await dockerOk('network', 'create', 'half');
  });

  test.each([
    ['a recorded connect', 'network.joining', 'connect'],
    ['an applied connect', 'network.joined', 'connect'],
    ['a recorded disconnect', 'network.leaving', 'disconnect'],
    ['an applied disconnect', 'network.left', 'disconnect'],
  ])(
    'after a kill during %s, the container runs on and is on the network completely or not at all [network-connect-killed]',
    async (_, point, action) => {
      await dockerOk('network', 'create', 'n1');
      await web('aa', '-p', '80');
      if (action === 'disconnect') await dockerOk('network', 'connect', 'n1', 'aa');
      const url = `http://127.0.0.1:${/:(\d+)$/m.exec(await dockerOk('port', 'aa'))![1]!}/`;
      await engine.stop();
      await engine.startAgain({ HOLDFAST_FAULT: point });
      expect((await docker('network', action, 'n1', 'aa')).exitCode).not.toBe(0);
      await engine.startAgain();
      expect(Object.keys(await endpointsOf('aa'))).toEqual(['bridge']);
      expect((await inspect('n1')).Containers).toEqual({});
      await until(async () => (await inNetns('aa', 'ls', '/sys/class/net')) === 'eth0\nlo');
      await until(async () => (await engine.curl(url).catch(() => '')).trim() === 'aa');
      await dockerOk('network', 'connect', 'n1', 'aa');
      expect((await endpointOf('aa', 'n1')).IPAddress).not.toBe('');
    },
  );
});

/** Bridges named in the nftables tables of other daemons. */
function foreignBridges(): string[] {
  const tables = tryShell('nft list ruleset')
    .split(/^table /m)
    .filter((text) => text.startsWith('ip holdfast_') && !text.startsWith(`ip ${table} `));
  return tables.flatMap((text) => [...text.matchAll(/"(br-[0-9a-f]{12})"/g)].map(([, link]) => link!));
}
