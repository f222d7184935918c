/**
 * The default network on the real kernel: namespaces, a second host, a firewall that drops forwarded packets, rules
 * that are deleted.
 */
import { build } from 'esbuild';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Container } from '../../src/model/container.ts';
import type { NewEvent } from '../../src/model/event.ts';
import { tableName } from '../../src/engine/networks/netlink-driver.ts';
import { Networks, type Attachment, type NetworksDeps } from '../../src/engine/networks/networks.ts';
import { heldPorts } from '../../src/engine/networks/port-allocation.ts';
import { Paths } from '../../src/engine/paths.ts';
import { openDatabase } from '../../src/store/database.ts';
import { NetworkStore } from '../../src/store/networks.ts';
import { bindPort } from '../../src/sys/inet.ts';
import { until } from '../support/until.ts';

const unit = process.pid % 200;
const BRIDGE = `hfu${process.pid}`;
const BIP = `10.2${30 + (process.pid % 8)}.${unit}.1/24`;
const GATEWAY = BIP.split('/')[0]!;
const TABLE = tableName(BRIDGE);
const FAR = `hff${process.pid}`;
const [HERE, THERE] = [`198.18.${unit}.1`, `198.18.${unit}.2`];
const PORT = 22_000 + 10 * unit;
const IDS = ['a', 'b', 'c', 'd', 'e'].map((letter) => letter.repeat(12) + String(process.pid).padStart(52, '0'));

let root: string;
let bundle: string;
let parts: NetworksDeps;
let networks: Networks;
const events: NewEvent[] = [];
const servers = new Set<ChildProcess>();
const warnings: string[] = [];

const sh = (command: string): string =>
  execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
const tried = (command: string): string => {
  try {
    return sh(command);
  } catch {
    return '';
  }
};
const fetched = (url: string, where = ''): string => tried(`${where} curl -g -s -m 2 ${url}`).trim();
const far = `ip netns exec ${FAR}`;
const inside = (attachment: Attachment): string => `nsenter --net=${attachment.netns}`;

function container(
  id: string,
  changes: { mode?: string; ports?: Record<string, { HostIp: string; HostPort: string }[]>; name?: string } = {},
): Container {
  const mode = changes.mode ?? 'bridge';
  const name = changes.name ?? `c-${id[0]}`;
  return {
    id,
    name,
    config: { Hostname: name, Domainname: '', ExposedPorts: {} },
    endpoints: networks.plan(mode, {}, { id, name, hostname: name }),
    ports: [],
    netns: '',
    hostConfig: {
      NetworkMode: mode,
      PortBindings: changes.ports ?? {},
      PublishAllPorts: false,
      Dns: [],
      DnsOptions: [],
      DnsSearch: [],
      ExtraHosts: [],
      Sysctls: {},
    },
  } as unknown as Container;
}

/** Starts an HTTP server in the container's namespace that answers with `text`. */
async function serve(attachment: Attachment, text: string): Promise<void> {
  const directory = join(root, text);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'index.html'), text);
  const child = spawn('nsenter', [`--net=${attachment.netns}`, 'busybox', 'httpd', '-f', '-p', '80', '-h', directory], {
    stdio: 'ignore',
  });
  servers.add(child);
  await until(() => fetched('http://127.0.0.1/', inside(attachment)) === text);
}

/** Makes new network objects over what earlier ones left on the host, as after a crash of the daemon. */
const daemon = (): Networks => {
  networks?.stopWatching();
  parts = { ...parts, events: { record: (...list) => void events.push(...list) } };
  return new Networks(parts);
};

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'hf-net-'));
  bundle = join(root, 'proxy.cjs');
  await build({
    entryPoints: ['src/engine/networks/port-proxy-main.ts'],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    logLevel: 'error',
  });
  const db = openDatabase(join(root, 'db'));
  parts = {
    store: new NetworkStore(db),
    paths: new Paths(join(root, 'data'), join(root, 'run')),
    proxyBundle: bundle,
    dnsBundle: '',
    events: { record: () => undefined },
    config: {
      instance: '',
      bridge: BRIDGE,
      bip: BIP,
      mtu: 1500,
      ip: '',
      iptables: true,
      dns: [],
      dnsOptions: [],
      dnsSearch: [],
      defaultAddressPools: [{ base: '10.78.0.0/15', size: 24 }],
    },
    log: { info: () => undefined, warn: (message) => void warnings.push(message) },
  };
  sh(`ip netns add ${FAR}; ip link add ${FAR}h type veth peer name eth0 netns ${FAR}; ip addr add ${HERE}/24 dev ${FAR}h; ip link set ${FAR}h up
    ip -n ${FAR} addr add ${THERE}/24 dev eth0; ip -n ${FAR} link set eth0 up; ip -n ${FAR} link set lo up; ip -n ${FAR} route add default via ${HERE}`);
  networks = daemon();
  await networks.start();
});

