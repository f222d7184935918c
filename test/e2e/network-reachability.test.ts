/**
 * Published ports over every path that leads to them, under conditions that commonly break them: a firewall with
 * policy DROP, filtered bridges, a dockerd on the same host. Needs the real firewall of the host.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { busyboxTar } from '../support/busybox.ts';
import { startDockerd, type Dockerd } from '../support/dockerd.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { request } from '../support/http.ts';
import { until } from '../support/until.ts';

const FAR = `hfp${process.pid}`;
const unit = process.pid % 250;
const [HERE, THERE] = [`198.19.${unit}.1`, `198.19.${unit}.2`];
const BASE = 22_100 + 4 * (process.pid % 200);
const [DEFAULT, OWN, THEIRS] = [BASE, BASE + 1, BASE + 2];
const FILTERED = '/proc/sys/net/bridge/bridge-nf-call-iptables';

let engine: TestEngine;
const sh = (command: string): string =>
  execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
/** Output of a shell command; empty when it fails. */
const tryShell = (command: string): string => {
  try {
    return sh(command).trim();
  } catch {
    return '';
  }
};
const fetched = (url: string, where = ''): string => tryShell(`${where} curl -g -s -m 3 ${url}`);
const dockerOk = async (...args: string[]): Promise<string> => {
  const { stdout, stderr, exitCode } = await engine.docker(...args).result;
  expect(exitCode, `docker ${args.join(' ')}: ${stderr}`).toBe(0);
  return stdout.trim();
};
const serving = (text: string): string[] => [
  'busybox',
  'sh',
  '-c',
  `mkdir -p /w; echo ${text} > /w/index.html; exec httpd -f -h /w -p 80`,
];

/**
 * Requests a container of the default network and one of a user-defined network by each path; returns the answers per
 * path.
 */
async function answers(): Promise<Record<string, string[]>> {
  const from = (name: string, url: string): Promise<string> =>
    engine.docker('exec', name, 'timeout', '5', 'wget', '-qO-', url).result.then(({ stdout }) => stdout.trim());
  const both = <T>(work: (port: number, name: string) => T): T[] => [work(DEFAULT, 'first'), work(OWN, 'second')];
  return {
    '127.0.0.1': both((port) => fetched(`http://127.0.0.1:${port}/`)),
    '[::1]': both((port) => fetched(`http://[::1]:${port}/`)),
    'another host': both((port) => fetched(`http://${HERE}:${port}/`, `ip netns exec ${FAR}`)),
    hairpin: await Promise.all(both((port, name) => from(name, `http://${HERE}:${port}/`))),
    'the other network, through the host': await Promise.all(
      both((port, name) => from(name === 'first' ? 'second' : 'first', `http://${HERE}:${port}/`)),
    ),
  };
}
const ALL = Object.fromEntries(
  ['127.0.0.1', '[::1]', 'another host', 'hairpin', 'the other network, through the host'].map((way) => [
    way,
    ['first', 'second'],
  ]),
);
const expectAllAnswers = async (): Promise<void> => {
  let last: unknown;
  await until(async () => {
    last = await answers();
    return JSON.stringify(last) === JSON.stringify(ALL);
  }, 30_000).catch(() => expect(last).toEqual(ALL));
};

beforeAll(async () => {
  engine = await startEngine();
  sh(`ip netns add ${FAR} && ip link add ${FAR}h type veth peer name eth0 netns ${FAR} && ip addr add ${HERE}/24 dev ${FAR}h && ip link set ${FAR}h up &&
    ip -n ${FAR} addr add ${THERE}/24 dev eth0 && ip -n ${FAR} link set eth0 up && ip -n ${FAR} link set lo up && ip -n ${FAR} route add default via ${HERE}`);
  await dockerOk('network', 'create', 'own');
  await dockerOk('run', '-d', '--name', 'first', '-p', `${DEFAULT}:80`, ...serving('first'));
  await dockerOk('run', '-d', '--name', 'second', '--network', 'own', '-p', `${OWN}:80`, ...serving('second'));
});
afterAll(async () => {
  tryShell(`ip link del ${FAR}h; ip netns del ${FAR}`);
  if (engine) {
    for (const name of ['first', 'second']) await engine.api('DELETE', `/containers/${name}?force=1`);
    await engine.api('DELETE', '/networks/own');
  }
  await engine?.[Symbol.asyncDispose]();
});

test(
  'ports are reachable by 127.0.0.1, [::1], another host, hairpin and the other network [ports-every-path]',
  expectAllAnswers,
);

