/**
 * The DNS server as a process: it starts from its tables, is told new ones, makes way for a successor, and its sockets
 * outlive it. Needs port 53 of loopback addresses and pidfd_getfd.
 */
import { build } from 'esbuild';
import { encode } from 'dns-packet';
import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, afterAll, describe, expect, test } from 'vitest';
import type { DnsTables } from '../../src/engine/networks/dns/tables.ts';
import { bindPort } from '../../src/sys/inet.ts';
import { dnsHolders, dnsServers } from '../support/dns-server.ts';
import { startUpstream } from '../support/dns-client.ts';
import { connectTo, type DnsControl } from '../support/dns-control.ts';
import { hasExited } from '../support/processes.ts';
import { until } from '../support/until.ts';

const UNIT = process.pid % 250;
const RESOLVER = `127.81.${UNIT}.1`;
const [SECOND, UPSTREAM] = [RESOLVER.replace(/1$/, '2'), RESOLVER.replace(/1$/, '3')];
const ANSWER_MS = 30_000;

let root: string;
let directory: string;
let bundle: string;
let count = 0;
const servers: ChildProcess[] = [];

const tables = (...names: string[]): DnsTables => ({
  version: 1,
  networks: [{ id: 'n', name: 'n', internal: false, resolvers: [RESOLVER] }],
  containers: [
    {
      id: 'c',
      endpoints: [{ network: 'n', addresses: ['127.0.0.1'], names, links: {} }],
      servers: [UPSTREAM],
      ndots: false,
    },
  ],
});
function write(content: DnsTables): void {
  writeFileSync(join(directory, 'draft'), JSON.stringify(content));
  renameSync(join(directory, 'draft'), join(directory, 'tables.json'));
}
function start(hash = 'one'): ChildProcess {
  const child = spawn(process.execPath, [bundle, directory, hash], { stdio: ['ignore', 'ignore', 'inherit'] });
  servers.push(child);
  return child;
}

/** Connects when a server with this hash is there. */
const control = (hash = 'one'): Promise<DnsControl> => connectTo(join(directory, 'sock'), hash);

const query = (name: string, id = 7): Buffer =>
  encode({ type: 'query', id, flags: 0x100, questions: [{ type: 'A', name }] });