afterEach(async () => {
  for (const server of servers) server.kill('SIGKILL');
  servers.clear();
  for (const id of IDS) await networks.detach({ id });
  await networks.settled();
});

afterAll(async () => {
  await networks?.close();
  tried(`ip link del ${FAR}h; ip netns del ${FAR}`);
  rmSync(root, { recursive: true, force: true });
});

describe('a container on the bridge', () => {
  test('reaches the host and other containers, and is reached by them', async () => {
    const [a, b] = [await networks.attach(container(IDS[0]!)), await networks.attach(container(IDS[1]!))];
    await serve(a, 'served-a');
    const address = a.endpoints.bridge!.ipAddress;
    expect(fetched(`http://${address}/`)).toBe('served-a');
    expect(fetched(`http://${address}/`, inside(b))).toBe('served-a');
    expect(b.endpoints.bridge).toMatchObject({
      gateway: GATEWAY,
      ipPrefixLen: 24,
      networkId: networks.resolve('bridge').id,
      globalIPv6Address: '',
    });
    expect(address).not.toBe(b.endpoints.bridge!.ipAddress);
    expect(sh(`${inside(a)} ip -o addr show`)).toMatch(new RegExp(`eth0\\s+inet ${address}/24`));
    expect(sh(`${inside(a)} ip -o -6 addr show dev eth0`)).toBe('');
    expect(sh(`${inside(a)} ip -o link show eth0`)).toContain(`link/ether ${a.endpoints.bridge!.macAddress} `);
    expect(sh(`${inside(a)} ip route`)).toContain(`default via ${GATEWAY} dev eth0`);
  });

  test('reaches the outside through the host’s address, and is reached from there only through its ports', async () => {
    const a = await networks.attach(container(IDS[0]!));
    await serve(a, 'served-a');
    const listener = spawn(
      'ip',
      [
        'netns',
        'exec',
        FAR,
        process.execPath,
        '-e',
        "require('net').createServer(s=>s.end(s.remoteAddress)).listen(7000,'0.0.0.0')",
      ],
      { stdio: 'ignore' },
    );
    servers.add(listener);
    await until(() => tried(`${inside(a)} busybox nc -w 2 ${THERE} 7000`) === HERE);
    expect(fetched(`http://${a.endpoints.bridge!.ipAddress}/`, far)).toBe('');
  });

  test('is listed as a member, with connect and disconnect events', async () => {
    events.length = 0;
    const a = await networks.attach(container(IDS[0]!));
    const { id } = networks.resolve('bridge');
    expect(networks.members(id)).toEqual([
      {
        container: IDS[0],
        name: 'c-a',
        endpointId: a.endpoints.bridge!.endpointId,
        macAddress: a.endpoints.bridge!.macAddress,
        ipv4Address: `${a.endpoints.bridge!.ipAddress}/24`,
        ipv6Address: '',
      },
    ]);
    await networks.detach({ id: IDS[0]! });
    expect(networks.members(id)).toEqual([]);
    expect(events.map(({ action, actor, attributes }) => [action, actor, attributes])).toEqual(
      ['connect', 'disconnect'].map((action) => [action, id, { container: IDS[0], name: 'bridge', type: 'bridge' }]),
    );
  });
});

