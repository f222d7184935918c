/**
 * Names in containers on user-defined networks: what dockerd's DNS server answers, over UDP and TCP. Needs real bridges
 * and the DNS server.
 */
import { decode, encode, type Answer } from 'dns-packet';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ask, dataOf, startUpstream, type Upstream } from '../support/dns-client.ts';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';

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
type Asked = Partial<Parameters<typeof ask>[0]>;

const SERVER = `127.79.${process.pid % 250}.1`;
let engine: TestEngine;
const { docker, ok: dockerOk, inspect } = dockerOf<Inspected>(() => engine);
const sleeper = (name: string, ...options: string[]): Promise<string> =>
  dockerOk('run', '-d', '--name', name, ...options, 'busybox', 'sleep', '1000');
const on = async (container: string, network = 'dn'): Promise<Endpoint> =>
  (await inspect(container)).NetworkSettings.Networks[network]!;
/** A question from a container to the server of its network. */
async function from(container: string, name: string, { server, ...asked }: Asked = {}) {
  const { State, NetworkSettings } = await inspect(container);
  return ask({ ...asked, pid: State.Pid, server: server ?? Object.values(NetworkSettings.Networks)[0]!.Gateway, name });
}
const resolved = async (container: string, name: string, asked?: Asked): Promise<unknown[]> =>
  dataOf(await from(container, name, asked)).sort();

const records = (count: number): Answer[] =>
  Array.from({ length: count }, (_, i) => ({ type: 'A', name: 'many.example', ttl: 60, data: `192.0.2.${i + 1}` }));
/** 100 records, by TCP only. */
const tcpOnly = (packet: Buffer, transport: string): Buffer => {
  const { id, questions } = decode(packet);
  const isA = questions![0]!.type === 'A';
  return encode({
    ...{ type: 'response', id, questions },
    flags: transport === 'udp' && isA ? 0x0380 : 0x0180,
    answers: transport === 'tcp' && isA ? records(100) : [],
  });
};

beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());
afterEach(async () => {
  const all = (await engine.api('GET', '/containers/json?all=1')).json as { Id: string }[];
  await Promise.all(all.map(({ Id }) => engine.api('DELETE', `/containers/${Id}?force=1&v=1`)));
  await dockerOk('network', 'prune', '-f');
});

test('NAME.NETWORK, aliases with dots, and reverse names resolve [dns-network-names]', async () => {
  await dockerOk('network', 'create', 'dn');
  await sleeper('cc', '--network', 'dn', '--network-alias', 'peer.one');
  await sleeper('dd', '--network', 'dn', '--dns', SERVER);
  const { IPAddress } = await on('cc');
  for (const name of ['cc', 'cc.dn', 'CC.DN', 'peer.one', 'peer.one.dn'])
    expect(await resolved('dd', name)).toEqual([IPAddress]);
  const reverse = `${IPAddress.split('.').reverse().join('.')}.in-addr.arpa`;
  expect(await resolved('dd', reverse, { type: 'PTR' })).toEqual(['cc.dn']);
  // The resolver of an ordinary program: the C library's.
  expect((await docker('exec', 'dd', 'ping', '-c', '1', '-W', '10', 'peer.one.dn')).stdout).toContain(IPAddress);
  const none = await from('dd', 'cc', { type: 'AAAA' });
  expect([none.rcode, none.answers]).toEqual(['NOERROR', []]);
});

test('long answers are truncated over UDP and whole over TCP [dns-tcp]', async () => {
  await dockerOk('network', 'create', 'dn');
  await using upstream: Upstream = await startUpstream(SERVER, tcpOnly);
  await sleeper('dd', '--network', 'dn', '--dns', SERVER);
  const [udp, tcp] = [await from('dd', 'many.example'), await from('dd', 'many.example', { tcp: true })];
  expect([udp.flag_tc, udp.answers]).toEqual([true, []]);
  expect(dataOf(tcp)).toHaveLength(100);
  // Byte for byte what the upstream server sent.
  expect(tcp.raw).toEqual(tcpOnly(encode({ type: 'query', id: 1234, questions: tcp.questions! }), 'tcp'));
  expect(upstream.asked).toEqual(['udp many.example', 'tcp many.example']);
  await Promise.all(Array.from({ length: 6 }, (_, i) => sleeper(`w${i}`, '--network', 'dn', ...aliases('long-alias'))));
  const [plain, edns] = [await from('dd', 'long-alias'), await from('dd', 'long-alias', { edns: 1232 })];
  expect([plain.flag_tc, plain.answers!.length]).toEqual([false, 6]);
  expect([edns.flag_tc, edns.answers!.length, edns.additionals!.length]).toEqual([false, 6, 1]);
  expect(await resolved('dd', 'long-alias', { tcp: true })).toHaveLength(6);
});
const aliases = (...names: string[]): string[] => names.flatMap((name) => ['--network-alias', name]);

