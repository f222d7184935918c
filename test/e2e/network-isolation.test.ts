/**
 * Isolation of networks: no traffic between two networks and none out of an internal one, for any protocol, family or
 * (forged) address. Needs real bridges and firewall rules, and packets sent inside the containers' network namespaces.
 */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

interface Endpoint {
  IPAddress: string;
  Gateway: string;
  GlobalIPv6Address: string;
  IPv6Gateway: string;
}
interface Inspected {
  State: { Pid: number };
  NetworkSettings: { Networks: Record<string, Endpoint> };
}

const UNIT = process.pid % 250;
const PORT = 18_500 + UNIT;
/** An address of the host outside all bridges, and the address of an upstream DNS server. */
const [OUTSIDE, UPSTREAM] = [`198.18.${UNIT}.1`, `127.78.${UNIT}.1`];
const OUTSIDE6 = `2001:db8:${UNIT}::1`;
const LINK = `hfa${process.pid}`.slice(0, 15);

let engine: TestEngine;
const children: ChildProcess[] = [];
const run = (...command: string[]): string =>
  execFileSync(command[0]!, command.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const { ok: dockerOk, inspect } = dockerOf<Inspected>(() => engine);
const endpointOf = async (name: string, network: string): Promise<Endpoint> =>
  (await inspect(name)).NetworkSettings.Networks[network]!;
const sleeper = (name: string, ...options: string[]): Promise<string> =>
  dockerOk('run', '-d', '--name', name, ...options, 'busybox', 'sleep', '1000');
/**
 * Prefix that runs a command in a container's network namespace, where its root could run it: busybox has no UDP
 * tools.
 */
const within = async (name: string): Promise<string[]> => [
  'nsenter',
  '-t',
  String((await inspect(name)).State.Pid),
  '-n',
];

/** Answers every TCP connection and datagram at port 80, over IPv4 and IPv6. */
const SERVING = `
  require('net').createServer((s) => s.end('tcp')).listen(80, '::');
  const d = require('dgram');
  for (const type of ['udp4', 'udp6']) { const s = d.createSocket({ type, ipv6Only: type === 'udp6' }); s.on('message', (_, r) => s.send('udp', r.port, r.address)).bind(80); }
  console.log('ready');`;
const serve = async (name: string): Promise<void> =>
  ready(
    spawn('nsenter', [...(await within(name)).slice(1), process.execPath, '-e', SERVING], {
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );

/** Waits for the first output of `child`, which is killed after the test. */
async function ready(child: ChildProcess): Promise<void> {
  children.push(child);
  let output = '';
  child.stdout!.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await until(() => output !== '');
}

/** Protocol, address and port. */
type Target = [protocol: 'tcp' | 'udp', address: string, port: number];
const PROBE = `
  const targets = JSON.parse(process.argv[1]), answered = [];
  targets.forEach(([protocol, address, port], i) => {
    if (protocol === 'tcp') require('net').connect(port, address).on('data', () => answered.push(i)).on('error', () => {});
    else { const s = require('dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4'); s.on('message', () => answered.push(i)).on('error', () => {}); s.send('x', port, address); }
  });
  setTimeout(() => { console.log(JSON.stringify(answered)); process.exit(); }, 1500);`;
/** Returns the targets that answer to a process in the container's network; all are tried at the same time. */
async function reachable(name: string, targets: Target[]): Promise<Target[]> {
  const answered = JSON.parse(
    run(...(await within(name)), process.execPath, '-e', PROBE, JSON.stringify(targets)),
  ) as number[];
  return targets.filter((_, i) => answered.includes(i));
}

beforeAll(async () => {
  engine = await startEngine();
  run('ip', 'link', 'add', LINK, 'type', 'bridge');
  run('ip', 'addr', 'add', `${OUTSIDE}/24`, 'dev', LINK);
  run('ip', 'addr', 'add', `${OUTSIDE6}/64`, 'nodad', 'dev', LINK);
  run('ip', 'link', 'set', LINK, 'up');
});
afterAll(async () => {
  execFileSync('sh', ['-c', `ip link del ${LINK} || true`], { stdio: 'ignore' });
  await engine?.[Symbol.asyncDispose]();
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  const all = (await engine.api('GET', '/containers/json?all=1')).json as { Id: string }[];
  await Promise.all(all.map(({ Id }) => engine.api('DELETE', `/containers/${Id}?force=1&v=1`)));
  for (const { Name } of (await engine.api('GET', '/networks')).json as { Name: string }[]) {
    if (!['bridge', 'host', 'none'].includes(Name))
      expect((await engine.api('DELETE', `/networks/${Name}`)).status).toBe(204);
  }
});

test('tcp and udp over IPv4 and IPv6 from another network fail, also to a published port by container address [network-isolation]', async () => {
  await dockerOk('network', 'create', '--ipv6', 'n1');
  await dockerOk('network', 'create', '--ipv6', 'n2');
  await sleeper('aa', '--network', 'n1', '-p', `${PORT}:80`, '-p', `${PORT}:80/udp`);
  await sleeper('neighbour', '--network', 'n1');
  await sleeper('stranger', '--network', 'n2');
  await sleeper('default');
  await serve('aa');
  const { IPAddress, GlobalIPv6Address } = await endpointOf('aa', 'n1');
  const targets: Target[] = [IPAddress, GlobalIPv6Address].flatMap((address): Target[] => [
    ['tcp', address, 80],
    ['udp', address, 80],
  ]);
  expect(await reachable('neighbour', targets)).toEqual(targets);
  expect(await reachable('stranger', targets)).toEqual([]);
  // The default network has no IPv6, and its gateway must not offer a detour.
  expect(await reachable('default', targets)).toEqual([]);
  // A published port is reachable through the address of the host.
  const { Gateway } = await endpointOf('stranger', 'n2');
  expect(
    await reachable('stranger', [
      ['tcp', Gateway, PORT],
      ['udp', Gateway, PORT],
    ]),
  ).toHaveLength(2);
});

describe('an internal network', () => {
  test('has no way in or out by tcp, udp, IPv4 or IPv6, even with a default route added inside [internal-no-route]', async () => {
    await dockerOk('network', 'create', '--internal', '--ipv6', 'inner');
    await dockerOk('network', 'create', '--ipv6', 'open');
    await sleeper('aa', '--network', 'inner');
    await sleeper('neighbour', '--network', 'inner');
    await sleeper('bb', '--network', 'open', '-p', `${PORT}:80`, '-p', `${PORT}:80/udp`);
    for (const name of ['aa', 'neighbour', 'bb']) await serve(name);
    const [inner, open] = [await endpointOf('neighbour', 'inner'), await endpointOf('bb', 'open')];
    const gateways = (
      (await engine.api('GET', '/networks/inner')).json as { IPAM: { Config: { Gateway: string }[] } }
    ).IPAM.Config.map(({ Gateway }) => Gateway);
    expect([inner.Gateway, inner.IPv6Gateway]).toEqual(['', '']);
    // A container with CAP_NET_ADMIN could add such routes.
    for (const gateway of gateways) run(...(await within('aa')), 'ip', 'route', 'add', 'default', 'via', gateway);
    await ready(
      spawn(
        process.execPath,
        [
          '-e',
          `require('net').createServer((s) => s.end('host')).listen(${PORT + 300}, '::', () => console.log('ready'))`,
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      ),
    );
    const both = (address: string, port: number): Target[] => [
      ['tcp', address, port],
      ['udp', address, port],
    ];
    const neighbours = [inner.IPAddress, inner.GlobalIPv6Address].flatMap((address) => both(address, 80));
    const elsewhere: Target[] = [
      ...[open.IPAddress, open.GlobalIPv6Address].flatMap((address) => both(address, 80)),
      ...[OUTSIDE, OUTSIDE6, open.Gateway, open.IPv6Gateway].flatMap((address) => both(address, PORT)),
      ...[OUTSIDE, OUTSIDE6].map((address): Target => ['tcp', address, PORT + 300]),
    ];
    expect(
      await reachable('bb', [
        ['tcp', OUTSIDE, PORT],
        ['udp', OUTSIDE, PORT],
        ['tcp', OUTSIDE6, PORT],
        ['tcp', OUTSIDE, PORT + 300],
        ['tcp', OUTSIDE6, PORT + 300],
      ]),
    ).toHaveLength(5);
    expect(await reachable('aa', [...neighbours, ...elsewhere])).toEqual(neighbours);
    expect(await reachable('bb', neighbours)).toEqual([]);
  });
});

describe('DNS', () => {
  let server: Socket;
  const queried: string[] = [];
  beforeEach(async () => {
    queried.length = 0;
    // Answers NXDOMAIN to every query (RFC 1035).
    server = createSocket('udp4').on('message', (query, from) => {
      queried.push(query.toString('latin1', 13, query.indexOf(0, 12)).replace(/[^a-z0-9]/g, '.'));
      query.writeUInt16BE(0x8183, 2);
      server.send(query, from.port, from.address);
    });
    await new Promise<void>((resolve) => server.bind(53, UPSTREAM, resolve));
  });
  afterEach(() => server.close());

  /**
   * Sends a DNS query with any source address, over a raw socket with IP_HDRINCL (raw(7)). CAP_NET_RAW is enough for
   * that, and containers have it by default.
   */
  const FORGED_QUERY = `
import socket, struct, sys
source, target, name = sys.argv[1:]
question = struct.pack('>6H', 7, 0x100, 1, 0, 0, 0) + b''.join(bytes([len(part)]) + part.encode() for part in name.split('.')) + struct.pack('>BHH', 0, 1, 1)
udp = struct.pack('>4H', 5353, 53, 8 + len(question), 0) + question
head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
s.sendto(head + udp, (target, 0))`;
  const forge = async (from: string, source: string, target: string, name: string): Promise<void> => {
    run(...(await within(from)), 'python3', '-c', FORGED_QUERY, source, target, name);
  };
  /** Sends an ordinary DNS query and prints the response code; prints nothing when no answer arrives. */
  const QUERY = `
  const [server, name] = process.argv.slice(1), s = require('dgram').createSocket(server.includes(':') ? 'udp6' : 'udp4');
  s.on('message', (m) => { console.log(m[3] & 15); process.exit(); });
  s.send(Buffer.concat([Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...name.split('.').map((part) => Buffer.concat([Buffer.from([part.length]), Buffer.from(part)])), Buffer.from([0, 0, 1, 0, 1])]), 53, server);
  setTimeout(() => process.exit(), 3000);`;
  const ask = async (from: string, at: string, name: string): Promise<number | undefined> => {
    // Asynchronous, because the upstream DNS server runs in this process.
    const [program, ...args] = [...(await within(from)), process.execPath, '-e', QUERY, at, name];
    const { stdout } = await promisify(execFile)(program, args);
    return stdout === '' ? undefined : Number(stdout);
  };
  const [NOERROR, SERVFAIL, NXDOMAIN] = [0, 2, 3];

  test('queries from an internal network are never forwarded, whatever source address they claim [internal-no-dns]', async () => {
    await dockerOk('network', 'create', '--internal', '--ipv6', 'inner');
    await dockerOk('network', 'create', 'open');
    await sleeper('aa', '--network', 'inner', '--dns', UPSTREAM);
    await sleeper('bb', '--network', 'open', '--dns', UPSTREAM);
    await sleeper('both', '--network', 'open', '--network', 'inner', '--dns', UPSTREAM);
    const [gateway, gateway6] = (
      (await engine.api('GET', '/networks/inner')).json as { IPAM: { Config: { Gateway: string }[] } }
    ).IPAM.Config.map(({ Gateway }) => Gateway) as [string, string];
    const [aa, bb, both] = [
      await endpointOf('aa', 'inner'),
      await endpointOf('bb', 'open'),
      await inspect('both').then((c) => c.NetworkSettings.Networks),
    ];
    expect(await ask('aa', gateway, 'both')).toBe(NOERROR);
    expect(await ask('aa', gateway, 'ordinary.example')).toBe(SERVFAIL);
    expect([await ask('aa', gateway6, 'both'), await ask('aa', gateway6, 'six.example')]).toEqual([NOERROR, SERVFAIL]);
    const sources: Record<string, string> = {
      stranger: bb.IPAddress,
      neighbour: both.inner!.IPAddress,
      double: both.open!.IPAddress,
      unused: aa.IPAddress.replace(/\d+$/, '250'),
      foreign: '203.0.113.9',
    };
    for (const [name, source] of Object.entries(sources)) {
      await forge('aa', source, gateway, `${name}.example`);
      run(...(await within('aa')), 'ip', 'route', 'replace', 'default', 'via', gateway);
      await forge('aa', source, bb.Gateway, `${name}2.example`);
    }
    // Queries from an address that no container has get no answer at all.
    run(...(await within('aa')), 'ip', 'addr', 'add', `${sources.unused}/32`, 'dev', 'eth0');
    run(...(await within('aa')), 'ip', 'route', 'replace', gateway, 'dev', 'eth0', 'src', sources.unused!);
    expect(await ask('aa', gateway, 'unlisted.example')).toBe(undefined);
    const unused6 = aa.GlobalIPv6Address.replace(/[^:]*$/, 'ff99');
    run(...(await within('aa')), 'ip', 'addr', 'add', `${unused6}/128`, 'dev', 'eth0', 'nodad');
    run(...(await within('aa')), 'ip', '-6', 'route', 'replace', gateway6, 'dev', 'eth0', 'src', unused6);
    expect(await ask('aa', gateway6, 'unlisted6.example')).toBe(undefined);
    // The upstream server works, and these queries arrive after all others.
    expect(await ask('bb', bb.Gateway, 'afterwards.example')).toBe(NXDOMAIN);
    expect(await ask('both', bb.Gateway, 'aa')).toBe(NOERROR);
    expect(queried).toEqual(['afterwards.example']);
  });

  test('a network’s DNS server answers only its own containers [dns-own-network]', async () => {
    await dockerOk('network', 'create', 'n1');
    await dockerOk('network', 'create', 'n2');
    await sleeper('aa', '--network', 'n1', '--dns', UPSTREAM);
    await sleeper('bb', '--network', 'n2', '--dns', UPSTREAM);
    await sleeper('default', '--dns', UPSTREAM);
    const { Gateway } = await endpointOf('aa', 'n1');
    expect(await ask('aa', Gateway, 'aa')).toBe(NOERROR);
    for (const name of ['bb', 'default']) expect(await ask(name, Gateway, 'aa')).toBe(undefined);
  });
});