describe('network modes', () => {
  test('none: a namespace with only lo', async () => {
    const a = await networks.attach(
      container(IDS[0]!, { mode: 'none', ports: { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] } }),
    );
    expect(readdirSync('/sys/class/net').length).toBeGreaterThan(1);
    expect(sh(`${inside(a)} ip -br link`)).toMatch(/^lo +UNKNOWN .*\n$/);
    expect(a.ports).toEqual([]);
    expect(a.endpoints.none).toMatchObject({
      ipAddress: '',
      macAddress: '',
      networkId: networks.resolve('none').id,
    });
    expect(a.endpoints.none!.endpointId).toMatch(/^[0-9a-f]{64}$/);
  });

  test('host: no namespace of its own', async () => {
    const a = await networks.attach(container(IDS[0]!, { mode: 'host' }));
    expect(a).toMatchObject({
      netns: '',
      ports: [],
      endpoints: { host: { ipAddress: '', networkId: networks.resolve('host').id } },
    });
  });

  test('container:x: no setup at all; an unknown network is rejected', async () => {
    expect(await networks.attach(container(IDS[0]!, { mode: 'container:x' }))).toEqual({
      endpoints: {},
      ports: [],
      netns: '',
    });
    await expect(networks.attach(container(IDS[0]!, { mode: 'nope' }))).rejects.toThrow(
      'failed to set up container networking: network nope not found',
    );
    expect(parts.store.attachments()).toEqual([]);
  });
});

