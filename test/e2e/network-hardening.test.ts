/**
 * What containers and other networks cannot do to the host, and what stays right when a program of the host fails. The
 * daemon runs in a network namespace of its own, where a test may change the host's settings.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

const NETNS = `hfh${process.pid}`;
const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
/** The prefix that the advertisements give out. */
const PREFIX = '2001:db8:bad:';
/** Sends a router advertisement with a default route and a prefix (RFC 4861) from eth0 to all nodes. */
const ADVERTISE = `
import socket, struct
mac = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
source = bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]])
target = socket.inet_pton(socket.AF_INET6, 'ff02::1')
prefix = struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 86400, 86400, 0) + socket.inet_pton(socket.AF_INET6, '${PREFIX}:')
def icmp(sum): return struct.pack('!BBHBBHII', 134, 0, sum, 64, 0, 1800, 0, 0) + bytes([1, 1]) + mac + prefix
pseudo = source + target + struct.pack('!II', len(icmp(0)), 58)
total = sum(struct.unpack('!%dH' % (len(pseudo + icmp(0)) // 2), pseudo + icmp(0)))
while total >> 16: total = (total & 0xffff) + (total >> 16)
packet = icmp(total ^ 0xffff)
ip = struct.pack('!IHBB', 0x60000000, len(packet), 58, 255) + source + target
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0x86dd))
for _ in range(3): s.send(bytes.fromhex('333300000001') + mac + bytes([0x86, 0xdd]) + ip + packet)
`;

let engine: TestEngine;
const scratch = mkdtempSync('/tmp/hf-hard-');
const pidfile = join(scratch, 'pid');

const onHost = (...command: string[]): string =>
  execFileSync('nsenter', [`--net=/run/netns/${NETNS}`, ...command], { encoding: 'utf8' });
const setting = (path: string): string => onHost('cat', `/proc/sys/net/${path}`).trim();
const set = (path: string, value: string): string => onHost('sh', '-c', `echo ${value} > /proc/sys/net/${path}`);
const runIdle = (...flags: string[]): Promise<string> =>
  engine.dockerOutput('run', '-d', ...flags, 'busybox', 'sleep', '10000');
const bridgeOf = async (network: string): Promise<string> =>
  (await engine.dockerOutput('network', 'inspect', '-f', '{{slice .Id 0 12}}', network)).trim().replace(/^/, 'br-');

/** Whether the host takes on a route or an address that a container advertises. */
async function isTakenIn(container: string): Promise<boolean> {
  const pid = (await engine.dockerOutput('inspect', '-f', '{{.State.Pid}}', container)).trim();
  execFileSync('nsenter', ['-t', pid, '-n', 'python3', '-c', ADVERTISE]);
  const known = (): boolean => {
    const state = onHost('sh', '-c', 'ip -6 route show; ip -6 addr show');
    return state.includes('default') || state.includes(PREFIX);
  };
  return until(known, 1_000).then(
    () => true,
    () => false,
  );
}

beforeAll(async () => {
  execFileSync('ip', ['netns', 'add', NETNS]);
  execFileSync('ip', ['-n', NETNS, 'link', 'set', 'lo', 'up']);
  engine = await startEngine({ netns: NETNS, flags: ['--pidfile', pidfile] });
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  execFileSync('ip', ['netns', 'del', NETNS]);
  rmSync(scratch, { recursive: true });
});

test('a router advertisement from a container does not configure the host [router-advertisement]', async () => {
  await engine.dockerOutput('network', 'create', 'plain');
  await engine.dockerOutput('network', 'create', '--internal', 'inner');
  await runIdle('--name', 'on-bridge');
  await runIdle('--name', 'on-plain', '--network', 'plain');
  await runIdle('--name', 'on-inner', '--network', 'inner');
  for (const name of ['on-bridge', 'on-plain', 'on-inner'])
    expect([name, await isTakenIn(name)]).toEqual([name, false]);

  // As an earlier release left its bridges: the host takes the advertisement in, so the test's packet is right.
  const plain = await bridgeOf('plain');
  set(`ipv6/conf/${plain}/disable_ipv6`, '0');
  set(`ipv6/conf/${plain}/accept_ra`, '1');
  expect(await isTakenIn('on-plain')).toBe(true);
  await engine.stop();
  await engine.startAgain();
  expect(await isTakenIn('on-plain')).toBe(false);

  // No bridge, no port: the host's end of the container's link is on its own.
  onHost('ip', 'link', 'delete', plain);
  expect(await isTakenIn('on-plain')).toBe(false);
  await engine.dockerOutput('rm', '-f', 'on-bridge', 'on-plain', 'on-inner');
});

