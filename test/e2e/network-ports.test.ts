/** Published ports: ranges, addresses, protocols and conflicts. Needs real listeners and containers on the host. */
import { execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { linkNames, linksOn } from '../support/links.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
/** First of the ports that are reserved for this test process. */
const BASE = 23_000 + 40 * (process.pid % 200);
const {
  docker,
  ok: dockerOk,
  inspect: state,
} = dockerOf<{
  State: { Status: string; Error: string; ExitCode: number };
  NetworkSettings: {
    Ports: Record<string, { HostIp: string; HostPort: string }[] | null>;
    Networks: Record<string, { IPAddress: string; Gateway: string }>;
  };
}>(() => engine);
/** Starts a container that serves its name at ports 80, 81 and 82. */
const web = (name: string, ...options: string[]): Promise<string> => {
  const serve = 'for p in 80 81 82; do httpd -h /w -p $p; done';
  const script = `mkdir -p /w; echo ${name} > /w/index.html; ${serve}; exec sleep 1000`;
  return dockerOk('run', '-d', '--name', name, ...options, 'busybox', 'sh', '-c', script);
};
const served = async (url: string, by: string): Promise<void> =>
  until(async () => (await engine.curl(url).catch(() => '')).trim() === by);
const refused = async (url: string): Promise<boolean> =>
  engine.curl(url).then(
    () => false,
    () => true,
  );

beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());
afterEach(async () => {
  const all = (await engine.api('GET', '/containers/json?all=1')).json as { Id: string }[];
  await Promise.all(all.map(({ Id }) => engine.api('DELETE', `/containers/${Id}?force=1&v=1`)));
});

test('a range of host ports: the first free one is used [port-range]', async () => {
  const range = `${BASE}-${BASE + 2}:80`;
  for (const i of [0, 1, 2]) {
    await web(`w${i}`, '-p', range);
    expect((await state(`w${i}`)).NetworkSettings.Ports).toEqual({
      '80/tcp': [
        { HostIp: '0.0.0.0', HostPort: String(BASE + i) },
        { HostIp: '::', HostPort: String(BASE + i) },
      ],
    });
  }
  const { exitCode, stderr } = await docker('run', '-d', '--name', 'w3', '-p', range, 'busybox', 'true');
  expect([exitCode, stderr]).toEqual([125, expect.stringContaining('all ports are allocated') as string]);
  for (const i of [0, 1, 2]) await served(`http://127.0.0.1:${BASE + i}/`, `w${i}`);
});

test('a range to a range is mapped one to one [port-range-mapping]', async () => {
  await web('w0', '-p', `${BASE}-${BASE + 2}:80-82`);
  for (const i of [0, 1, 2]) await served(`http://127.0.0.1:${BASE + i}/`, 'w0');
  expect((await dockerOk('port', 'w0')).split('\n').sort()).toEqual(
    [0, 1, 2].flatMap((i) => [`${80 + i}/tcp -> 0.0.0.0:${BASE + i}`, `${80 + i}/tcp -> [::]:${BASE + i}`]).sort(),
  );
});

test('a port bound to one host address answers only there [port-host-address]', async () => {
  await web('w0', '-p', `127.0.0.1:${BASE}:80`, '-p', `[::1]:${BASE + 1}:80`);
  const { Gateway } = (await state('w0')).NetworkSettings.Networks.bridge!;
  await served(`http://127.0.0.1:${BASE}/`, 'w0');
  await served(`http://[::1]:${BASE + 1}/`, 'w0');
  expect(await refused(`http://${Gateway}:${BASE}/`)).toBe(true);
  expect(await refused(`http://[::1]:${BASE}/`)).toBe(true);
  expect(await refused(`http://127.0.0.1:${BASE + 1}/`)).toBe(true);
});

test('the same port can be published on two addresses [port-two-addresses]', async () => {
  await web('w1', '-p', `127.0.0.1:${BASE}:80`);
  await web('w2', '-p', `127.0.0.2:${BASE}:80`);
  await served(`http://127.0.0.1:${BASE}/`, 'w1');
  await served(`http://127.0.0.2:${BASE}/`, 'w2');
});

test.each([
  ['udp4', '127.0.0.1'],
  ['udp6', '::1'],
] as const)('a published port forwards %s datagrams [port-udp]', async (family, address) => {
  await dockerOk('run', '-d', '--name', 'echo', '-p', `${BASE}:7/udp`, 'busybox', 'sleep', '1000');
  // busybox has no UDP server: run one from this host in the network namespace of the container.
  const {
    State: { Pid },
  } = (await engine.api('GET', '/containers/echo/json')).json as { State: { Pid: number } };
  const script =
    "const s = require('dgram').createSocket('udp4'); s.on('message', (m, r) => s.send(m, r.port, r.address)).bind(7)";
  const server = spawn('nsenter', ['-t', String(Pid), '-n', process.execPath, '-e', script], { stdio: 'ignore' });
  const client = createSocket(family);
  try {
    let answer = '';
    client.on('message', (data) => (answer = data.toString()));
    await until(() => {
      client.send('ping', BASE, address);
      return answer === 'ping';
    });
  } finally {
    client.close();
    server.kill('SIGKILL');
  }
});

test('-P publishes all exposed ports at free host ports [port-publish-all]', async () => {
  await web('w0', '-P', '--expose', '80', '--expose', '81-82', '--expose', '53/udp');
  const { Ports } = (await state('w0')).NetworkSettings;
  expect(Object.keys(Ports).sort()).toEqual(['53/udp', '80/tcp', '81/tcp', '82/tcp']);
  for (const key of ['80/tcp', '81/tcp', '82/tcp']) await served(`http://127.0.0.1:${Ports[key]![0]!.HostPort}/`, 'w0');
  expect(new Set(['80/tcp', '81/tcp', '82/tcp'].map((key) => Ports[key]![0]!.HostPort)).size).toBe(3);
});