describe('published ports', () => {
  const all = { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] };

  test('are reached from the host by every address, by hairpin, and from a second host with FORWARD DROP and filtered bridges', async () => {
    const [a, b] = [
      await networks.attach(container(IDS[0]!, { ports: all })),
      await networks.attach(container(IDS[1]!)),
    ];
    await serve(a, 'published');
    expect(a.ports.map(({ hostIp, hostPort }) => [hostIp, hostPort])).toEqual([
      ['0.0.0.0', PORT],
      ['::', PORT],
    ]);
    const policy = /-P FORWARD (\w+)/.exec(sh('iptables -S FORWARD'))![1]!;
    const knob = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    const filtered = existsSync(knob) ? readFileSync(knob, 'latin1').trim() : undefined;
    try {
      sh('iptables -P FORWARD DROP');
      if (filtered !== undefined) writeFileSync(knob, '1');
      for (const host of ['127.0.0.1', '127.0.0.5', GATEWAY, HERE, '[::1]'])
        expect([host, fetched(`http://${host}:${PORT}/`)]).toEqual([host, 'published']);
      expect(fetched(`http://${HERE}:${PORT}/`, far)).toBe('published');
      for (const [who, where] of [
        ['itself', inside(a)],
        ['another', inside(b)],
      ] as const) {
        for (const host of [GATEWAY, HERE])
          expect([who, host, fetched(`http://${host}:${PORT}/`, where)]).toEqual([who, host, 'published']);
      }
      expect(fetched(`http://${a.endpoints.bridge!.ipAddress}/`, inside(b))).toBe('published');
      if (filtered !== undefined) {
        writeFileSync(knob, '0');
        expect(fetched(`http://${HERE}:${PORT}/`, inside(a))).toBe('published');
      }
    } finally {
      sh(`iptables -P FORWARD ${policy}`);
      if (filtered !== undefined) writeFileSync(knob, filtered);
    }
  });

  test('on one address are reached by that address only', async () => {
    const a = await networks.attach(
      container(IDS[0]!, { ports: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: String(PORT) }] } }),
    );
    const b = await networks.attach(
      container(IDS[1]!, { ports: { '80/tcp': [{ HostIp: HERE, HostPort: String(PORT) }] } }),
    );
    const c = await networks.attach(
      container(IDS[2]!, { ports: { '80/tcp': [{ HostIp: '::1', HostPort: String(PORT) }] } }),
    );
    for (const [attachment, text] of [
      [a, 'loop'],
      [b, 'outside'],
      [c, 'six'],
    ] as const)
      await serve(attachment, text);
    expect(fetched(`http://127.0.0.1:${PORT}/`)).toBe('loop');
    expect(fetched(`http://${HERE}:${PORT}/`)).toBe('outside');
    expect(fetched(`http://${HERE}:${PORT}/`, far)).toBe('outside');
    expect(fetched(`http://[::1]:${PORT}/`)).toBe('six');
    expect(fetched(`http://${GATEWAY}:${PORT}/`)).toBe('');
    // A host on the same link that routes 127.0.0.1 to this host does not reach what is published there.
    sh(`${far} ip link set lo down; ${far} ip route add 127.0.0.1/32 via ${HERE} || true`);
    expect(fetched(`http://127.0.0.1:${PORT}/`, far)).toBe('');
    sh(`${far} ip link set lo up`);
  });

  test('of the host’s 127.0.0.1 are not reachable from a container through the bridge', async () => {
    const a = await networks.attach(container(IDS[0]!));
    const server: Server = createServer((socket) => socket.end('secret'));
    await new Promise<void>((resolve) => server.listen(PORT + 1, '127.0.0.1', resolve));
    sh(
      `${inside(a)} sh -c 'ip addr del 127.0.0.1/8 dev lo; ip route del local 127.0.0.0/8 table local 2>/dev/null; ip route add 127.0.0.1/32 via ${GATEWAY} dev eth0; true'`,
    );
    sh(`${inside(a)} sh -c 'echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet'`);
    expect(tried(`${inside(a)} busybox nc -w 1 127.0.0.1 ${PORT + 1}`)).toBe('');
    server.close();
  });

  test('work for UDP over IPv4 and IPv6; an earlier client finds the new container', async () => {
    const echo = (attachment: Attachment, text: string): void => {
      servers.add(
        spawn(
          'nsenter',
          [
            `--net=${attachment.netns}`,
            process.execPath,
            '-e',
            `const s=require('dgram').createSocket('udp4');s.on('message',(m,r)=>s.send('${text}:'+m,r.port,r.address));s.bind(53)`,
          ],
          { stdio: 'ignore' },
        ),
      );
    };
    const client = createSocket('udp4');
    let received = '';
    client.on('message', (message) => (received = message.toString()));
    const hears = async (expected: string): Promise<void> =>
      until(() => {
        client.send('x', PORT, HERE);
        return received === expected;
      });
    const ports = { '53/udp': [{ HostIp: '', HostPort: String(PORT) }] };
    client.send('early', PORT, HERE);
    const a = await networks.attach(container(IDS[0]!, { ports }));
    echo(a, 'one');
    await hears('one:x');
    const six = createSocket('udp6');
    let sixth = '';
    six.on('message', (message) => (sixth = message.toString()));
    await until(() => {
      six.send('y', PORT, '::1');
      return sixth === 'one:y';
    });
    for (const server of servers) server.kill('SIGKILL');
    await networks.detach({ id: IDS[0]! });
    const b = await networks.attach(container(IDS[1]!, { ports }));
    expect(b.endpoints.bridge!.ipAddress).not.toBe(a.endpoints.bridge!.ipAddress);
    echo(b, 'two');
    await hears('two:x');
    client.close();
    six.close();
  });

  test('that are taken fail before anything is made, and leave nothing', async () => {
    await networks.attach(container(IDS[0]!, { ports: all }));
    const before = [sh('ip -br link'), sh(`nft list table ip ${TABLE}`), readdirSync(join(root, 'run', 'netns'))];
    const refused = expect.stringMatching(
      new RegExp(
        `^failed to set up container networking: driver failed programming external connectivity on endpoint c-b \\([0-9a-f]{64}\\): Bind for 0\\.0\\.0\\.0:${PORT} failed: port is already allocated$`,
      ),
    );
    await expect(
      networks.attach(
        container(IDS[1]!, { ports: { '79/tcp': [{ HostIp: '', HostPort: String(PORT + 1) }], ...all } }),
      ),
    ).rejects.toMatchObject({ name: 'SystemFault', message: refused });
    expect([sh('ip -br link'), sh(`nft list table ip ${TABLE}`), readdirSync(join(root, 'run', 'netns'))]).toEqual(
      before,
    );
    const other = createServer().listen(PORT + 1, '0.0.0.0');
    await new Promise((resolve) => other.once('listening', resolve));
    await expect(
      networks.attach(container(IDS[1]!, { ports: { '79/tcp': [{ HostIp: '', HostPort: String(PORT + 1) }] } })),
    ).rejects.toThrow(
      new RegExp(
        `: failed to bind host port for 0\\.0\\.0\\.0:${PORT + 1}:10\\.\\d+\\.\\d+\\.\\d+:79/tcp: address already in use$`,
      ),
    );
    other.close();
    await new Promise((resolve) => other.once('close', resolve));
    expect(
      (await networks.attach(container(IDS[1]!, { ports: { '79/tcp': [{ HostIp: '', HostPort: String(PORT + 1) }] } })))
        .ports,
    ).toHaveLength(2);
  });

  test('can be reserved by a keeper beside the proxy', async () => {
    const a = await networks.attach(container(IDS[0]!, { ports: all }));
    const held = heldPorts(a.ports);
    expect(held).toEqual([{ protocol: 'tcp', address: '0.0.0.0', port: PORT }]);
    for (const { protocol, address, port } of held) bindPort(protocol, address, port);
  });
});