test('the next upstream server is asked when one fails or is silent [dns-next-upstream]', async () => {
  const silent = SERVER.replace(/1$/, '2');
  await dockerOk('network', 'create', 'dn');
  await using _ = await startUpstream(silent, () => undefined);
  await using upstream: Upstream = await startUpstream(SERVER, tcpOnly);
  // Nothing listens at the first address.
  const servers = [SERVER.replace(/1$/, '3'), silent, SERVER].flatMap((server) => ['--dns', server]);
  await sleeper('dd', '--network', 'dn', ...servers);
  expect((await from('dd', 'many.example', { tcp: true })).answers).toHaveLength(100);
  expect((await from('dd', 'many.example')).flag_tc).toBe(true);
  expect(upstream.asked).toEqual(['tcp many.example', 'udp many.example']);
  await sleeper('ee', '--network', 'dn', '--dns', SERVER.replace(/1$/, '3'));
  expect((await from('ee', 'many.example')).rcode).toBe('SERVFAIL');
});

test('an alias of a link resolves once its container runs, and follows it [dns-links]', async () => {
  await dockerOk('network', 'create', 'dn');
  await sleeper('early', '--network', 'dn', '--dns', SERVER);
  await dockerOk('create', '--name', 'up', '--network', 'dn', 'busybox', 'sleep', '1000');
  await dockerOk('create', '--name', 'dd', '--network', 'dn', '--link', 'up:bar', 'busybox', 'sleep', '1000');
  await dockerOk('start', 'dd', 'up');
  expect(await resolved('dd', 'bar')).toEqual([(await on('up')).IPAddress]);
  expect((await docker('exec', 'dd', 'cat', '/etc/hosts')).stdout).not.toContain('bar');
  // Made anew, with another address: another container has the old one.
  await dockerOk('rm', '-f', 'up');
  const pending = sleeper('other', '--network', 'dn');
  await pending;
  await sleeper('up', '--network', 'dn');
  const { IPAddress } = await on('up');
  expect(await resolved('dd', 'bar')).toEqual([IPAddress]);
  await dockerOk('restart', '-t', '0', 'up', 'dd');
  expect(await resolved('dd', 'bar')).toEqual([(await on('up')).IPAddress]);
  // Of the linking container only.
  expect((await from('early', 'bar')).rcode).toBe('SERVFAIL');
});

test('network connect --link gives a running container the alias [dns-connect-link]', async () => {
  await dockerOk('network', 'create', 'dn');
  await sleeper('up', '--network', 'dn');
  await sleeper('dd');
  await dockerOk('network', 'connect', '--link', 'up:bar', 'dn', 'dd');
  const { IPAddress } = await on('up');
  const { Gateway } = await on('dd');
  expect(await resolved('dd', 'bar', { server: Gateway })).toEqual([IPAddress]);
  expect((await docker('exec', 'dd', 'ping', '-c', '1', '-W', '10', 'bar')).stdout).toContain(IPAddress);
  await dockerOk('restart', '-t', '0', 'up', 'dd');
  expect(await resolved('dd', 'bar', { server: Gateway })).toEqual([(await on('up')).IPAddress]);
});

test('the server listens on the network’s IPv6 address too [dns-ipv6]', async () => {
  await dockerOk('network', 'create', '--ipv6', 'dn');
  await sleeper('cc', '--network', 'dn');
  await sleeper('dd', '--network', 'dn');
  const [cc, { IPv6Gateway }] = [await on('cc'), await on('dd')];
  for (const tcp of [false, true]) {
    expect(await resolved('dd', 'cc', { server: IPv6Gateway, tcp })).toEqual([cc.IPAddress]);
    const six = await resolved('dd', 'cc.dn', { server: IPv6Gateway, tcp, type: 'AAAA' });
    expect(six).toEqual([cc.GlobalIPv6Address]);
  }
});

test('without an answer, a single label asks outside unless ndots was asked for [dns-ndots]', async () => {
  await dockerOk('network', 'create', 'dn');
  await using upstream: Upstream = await startUpstream(SERVER, tcpOnly);
  await sleeper('dd', '--network', 'dn', '--dns', SERVER);
  await sleeper('ee', '--network', 'dn', '--dns', SERVER, '--dns-opt', 'ndots:1', '--dns-search', 'example.test');
  await from('dd', 'single');
  const empty = await from('ee', 'single');
  expect([empty.rcode, empty.answers]).toEqual(['NOERROR', []]);
  expect((await docker('exec', 'dd', 'cat', '/etc/resolv.conf')).stdout).toMatch(/^options .*ndots:0$/m);
  const conf = (await docker('exec', 'ee', 'cat', '/etc/resolv.conf')).stdout;
  expect([/^search (.*)$/m.exec(conf)?.[1], /^options (.*)$/m.exec(conf)?.[1]]).toEqual(['example.test', 'ndots:1']);
  expect(upstream.asked).toEqual(['udp single']);
});
