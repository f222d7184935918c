/**
 * The default bridge network: containers, the host and a second host reach each other; hosts and resolv.conf are
 * correct. Runs alone because it changes the FORWARD policy of the host.
 */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
const { docker } = dockerOf(() => engine);
const server = "while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nserved' | nc -l -p 80; done";
const PORT = 21_809;
const address = async (name: string): Promise<string> =>
  (await docker('inspect', '-f', '{{.NetworkSettings.IPAddress}}', name)).stdout.trim();
const fetched = async (url: string): Promise<string> => engine.curl(url).catch(() => '');

beforeAll(async () => {
  engine = await startEngine();
  const { exitCode, stderr } = await docker(
    ...['run', '-d', '--name', 'web', '-h', 'webhost', '-p', `${PORT}:80`],
    ...['busybox', 'sh', '-c', server],
  );
  expect(exitCode, stderr).toBe(0);
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

describe('the default network', () => {
  test('the host reaches the container by its address', async () => {
    const url = `http://${await address('web')}/`;
    await until(async () => (await fetched(url)) === 'served');
  });

  test('a container reaches another by its address', async () => {
    const { stdout } = await docker(
      ...['run', '--rm'],
      ...['busybox', 'timeout', '5', 'wget', '-qO-', `http://${await address('web')}/`],
    );
    expect(stdout).toBe('served');
  });

  test.each(['127.0.0.1', '[::1]'])('a published port answers on %s', async (host) => {
    await until(async () => (await fetched(`http://${host}:${PORT}/`)) === 'served');
  });

  test('a container reaches itself through its published port (hairpin)', async () => {
    const gateway = (await docker('inspect', '-f', '{{.NetworkSettings.Gateway}}', 'web')).stdout.trim();
    const { stdout, stderr } = await docker(
      ...['exec', 'web', 'timeout', '5', 'wget', '-qO-', `http://${gateway}:${PORT}/`],
    );
    expect(stdout, stderr).toBe('served');
  });

  test('another host reaches a published port with FORWARD DROP', async () => {
    const ns = `hft${process.pid}`;
    const ip = (...args: string[]): void => void execFileSync('ip', args);
    const policy =
      /-P FORWARD (\w+)/.exec(execFileSync('iptables', ['-S', 'FORWARD'], { encoding: 'utf8' }))?.[1] ?? 'ACCEPT';
    try {
      execFileSync('iptables', ['-P', 'FORWARD', 'DROP']);
      ip('netns', 'add', ns);
      ip('link', 'add', `${ns}h`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', ns);
      ip('addr', 'add', '198.18.99.1/24', 'dev', `${ns}h`);
      ip('link', 'set', `${ns}h`, 'up');
      ip('-n', ns, 'addr', 'add', '198.18.99.2/24', 'dev', 'eth0');
      ip('-n', ns, 'link', 'set', 'eth0', 'up');
      ip('-n', ns, 'route', 'add', 'default', 'via', '198.18.99.1');
      await until(() => {
        try {
          return (
            execFileSync('ip', ['netns', 'exec', ns, 'curl', '-s', '-m', '3', `http://198.18.99.1:${PORT}/`], {
              encoding: 'utf8',
            }) === 'served'
          );
        } catch {
          return false;
        }
      });
    } finally {
      execFileSync('iptables', ['-P', 'FORWARD', policy]);
      execFileSync('sh', ['-c', `ip link del ${ns}h; ip netns del ${ns}`], { stdio: 'ignore' });
    }
  });

  test('an allocated port is refused', async () => {
    const { exitCode, stderr } = await docker(
      ...['run', '-d', '--name', 'late', '-p', `${PORT}:80`],
      ...['busybox', 'sleep', '100'],
    );
    expect(exitCode).toBe(125);
    expect(stderr).toMatch(/port is already allocated/);
    await docker('rm', '-f', 'late');
  });

  test('hostname, /etc/hosts and /etc/resolv.conf are set', async () => {
    const { stdout } = await docker(
      ...['exec', 'web', 'sh'],
      ...['-c', 'hostname; cat /etc/hostname; grep webhost /etc/hosts; grep -c nameserver /etc/resolv.conf'],
    );
    expect(stdout).toMatch(new RegExp(`^webhost\nwebhost\n${await address('web')}\\s+webhost\n[1-9]`));
  });

  test('--network none, host and container:NAME are applied', async () => {
    expect((await docker('run', '--rm', '--network', 'none', 'busybox', 'ls', '/sys/class/net')).stdout).toBe('lo\n');
    expect(
      (await docker('run', '--rm', '--network', 'host', 'busybox', 'wget', '-qO-', `http://127.0.0.1:${PORT}/`)).stdout,
    ).toBe('served');
    expect(
      (await docker('run', '--rm', '--network', 'container:web', 'busybox', 'wget', '-qO-', 'http://127.0.0.1/'))
        .stdout,
    ).toBe('served');
  });

  test('released addresses serve new containers [address-reuse]', async () => {
    const addresses = new Set<string>();
    for (let i = 0; i < 5; i++)
      addresses.add(
        (await docker('run', '--rm', 'busybox', 'sh', '-c', 'ip -4 addr show eth0 | grep inet')).stdout.trim(),
      );
    expect(addresses.size).toBeGreaterThan(0);
    expect([...addresses].every((text) => text.startsWith('inet '))).toBe(true);
  });
});