/** Sends one datagram; resolves to the answer's rcode and number of records. */
function ask(name: string, server = RESOLVER): Promise<[number, number]> {
  const socket = createSocket('udp4');
  return new Promise<[number, number]>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer to ${name}`)), ANSWER_MS);
    socket.on('error', reject);
    socket.on('message', (message) => {
      clearTimeout(timer);
      resolve([message[3]! & 15, message.readUInt16BE(6)]);
    });
    // Connected, so that a closed port is an error.
    socket.connect(53, server, () => socket.send(query(name)));
  }).finally(() => socket.close());
}
const engine = (): { execRoot: string } => ({ execRoot: root });

beforeAll(async () => {
  bundle = join(mkdtempSync(join(tmpdir(), 'hf-dns-')), 'dns-server.cjs');
  await build({
    entryPoints: ['src/engine/networks/dns/main.ts'],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    logLevel: 'error',
    define: { 'import.meta.url': '__moduleUrl' },
    banner: { js: "const __moduleUrl = require('node:url').pathToFileURL(process.cwd() + '/x').href;" },
  });
});
afterAll(() => rmSync(join(bundle, '..'), { recursive: true, force: true }));
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), `hf-dns-${count++}`));
  directory = join(root, 'dns');
  mkdirSync(directory);
  write(tables('web'));
});
afterEach(async () => {
  for (const child of servers.splice(0)) child.kill('SIGKILL');
  await until(() => dnsServers(engine()).length === 0);
  for (const pid of dnsHolders(engine())) process.kill(pid, 'SIGKILL');
  await until(() => dnsHolders(engine()).length === 0);
  rmSync(root, { recursive: true, force: true });
});

describe('a DNS server', () => {
  test('reads its tables at its start and when it is told, and says which sockets cannot be opened [dns-reload]', async () => {
    start();
    using daemon = await control();
    expect(await ask('web')).toEqual([0, 1]);
    write(tables('db'));
    expect(await ask('web')).toEqual([0, 1]);
    expect(await daemon.reload()).toEqual({ failed: [] });
    expect(await ask('db')).toEqual([0, 1]);
    const taken = bindPort('udp', SECOND, 53);
    const wider = tables('db');
    wider.networks[0]!.resolvers.push(SECOND);
    write(wider);
    expect(await daemon.reload()).toEqual({ failed: [`udp ${SECOND}: bind: EADDRINUSE (${SECOND} 53/udp)`] });
    expect(await ask('db')).toEqual([0, 1]);
    closeSync(taken);
    // It tries again by itself.
    await until(
      () =>
        ask('db', SECOND)
          .then(([, records]) => records === 1)
          .catch(() => false),
      60_000,
    );
  });

  test('without networks it closes its sockets, and ends when no daemon is connected [dns-idle]', async () => {
    const server = start();
    const daemon = await control();
    write({ version: 1, networks: [], containers: [] });
    await daemon.reload();
    await expect(ask('web')).rejects.toThrow('ECONNREFUSED');
    expect(dnsHolders(engine())).toEqual([]);
    daemon[Symbol.dispose]();
    await until(() => hasExited(server));
    expect(['sock', 'holders.json'].filter((name) => existsSync(join(directory, name)))).toEqual([]);
  });

  test('survives packets of any content, over UDP and TCP [dns-survives]', async () => {
    const server = start();
    using _ = await control();
    const socket = createSocket('udp4');
    const whole = query('web');
    for (let i = 0; i <= whole.length; i++) {
      socket.send(whole.subarray(0, i), 53, RESOLVER);
      const changed = Buffer.from(whole);
      changed[i % whole.length] = 0xff;
      socket.send(changed, 53, RESOLVER);
    }
    const stream = connect(53, RESOLVER, () => stream.end(Buffer.concat([Buffer.from([0, 5]), whole])));
    await new Promise((resolve) => stream.on('error', resolve).on('close', resolve).resume());
    expect(await ask('web')).toEqual([0, 1]);
    socket.close();
    expect(hasExited(server)).toBe(false);
  });

  test('a flood of questions for a silent upstream server is bounded, and others are answered [dns-bounded]', async () => {
    await using _ = await startUpstream(UPSTREAM, () => undefined);
    start();
    using daemon = await control();
    const socket = createSocket('udp4');
    const refused: number[] = [];
    socket.on('message', (message) => refused.push(message[3]! & 15));
    await new Promise<void>((resolve) => socket.bind(() => resolve()));
    for (let i = 0; i < 400; i++) socket.send(query(`n${i}.example`, i), 53, RESOLVER);
    const REFUSED = 5;
    await until(() => refused.filter((code) => code === REFUSED).length >= 400 - 256, ANSWER_MS);
    expect(await ask('web')).toEqual([0, 1]);
    socket.close();
    expect(daemon.isClosed()).toBe(false);
  });
});

describe('its sockets outlive it', () => {
  test('a question that is sent while no server runs is answered by the next one [dns-queued]', async () => {
    const server = start();
    (await control())[Symbol.dispose]();
    server.kill('SIGKILL');
    await until(() => hasExited(server));
    const asked = Promise.all([ask('web'), ask('web'), ask('web')]);
    start('two');
    expect(await asked).toEqual([
      [0, 1],
      [0, 1],
      [0, 1],
    ]);
  });

  test('a killed holder is replaced [dns-holder]', async () => {
    const server = start();
    using _ = await control();
    const [old] = dnsHolders(engine());
    process.kill(old!, 'SIGKILL');
    const [next] = await until(() => {
      const pids = dnsHolders(engine()).filter((pid) => pid !== old);
      return (
        pids.length === 1 && readFileSync(join(directory, 'holders.json'), 'utf8').includes(String(pids[0])) && pids
      );
    }, 60_000);
    server.kill('SIGKILL');
    await until(() => hasExited(server));
    const asked = ask('web');
    start();
    expect(await asked).toEqual([0, 1]);
    await until(() => !dnsHolders(engine()).includes(next!));
  });

  test('a holder whose server died before it was on record ends [dns-holder-orphan]', async () => {
    const server = start();
    (await control())[Symbol.dispose]();
    const [pid] = dnsHolders(engine());
    server.kill('SIGKILL');
    await until(() => hasExited(server));
    // One that waits for the word of a server that is gone.
    const waiting = spawn('sh', ['-c', 'read go && read forever <> "$0"', join(directory, 'fifo')], {
      argv0: 'holdfast-dns-sockets',
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    waiting.stdin.destroy();
    await until(() => hasExited(waiting));
    expect(dnsHolders(engine())).toEqual([pid]);
  });
});

describe('a successor', () => {
  test('takes its place without losing a question, and answers those that were outstanding [dns-successor]', async () => {
    let isSilent = true;
    await using upstream = await startUpstream(UPSTREAM, (packet) => {
      if (isSilent) return undefined;
      const answer = Buffer.from(packet);
      answer.writeUInt16BE(0x8180, 2);
      return answer;
    });
    const old = start('one');
    (await control('one'))[Symbol.dispose]();
    const outstanding = ask('outside.example');
    await until(() => upstream.asked.length === 1, ANSWER_MS);
    isSilent = false;
    let going = true;
    const lost: string[] = [];
    let answered = 0;
    const loops = [0, 1, 2, 3].map(async () => {
      while (going)
        await ask('web').then(
          ([, records]) => (records === 1 ? answered++ : lost.push('empty')),
          (error: unknown) => lost.push((error as Error).message),
        );
    });
    start('two');
    using _ = await control('two');
    await until(() => hasExited(old), ANSWER_MS);
    const before = answered;
    await until(() => answered > before + 20, ANSWER_MS);
    going = false;
    await Promise.all(loops);
    expect(lost).toEqual([]);
    expect(await outstanding).toEqual([0, 0]);
  });

  test('ends a server that is frozen, and answers what waits in the sockets [dns-frozen]', async () => {
    const old = start('one');
    (await control('one'))[Symbol.dispose]();
    old.kill('SIGSTOP');
    const asked = ask('web');
    start('two');
    using _ = await control('two');
    expect(await asked).toEqual([0, 1]);
    await until(() => hasExited(old));
  });
});