test('every bridge refuses advertisements, and has IPv6 only with its network [bridge-ipv6-settings]', async () => {
  await engine.dockerOutput('network', 'create', '--ipv6', 'six');
  const settings = async (network: string): Promise<string[]> => {
    const bridge = await bridgeOf(network);
    return ['accept_ra', 'disable_ipv6'].map((name) => setting(`ipv6/conf/${bridge}/${name}`));
  };
  expect(await settings('plain')).toEqual(['0', '1']);
  expect(await settings('inner')).toEqual(['0', '1']);
  expect(await settings('six')).toEqual(['0', '0']);
  await runIdle('--name', 'on-six', '--network', 'six');
  set(`ipv6/conf/${await bridgeOf('six')}/accept_ra`, '1');
  await engine.kill9();
  await engine.startAgain();
  expect(await settings('six')).toEqual(['0', '0']);
  const gateway = '{{range .NetworkSettings.Networks}}{{.IPv6Gateway}}{{end}}';
  const address = (await engine.dockerOutput('inspect', '-f', gateway, 'on-six')).trim();
  await engine.dockerOutput('exec', 'on-six', 'ping', '-6', '-c', '1', '-W', '3', address);
  await engine.dockerOutput('rm', '-f', 'on-six');
});

/** PATH with a program before all others that crashes, and the file in which it notes its calls. */
function crashing(program: string): { PATH: string; calls: string } {
  const [directory, calls] = [join(scratch, program), join(scratch, `${program}-calls`)];
  mkdirSync(directory);
  writeFileSync(join(directory, program), `#!/bin/sh\necho call >> ${calls}\nkill -SEGV $$\n`, { mode: 0o755 });
  return { PATH: `${directory}:${process.env.PATH}`, calls };
}

test('an nft that crashes, as Debian 12’s on tables of a newer one, has no influence [nft-crashes]', async () => {
  const port = 24_500 + (process.pid % 400);
  const { PATH, calls } = crashing('nft');
  await engine.stop();
  await engine.startAgain({ PATH });
  await engine.dockerOutput('network', 'create', '--ipv6', 'with-rules');
  await engine.dockerOutput(
    ...['run', '-d', '--name', 'web', '--network', 'with-rules', '-p', `${port}:80`],
    ...['busybox', 'sh', '-c', 'mkdir /w; echo web > /w/index.html; exec httpd -f -h /w'],
  );
  const isPublished = async (): Promise<boolean> =>
    (await engine.curl(`http://127.0.0.1:${port}/`).catch(() => '')).trim() === 'web';
  await until(isPublished);
  await engine.kill9();
  await engine.startAgain({ PATH });
  expect(await isPublished()).toBe(true);
  onHost('/usr/sbin/nft', 'flush', 'ruleset');
  await until(isPublished);
  await engine.dockerOutput('rm', '-f', 'web');
  await engine.dockerOutput('network', 'rm', 'with-rules');
  expect(await engine.stop()).toBe(0);
  expect(existsSync(calls)).toBe(false);
  await engine.startAgain();
});

test('with an iptables that crashes, errors name the signal and the daemon ends in order [iptables-crashes]', async () => {
  const { PATH, calls } = crashing('iptables');
  await engine.stop();
  const before = engine.log().length;
  await engine.startAgain({ PATH });
  expect(await engine.dockerRefusal('run', '--rm', 'busybox', 'true')).toContain('iptables was killed by SIGSEGV');
  await engine.dockerOutput('run', '--rm', '--network', 'none', 'busybox', 'true');
  // Each check of the rules fails; one line says so.
  await until(() => readFileSync(calls, 'utf8').split('call').length > 4);
  expect(existsSync(pidfile)).toBe(true);
  expect(await engine.stop()).toBe(0);
  expect(existsSync(pidfile)).toBe(false);
  const log = engine.log().slice(before);
  expect(log.match(/could not (restore the network|set up bridges and rules)/g)).toHaveLength(1);
  expect(log.split('\n').filter((line) => line !== '' && !line.startsWith('{'))).toEqual([]);
  await engine.startAgain();
  await engine.dockerOutput('run', '--rm', 'busybox', 'true');
});

test('a daemon whose native modules do not load prints the reason, not its source [start-error-short]', () => {
  for (const file of ['holdfastd.cjs', 'daemon.cjs']) cpSync(join(DIST, file), join(scratch, file));
  const start = (): unknown =>
    execFileSync(process.execPath, [join(scratch, 'holdfastd.cjs'), '--version'], { encoding: 'utf8', stdio: 'pipe' });
  expect(start).toThrow(/holdfastd: Cannot find module/);
  try {
    start();
  } catch (error) {
    expect((error as { stderr: string }).stderr.length).toBeLessThan(500);
  }
});