describe('the next daemon', () => {
  test('finds ports, addresses and members of the previous one and disturbs no connection', async () => {
    const a = await networks.attach(
      container(IDS[0]!, { ports: { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] } }),
    );
    await serve(a, 'steady');
    const failures: string[] = [];
    let on = true;
    const load = (async () => {
      while (on) {
        for (const host of ['127.0.0.1', '[::1]']) {
          const answer = await new Promise<string>((resolve) => {
            const child = spawn('curl', ['-g', '-s', '-m', '2', `http://${host}:${PORT}/`]);
            let text = '';
            child.stdout.on('data', (data: Buffer) => (text += data.toString()));
            child.on('close', () => resolve(text));
          });
          if (answer !== 'steady') failures.push(host);
        }
      }
    })();
    for (let i = 0; i < 5; i++) {
      networks = daemon();
      await networks.start();
    }
    on = false;
    await load;
    expect(failures).toEqual([]);
    await expect(
      networks.attach(container(IDS[1]!, { ports: { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] } })),
    ).rejects.toThrow('port is already allocated');
    expect(networks.members(networks.resolve('bridge').id).map(({ container: id }) => id)).toEqual([IDS[0]]);
    const b = await networks.attach(container(IDS[1]!));
    expect(b.endpoints.bridge!.ipAddress).not.toBe(a.endpoints.bridge!.ipAddress);
  });

  test.each(['setting-up', 'tearing-down'] as const)('undoes what was left while %s', async (phase) => {
    const a = await networks.attach(
      container(IDS[0]!, { ports: { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] } }),
    );
    parts.store.move(IDS[0]!, phase);
    networks = daemon();
    await networks.start();
    await networks.settled();
    expect(existsSync(a.netns)).toBe(false);
    expect(parts.store.attachments()).toEqual([]);
    expect(sh(`nft list map ip ${TABLE} ports`)).not.toContain(String(PORT));
    expect(sh('ip -br link')).not.toContain(a.endpoints.bridge!.endpointId.slice(0, 8));
    expect(
      (await networks.attach(container(IDS[0]!, { ports: { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] } })))
        .ports,
    ).toHaveLength(2);
  });

  test('forgets what belongs to an earlier boot and removes what no container uses', async () => {
    await networks.attach(container(IDS[0]!));
    const { setup } = parts.store.attachment(IDS[0]!)!;
    await networks.detach({ id: IDS[0]! });
    const old = JSON.parse(setup) as {
      boot: string;
      netns: string;
      endpoints: { networkId: string; address: string }[];
    };
    parts.store.begin(IDS[0]!, old.netns, JSON.stringify({ ...old, boot: 'earlier' }), old.endpoints);
    parts.store.move(IDS[0]!, 'up');
    networks = daemon();
    await networks.start();
    expect(parts.store.attachments()).toEqual([]);
    await networks.attach(container(IDS[1]!));
    await networks.attach(container(IDS[2]!));
    networks = daemon();
    await networks.start();
    // A start before the sweep does not belong to the previous daemon.
    await networks.attach(container(IDS[0]!));
    await networks.sweep((id) => id === IDS[2]);
    expect(new Set(parts.store.attachments().map(({ containerId }) => containerId))).toEqual(new Set([IDS[0], IDS[2]]));
  });

  test('can repeat an attach', async () => {
    const first = await networks.attach(
      container(IDS[0]!, { ports: { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] } }),
    );
    networks = daemon();
    await networks.start();
    const again = await networks.attach(
      container(IDS[0]!, { ports: { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] } }),
    );
    await serve(again, 'again');
    expect(fetched(`http://127.0.0.1:${PORT}/`)).toBe('again');
    expect(again.netns).toBe(first.netns);
  });
});