test('containers reach another host over IPv4 and IPv6 by the host’s address; that host reaches none [masquerade-one-way]', async () => {
  const [here, there] = [`2001:db8:${unit}::1`, `2001:db8:${unit}::2`];
  sh(
    `ip addr add ${here}/64 dev ${FAR}h nodad && ip -n ${FAR} addr add ${there}/64 dev eth0 nodad && ip -n ${FAR} route add default via ${here}`,
  );
  // Answers each client with the source address it saw.
  const server = spawn(
    'nsenter',
    [
      `--net=/run/netns/${FAR}`,
      process.execPath,
      '-e',
      "require('net').createServer((s) => s.end(s.remoteAddress)).listen(80, '::', () => console.log('ready'))",
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    await new Promise((resolve) => server.stdout.once('data', resolve));
    await dockerOk('network', 'create', '--ipv6', 'six');
    await dockerOk('run', '-d', '--name', 'third', '--network', 'six', ...serving('third'));
    const sourceSeen = (name: string, address: string): Promise<string> =>
      engine
        .docker('exec', name, 'sh', '-c', `timeout 5 nc -w 3 ${address} 80 </dev/null`)
        .result.then(({ stdout }) => stdout.trim());
    await until(async () => (await sourceSeen('third', THERE)) === `::ffff:${HERE}`);
    await until(async () => (await sourceSeen('third', there)) === here);
    expect(await sourceSeen('first', THERE)).toBe(`::ffff:${HERE}`);
    const { six } = (
      (await engine.api('GET', '/containers/third/json')).json as {
        NetworkSettings: { Networks: { six: { IPAddress: string; GlobalIPv6Address: string } } };
      }
    ).NetworkSettings.Networks;
    for (const address of [six.IPAddress, `[${six.GlobalIPv6Address}]`]) {
      expect(fetched(`http://${address}/`)).toBe('third');
      expect(fetched(`http://${address}/`, `ip netns exec ${FAR}`)).toBe('');
    }
  } finally {
    server.kill('SIGKILL');
    await engine.api('DELETE', '/containers/third?force=1');
    await engine.api('DELETE', '/networks/six');
  }
});

test('all paths work with FORWARD DROP and filtered bridges, also without the daemon [ports-forward-drop]', async () => {
  tryShell('modprobe br_netfilter');
  const policy = /-P FORWARD (\w+)/.exec(sh('iptables -S FORWARD'))?.[1] ?? 'ACCEPT';
  const filtered = existsSync(FILTERED) ? readFileSync(FILTERED, 'latin1') : undefined;
  try {
    sh('iptables -w 5 -P FORWARD DROP');
    if (filtered !== undefined) writeFileSync(FILTERED, '1');
    await expectAllAnswers();
    // Packets do not pass through the daemon.
    await engine.kill9();
    for (const [port, text] of [
      [DEFAULT, 'first'],
      [OWN, 'second'],
    ] as const)
      for (const [url, where] of [
        [`http://${HERE}:${port}/`, `ip netns exec ${FAR}`],
        [`http://127.0.0.1:${port}/`, ''],
        [`http://[::1]:${port}/`, ''],
      ] as const)
        expect(fetched(url, where)).toBe(text);
    await engine.startAgain();
    // An unpublished port is reachable neither from outside nor from another network.
    const { NetworkSettings } = (await engine.api('GET', '/containers/second/json')).json as {
      NetworkSettings: { Networks: { own: { IPAddress: string } } };
    };
    const address = NetworkSettings.Networks.own.IPAddress;
    expect(fetched(`http://${address}/`, `ip netns exec ${FAR}`)).toBe('');
    expect(
      (await engine.docker('exec', 'first', 'timeout', '2', 'nc', '-w', '1', address, '80').result).exitCode,
    ).not.toBe(0);
    expect(fetched(`http://${address}/`)).toBe('second');
  } finally {
    sh(`iptables -w 5 -P FORWARD ${policy}`);
    if (filtered !== undefined) writeFileSync(FILTERED, filtered);
  }
});

describe('with a dockerd on the same host', () => {
  let dockerd: Dockerd | undefined;
  beforeAll(async () => {
    dockerd = await startDockerd({ hostNetwork: true });
    const loaded = await request(
      dockerd.socket,
      'POST',
      '/images/create?fromSrc=-&repo=busybox&tag=latest',
      busyboxTar(),
      { 'Content-Type': 'application/x-tar' },
    );
    expect(loaded.status, loaded.text).toBe(200);
  });
  afterAll(async () => dockerd?.[Symbol.asyncDispose]());

  test('both engines publish, and each reaches its own and the other’s ports through the host [ports-with-dockerd]', async () => {
    expect(sh('iptables -S FORWARD')).toContain('-j DOCKER-USER');
    const docker = async (method: string, path: string, body?: unknown): Promise<unknown> => {
      const answer = await request(dockerd!.socket, method, path, body);
      expect(answer.status, answer.text).toBeLessThan(300);
      return answer.json;
    };
    const body = {
      Image: 'busybox',
      Cmd: serving('theirs').slice(1),
      ExposedPorts: { '80/tcp': {} },
      HostConfig: { PortBindings: { '80/tcp': [{ HostPort: String(THEIRS) }] } },
    };
    const { Id } = (await docker('POST', '/containers/create', body)) as { Id: string };
    await docker('POST', `/containers/${Id}/start`);
    // dockerd sets this policy itself where it is the one that enables forwarding.
    const policy = /-P FORWARD (\w+)/.exec(sh('iptables -S FORWARD'))![1]!;
    sh('iptables -w 5 -P FORWARD DROP');
    try {
      await expectAllAnswers();
    } finally {
      sh(`iptables -w 5 -P FORWARD ${policy}`);
    }
    await until(() => fetched(`http://${HERE}:${THEIRS}/`, `ip netns exec ${FAR}`) === 'theirs');
    expect(fetched(`http://${HERE}:${THEIRS}/`)).toBe('theirs');
    const { NetworkSettings } = (await docker('GET', `/containers/${Id}/json`)) as {
      NetworkSettings: { Networks: { bridge: { IPAddress: string } } };
    };
    expect(fetched(`http://${NetworkSettings.Networks.bridge.IPAddress}/`)).toBe('theirs');
    // A network created now works too and does not overlap with its subnets.
    await dockerOk('network', 'create', 'late');
    try {
      await dockerOk('run', '-d', '--name', 'third', '--network', 'late', ...serving('third'));
      await until(
        async () =>
          (
            await engine.docker(
              ...['run', '--rm', '--network', 'late'],
              ...['busybox', 'timeout', '5', 'wget', '-qO-', 'http://third/'],
            ).result
          ).stdout.trim() === 'third',
      );
    } finally {
      await engine.api('DELETE', '/containers/third?force=1');
      await engine.api('DELETE', '/networks/late');
    }
  });
});
