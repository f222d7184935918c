/** Names as glibc's resolver sees them, which asks over TCP when an answer is truncated: a Debian image. */
import { decode, encode, type Answer } from 'dns-packet';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { debianTar } from '../support/debian.ts';
import { startUpstream } from '../support/dns-client.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

const MAKING_MS = 600_000;
const SERVER = `127.80.${process.pid % 250}.1`;
let engine: TestEngine;
const { docker, ok: dockerOk } = dockerOf(() => engine);
const getent = async (...args: string[]): Promise<string> => (await docker('exec', 'dd', 'getent', ...args)).stdout;

beforeAll(async () => {
  const archive = debianTar();
  engine = await startEngine();
  expect(await docker('import', archive, 'debian:test')).toMatchObject({ stderr: '', exitCode: 0 });
}, MAKING_MS);
afterAll(async () => engine?.[Symbol.asyncDispose]());

test('getaddrinfo gets 100 addresses that fit into no datagram, names of containers, and search domains [dns-glibc]', async () => {
  const answers: Answer[] = Array.from({ length: 100 }, (_, i) => ({
    ...{ type: 'A', name: 'many.example', ttl: 60 },
    data: `192.0.2.${i + 1}`,
  }));
  await using upstream = await startUpstream(SERVER, (packet, transport) => {
    const { id, questions } = decode(packet);
    const { name, type } = questions![0]!;
    const found = name === 'many.example' && type === 'A' ? answers : [];
    const truncated = transport === 'udp' && found.length > 0;
    const [TC, NXDOMAIN] = [0x0200, 3];
    return encode({
      ...{ type: 'response', id, questions },
      flags: 0x0180 | (truncated ? TC : 0) | (name.startsWith('many') ? 0 : NXDOMAIN),
      answers: truncated ? [] : found,
    });
  });
  await dockerOk('network', 'create', 'dn');
  const options = ['--network', 'dn', '--dns', SERVER, '--dns-search', 'example'];
  await dockerOk('run', '-d', '--name', 'dd', ...options, 'debian:test', 'sleep', '1000');
  await dockerOk('run', '-d', '--name', 'cc', '--network', 'dn', 'busybox', 'sleep', '1000');
  const many = (await getent('ahostsv4', 'many.example')).split('\n').filter((line) => line.includes('STREAM'));
  expect(new Set(many.map((line) => line.split(' ')[0])).size).toBe(100);
  const address = await dockerOk('inspect', '-f', '{{.NetworkSettings.Networks.dn.IPAddress}}', 'cc');
  for (const name of ['cc', 'cc.dn']) expect(await getent('ahosts', name)).toContain(`${address} `);
  expect(await getent('hosts', address)).toContain('cc.dn');
  // Asked as it is first, because ndots is 0, then in the search domain.
  upstream.asked.length = 0;
  expect(await getent('ahostsv4', 'many')).toContain('192.0.2.1 ');
  expect([...new Set(upstream.asked.filter((each) => each.startsWith('udp')))]).toEqual([
    'udp many',
    'udp many.example',
  ]);
  expect((await docker('exec', 'dd', 'getent', 'ahosts', 'nobody')).exitCode).toBe(2);
});