test('an exposed port is shown but not published [port-exposed]', async () => {
  await web('w0', '--expose', '80');
  expect((await state('w0')).NetworkSettings.Ports).toEqual({ '80/tcp': null });
});

describe('a port that is in use', () => {
  test('by a container is refused before anything is created, with Docker’s message [port-taken-container]', async () => {
    await web('w0', '-p', `${BASE}:80`);
    const { Options } = (await engine.api('GET', '/networks/bridge')).json as { Options: Record<string, string> };
    const links = (): string[] => linksOn(Options['com.docker.network.bridge.name']!);
    const before = links();
    expect(before).toHaveLength(1);
    const { exitCode, stderr } = await docker(
      ...['run', '-d', '--name', 'late', '-p', `${BASE}:80`],
      ...['busybox', 'sleep', '100'],
    );
    const message = new RegExp(
      `failed to set up container networking: driver failed programming external connectivity on endpoint late \\(([0-9a-f]{64})\\): Bind for 0\\.0\\.0\\.0:${BASE} failed: port is already allocated`,
    );
    expect([exitCode, stderr]).toEqual([125, expect.stringMatching(message) as string]);
    expect((await state('late')).State).toMatchObject({
      Status: 'created',
      ExitCode: 128,
      Error: expect.stringMatching(message) as string,
    });
    expect(links()).toEqual(before);
    expect(linkNames()).not.toContain(`vh${message.exec(stderr)![1]!.slice(0, 11)}`);
    expect(readdirSync(join(engine.execRoot, 'netns'))).toHaveLength(1);
    await dockerOk('rm', '-f', 'w0');
    await dockerOk('start', 'late');
  });

  test('by another process is refused with Docker’s message [port-taken-process]', async () => {
    const other = createServer().listen(BASE, '0.0.0.0');
    try {
      const { exitCode, stderr } = await docker(
        ...['run', '-d', '--name', 'late', '-p', `${BASE}:80`],
        ...['busybox', 'sleep', '100'],
      );
      expect([exitCode, stderr]).toEqual([
        125,
        expect.stringMatching(
          new RegExp(`failed to bind host port for 0\\.0\\.0\\.0:${BASE}:[0-9.]+:80/tcp: address already in use`),
        ) as string,
      ]);
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
    await dockerOk('start', 'late');
  });

  test.each([
    ['tcp', '::', '[::]'],
    ['udp', '0.0.0.0', '0.0.0.0'],
    ['udp', '::', '[::]'],
    ['tcp', '127.0.0.1', '0.0.0.0'],
  ] as const)(
    'by another process, %s on %s, is refused and leaves nothing [port-taken-each]',
    async (protocol, address, shown) => {
      const other: { close(): unknown } =
        protocol === 'udp'
          ? await new Promise<ReturnType<typeof createSocket>>((resolve) => {
              const socket = createSocket({ type: address === '::' ? 'udp6' : 'udp4', ipv6Only: address === '::' });
              socket.bind(BASE, address, () => resolve(socket));
            })
          : await new Promise<ReturnType<typeof createServer>>((resolve) => {
              const server = createServer().listen({ port: BASE, host: address, ipv6Only: address === '::' }, () =>
                resolve(server),
              );
            });
      try {
        const { Options } = (await engine.api('GET', '/networks/bridge')).json as { Options: Record<string, string> };
        const { exitCode, stderr } = await docker(
          ...['run', '-d', '--name', 'late', '-p', `${BASE}:80/${protocol}`],
          ...['busybox', 'sleep', '100'],
        );
        expect([exitCode, stderr]).toEqual([
          125,
          expect.stringContaining(`failed to bind host port for ${shown}:${BASE}:`) as string,
        ]);
        expect(stderr).toContain(`:80/${protocol}: address already in use`);
        expect([
          (await state('late')).State.Status,
          (await state('late')).NetworkSettings.Networks.bridge!.IPAddress,
          linksOn(Options['com.docker.network.bridge.name']!),
        ]).toEqual(['created', '', []]);
      } finally {
        other.close();
      }
      await dockerOk('start', 'late');
    },
  );

  test('is reserved on the host until its container is removed, also without a daemon [port-reserved]', async () => {
    await web('w0', '-p', `${BASE}:80`);
    const listens = (): boolean => {
      try {
        execFileSync(
          process.execPath,
          [
            '-e',
            `require('net').createServer().listen(${BASE},'0.0.0.0',()=>process.exit(0)).on('error',()=>process.exit(1))`,
          ],
          { stdio: 'ignore' },
        );
        return true;
      } catch {
        return false;
      }
    };
    expect(listens()).toBe(false);
    await engine.kill9();
    expect(listens()).toBe(false);
    await engine.startAgain();
    await dockerOk('rm', '-f', 'w0');
    await until(listens);
  });

  test('stays published and reserved after a daemon kill [port-survives-daemon]', async () => {
    await web('w0', '-p', `${BASE}:80`);
    await engine.kill9();
    await served(`http://127.0.0.1:${BASE}/`, 'w0');
    await served(`http://[::1]:${BASE}/`, 'w0');
    await engine.startAgain();
    expect((await docker('run', '--rm', '-p', `${BASE}:80`, 'busybox', 'true')).stderr).toContain(
      `Bind for 0.0.0.0:${BASE} failed: port is already allocated`,
    );
  });
});