describe('what is deleted is restored', () => {
  const published = () =>
    networks.attach(container(IDS[0]!, { ports: { '80/tcp': [{ HostIp: '', HostPort: String(PORT) }] } }));

  test.each([
    ['a deleted table', `nft delete table ip ${TABLE}`],
    ['flushed chains', `nft flush table ip ${TABLE}`],
    ['a flushed map', `nft flush map ip ${TABLE} ports`],
    ['accept rules deleted from FORWARD', `iptables -D FORWARD -o ${BRIDGE} -j ACCEPT`],
  ])('%s: without further action', async (_, command) => {
    const a = await published();
    await serve(a, 'back');
    sh(command);
    await until(
      () =>
        fetched(`http://127.0.0.1:${PORT}/`) === 'back' && sh('iptables -S FORWARD').includes(`-o ${BRIDGE} -j ACCEPT`),
    );
  });

  test('at the next start of the daemon', async () => {
    const a = await published();
    await serve(a, 'back');
    networks = daemon();
    sh(`nft delete table ip ${TABLE}`);
    await networks.start();
    expect(fetched(`http://${HERE}:${PORT}/`, far)).toBe('back');
  });

  test('before the next container’s ports are published', async () => {
    sh(`nft delete table ip ${TABLE}`);
    await serve(await published(), 'back');
    expect(fetched(`http://127.0.0.1:${PORT}/`)).toBe('back');
  });

  test('the bridge with the containers on it', async () => {
    const a = await published();
    await serve(a, 'back');
    sh(`ip link del ${BRIDGE}`);
    await networks.restoreRules();
    await until(
      () =>
        fetched(`http://127.0.0.1:${PORT}/`) === 'back' && fetched(`http://${GATEWAY}:${PORT}/`, inside(a)) === 'back',
    );
  });

  test('a killed port proxy', async () => {
    const a = await published();
    await serve(a, 'back');
    const of = (): string => tried(`pgrep -f '^holdfast-ports ${join(root, 'run')}'`).trim();
    await until(() => of() !== '');
    const old = of();
    await until(() => fetched(`http://[::1]:${PORT}/`) === 'back');
    process.kill(Number(old), 'SIGKILL');
    await until(() => fetched(`http://[::1]:${PORT}/`) === 'back' && of() !== old);
  });
});

test('20 containers at once get distinct addresses and leave nothing', async () => {
  const ids = Array.from({ length: 20 }, (_, i) => `${i.toString(16).padStart(4, '0')}${'f'.repeat(60)}`);
  const links = () =>
    sh('ip -br link')
      .split('\n')
      .filter((line) => line.startsWith('vh')).length;
  const before = links();
  const attached = await Promise.all(
    ids.map((id, i) =>
      networks.attach(container(id, { ports: { '80/tcp': [{ HostIp: '', HostPort: '' }] }, name: `p${i}` })),
    ),
  );
  expect(new Set(attached.map((a) => a.endpoints.bridge!.ipAddress)).size).toBe(20);
  expect(new Set(attached.map((a) => a.ports[0]!.hostPort)).size).toBe(20);
  expect(links()).toBe(before + 20);
  for (const a of attached)
    expect(sh(`ip -d link show vh${a.endpoints.bridge!.endpointId.slice(0, 11)}`)).toContain(
      `hairpin ${existsSync('/proc/sys/net/bridge') ? 'on' : 'off'}`,
    );
  await Promise.all(ids.map((id) => networks.detach({ id })));
  await Promise.all(ids.map((id) => networks.detach({ id })));
  await networks.settled();
  expect(links()).toBe(before);
  expect(sh(`nft list map ip ${TABLE} ports`)).not.toContain('elements');
  expect(readdirSync(join(root, 'run', 'netns'))).toEqual([]);
});

test('a clean shutdown leaves nothing on the host', async () => {
  await networks.close();
  expect(sh('nft list tables')).not.toContain(TABLE);
  expect(sh('ip -br link')).not.toContain(BRIDGE);
  expect(tried('iptables -S FORWARD')).not.toContain(BRIDGE);
  await until(() => tried(`pgrep -f '^holdfast-ports ${join(root, 'run')}'`) === '');
  expect(statSync(root).isDirectory()).toBe(true);
  expect(warnings.filter((text) => !/were changed: restoring|port proxy exited/.test(text))).toEqual([]);
});
