import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Socket, createServer, connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { AttachOptions } from '../../src/protocol/messages.ts';
import { Client as HandedOver } from '../../src/shim/clients.ts';
import { LogWriter } from '../../src/shim/log/writer.ts';
import { Sessions } from '../../src/shim/sessions.ts';
import { Stdio, type StdioOptions } from '../../src/shim/stdio.ts';
import { duplicate } from '../../src/sys/file.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { unframe, unframeBytes } from '../support/frames.ts';
import { exited } from '../support/processes.ts';
import { until } from '../support/until.ts';

let run: string;
const cleanup: (() => void)[] = [];
beforeEach(() => void (run = mkdtempSync(join(tmpdir(), 'io-'))));
afterEach(() => {
  for (const undo of cleanup.splice(0).reverse()) undo();
  rmSync(run, { recursive: true, force: true });
});

const HEAD = 'HTTP/1.1 101 UPGRADED\r\n\r\n';

/** The client's end of an attached connection. */
class Client {
  readonly packets: Buffer[] = [];
  ended = false;
  closed = false;
  constructor(
    readonly socket: Socket,
    { reading = true } = {},
  ) {
    socket.on('error', () => {});
    socket.on('end', () => (this.ended = true));
    socket.on('close', () => (this.closed = true));
    if (reading) this.read();
    cleanup.push(() => socket.destroy());
  }
  read(): this {
    this.socket.on('data', (chunk: Buffer) => this.packets.push(chunk));
    return this;
  }
  get bytes(): Buffer {
    return Buffer.concat(this.packets);
  }
  get text(): string {
    return this.bytes.toString();
  }
  /** Output after the head, unframed. */
  get frames(): { 1: string; 2: string; rest: number } {
    return unframe(this.bytes.subarray(HEAD.length));
  }
}

const all: AttachOptions = {
  stdin: true,
  stdout: true,
  stderr: true,
  stream: true,
  logs: false,
  framed: true,
  detachKeys: [],
};

interface Rig {
  options: { slowClientMs: number };
  sessions: Sessions;
  events: string[];
  attach(options?: Partial<AttachOptions>, more?: { early?: string; head?: string; reading?: boolean }): Client;
}
function rig({ slowClientMs = 60_000, log = false } = {}): Rig {
  const events: string[] = [];
  const options = {
    logPath: () => (log ? join(run, 'log') : null),
    slowClientMs,
    onDetach: () => void events.push('detach'),
    onEmpty: () => void events.push('empty'),
  };
  const sessions = new Sessions(options);
  return {
    sessions,
    events,
    options,
    attach(options = {}, { early = '', head = HEAD, reading = true } = {}) {
      const [ours, theirs] = socketPair();
      const client = new Client(new Socket({ fd: theirs, allowHalfOpen: true, readable: true, writable: true }), {
        reading,
      });
      sessions.add(new HandedOver(ours, Buffer.from(head), Buffer.from(early)), { ...all, ...options });
      return client;
    },
  };
}

let generation = 0;
function start(
  sessions: Sessions,
  script: string,
  more: Partial<StdioOptions> = {},
): { stdio: Stdio; child: ChildProcess; end(): Promise<void> } {
  const stdio = new Stdio({
    run,
    key: String(++generation),
    tty: false,
    stdin: true,
    stdinOnce: true,
    log: null,
    ...more,
  });
  cleanup.push(() => stdio.close());
  stdio.prepare();
  const child = spawn('sh', ['-c', script], { stdio: stdio.childStdio() });
  cleanup.push(() => void child.kill('SIGKILL'));
  stdio.created([0, 0]);
  sessions.bind(stdio);
  stdio.start();
  return {
    stdio,
    child,
    /** Does what the shim does when the process dies. */
    async end() {
      await exited(child);
      await stdio.finish(1000);
      sessions.closeAll();
      stdio.close();
    },
  };
}
const logWriter = (more: { maxSize?: number; maxFile?: number } = {}): LogWriter => {
  const log = new LogWriter({
    driver: 'json-file',
    path: join(run, 'log'),
    maxSize: 0,
    maxFile: 1,
    attrs: {},
    ...more,
  });
  cleanup.push(() => log.close());
  return log;
};

describe('a client', () => {
  test('that attaches before the start gets the head at once, then every byte, and EOF only when all is closed', async () => {
    const { sessions, attach, events } = rig();
    const client = attach();
    await until(() => client.text === HEAD);
    const process = start(sessions, 'echo out; echo err >&2; sleep 0.1; printf end');
    await exited(process.child);
    await process.stdio.finish(1000);
    await sleep(30);
    expect(client.ended).toBe(false);
    sessions.closeAll();
    await until(() => client.ended);
    expect(client.frames).toEqual({ 1: 'out\nend', 2: 'err\n', rest: 0 });
    client.socket.end();
    await until(() => sessions.count === 0);
    expect(events).toEqual(['empty']);
  });

  test('gets the head in a packet of its own, even when output is waiting', async () => {
    const { sessions, attach } = rig({ log: true });
    const log = logWriter();
    log.write(1, Buffer.from('old\n'));
    const process = start(sessions, 'while :; do echo x; done', { log });
    for (let i = 0; i < 10; i++) {
      const client = attach({ logs: i % 2 === 0 });
      await until(() => client.packets.length > 1);
      expect(client.packets[0]!.toString()).toBe(HEAD);
      client.socket.destroy();
    }
    process.child.kill('SIGKILL');
  });

  test('over TCP is served', async () => {
    const { sessions } = rig();
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    cleanup.push(() => server.close());
    const accepted = new Promise<number>((resolve) =>
      server.once('connection', (socket) => {
        const fd = duplicate((socket as unknown as { _handle: { fd: number } })._handle.fd);
        socket.destroy();
        resolve(fd);
      }),
    );
    const client = new Client(
      connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true }),
    );
    sessions.add(new HandedOver(await accepted, Buffer.from(HEAD), Buffer.alloc(0)), all);
    const process = start(sessions, 'cat');
    client.socket.end('over tcp\n');
    await process.end();
    await until(() => client.ended);
    expect(client.frames[1]).toBe('over tcp\n');
  });

  test('that wants one stream gets only that', async () => {
    const { sessions, attach } = rig();
    const [out, err] = [attach({ stderr: false }), attach({ stdout: false })];
    await start(sessions, 'echo out; echo err >&2').end();
    await until(() => out.ended && err.ended);
    expect([out.frames, err.frames]).toEqual([
      { 1: 'out\n', 2: '', rest: 0 },
      { 1: '', 2: 'err\n', rest: 0 },
    ]);
  });

  test('without framing gets raw output', async () => {
    const { sessions, attach } = rig();
    const client = attach({ framed: false });
    await start(sessions, 'echo out').end();
    await until(() => client.ended);
    expect(client.text).toBe(`${HEAD}out\n`);
  });

  test('that wants neither stream nor logs is closed at once', async () => {
    const client = rig().attach({ stream: false });
    await until(() => client.ended);
    expect(client.text).toBe(HEAD);
  });

  test('shares the output with others', async () => {
    const { sessions, attach } = rig();
    const clients = [attach(), attach(), attach({ framed: false })];
    await start(sessions, 'seq 1 20000').end();
    await until(() => clients.every((c) => c.ended));
    const expected = Array.from({ length: 20000 }, (_, i) => `${i + 1}\n`).join('');
    expect(clients[0]!.frames[1]).toBe(expected);
    expect(clients[1]!.frames[1]).toBe(expected);
    expect(clients[2]!.text).toBe(HEAD + expected);
  });

  test('that dies is forgotten without affecting others', async () => {
    const { sessions, attach } = rig();
    const [dying, living] = [attach(), attach({ stdin: false })];
    const process = start(sessions, 'i=0; while [ $i -lt 50 ]; do echo $i; sleep 0.01; i=$((i+1)); done');
    await until(() => dying.bytes.length > HEAD.length);
    dying.socket.destroy();
    await process.end();
    await until(() => living.ended);
    expect(living.frames[1].split('\n')).toHaveLength(51);
  });

  test('of one generation gets nothing of the next', async () => {
    const { sessions, attach } = rig();
    const first = attach();
    await start(sessions, 'echo one').end();
    const second = attach();
    await start(sessions, 'echo two').end();
    await until(() => first.ended && second.ended);
    expect([first.frames[1], second.frames[1]]).toEqual(['one\n', 'two\n']);
  });

  test('is told why an exec did not start', async () => {
    const { sessions, attach } = rig();
    const client = attach();
    sessions.say('exec failed\r\n');
    sessions.closeAll();
    await until(() => client.ended);
    expect(client.frames).toEqual({ 1: 'exec failed\r\n', 2: '', rest: 0 });
  });
});

describe('stdin', () => {
  test('starts with early bytes; a half-close is EOF, and output continues', async () => {
    const { sessions, attach } = rig();
    const client = attach({}, { early: 'early ' });
    const process = start(sessions, 'cat; sleep 0.1; echo bye');
    client.socket.end('late\n');
    await process.end();
    await until(() => client.ended);
    expect(client.frames[1]).toBe('early late\nbye\n');
  });

  test('sent before the start is kept, with its EOF', async () => {
    const { sessions, attach } = rig();
    const client = attach();
    client.socket.end('x'.repeat(300_000));
    await sleep(50);
    await start(sessions, 'wc -c').end();
    await until(() => client.ended);
    expect(client.frames[1].trim()).toBe('300000');
  });

  test('of 10 MB reaches a slow reader without losing a byte', async () => {
    const { sessions, attach } = rig();
    const client = attach();
    const process = start(sessions, 'sleep 0.2; sha1sum');
    client.socket.end(Buffer.alloc(10_000_000, 'abcdefg'));
    await process.end();
    await until(() => client.ended);
    const { createHash } = await import('node:crypto');
    expect(client.frames[1].slice(0, 40)).toBe(
      createHash('sha1').update(Buffer.alloc(10_000_000, 'abcdefg')).digest('hex'),
    );
  });

  test('without StdinOnce: a half-close ends the client, not stdin', async () => {
    const { sessions, attach } = rig();
    const process = start(sessions, 'while read x; do echo got $x; done; echo eof', { stdinOnce: false });
    const first = attach();
    first.socket.end('one\n');
    await until(() => first.ended);
    const second = attach();
    second.socket.write('two\n');
    await until(() => second.frames[1] === 'got two\n' || second.frames[1] === 'got one\ngot two\n');
    expect(process.child.exitCode).toBe(null);
  });

  test('is ignored when the process has none, as is a half-close then', async () => {
    const { sessions, attach } = rig();
    const client = attach();
    client.socket.end('ignored\n');
    await start(sessions, 'sleep 0.1; cat; echo done', { stdin: false }).end();
    await until(() => client.ended);
    expect(client.frames[1]).toBe('done\n');
  });

  test('of a client attached without it is ignored; the client may half-close and keep listening', async () => {
    const { sessions, attach } = rig();
    const client = attach({ stdin: false });
    client.socket.end('ignored\n');
    const process = start(sessions, 'read x; echo got $x');
    await sleep(50);
    attach().socket.write('right\n');
    await process.end();
    await until(() => client.ended);
    expect(client.frames[1]).toBe('got right\n');
  });

  test('with StdinOnce ends when its client dies', async () => {
    const { sessions, attach } = rig();
    const process = start(sessions, 'cat >/dev/null');
    const client = attach();
    await until(() => client.text === HEAD);
    client.socket.destroy();
    await process.end();
  });
});

describe('logs of earlier output', () => {
  const lines = (from: number, to: number): string =>
    Array.from({ length: to - from }, (_, i) => `line ${from + i}\n`).join('');

  test('alone are replayed for the requested streams, then the client is closed', async () => {
    const log = logWriter();
    log.write(1, Buffer.from('out 1\nout 2\n'));
    log.write(2, Buffer.from('err\n'));
    log.write(1, Buffer.from('rest'));
    log.flush();
    const { attach } = rig({ log: true });
    const [both, one] = [attach({ stream: false, logs: true }), attach({ stream: false, logs: true, stdout: false })];
    await until(() => both.ended && one.ended);
    expect(both.frames).toEqual({ 1: 'out 1\nout 2\nrest', 2: 'err\n', rest: 0 });
    expect(one.frames).toEqual({ 1: '', 2: 'err\n', rest: 0 });
  });

  test('that do not exist yet close the client at once', async () => {
    const client = rig({ log: true }).attach({ stream: false, logs: true });
    await until(() => client.ended);
    expect(client.text).toBe(HEAD);
  });

  test('that cannot be read give a message', async () => {
    const client = rig().attach({ logs: true });
    await until(() => client.ended);
    expect(client.frames[1]).toBe('Error attaching: configured logging driver does not support reading\n');
  });

  test('of a running process connect to live output without gap or duplicate, partial lines included', async () => {
    const { sessions, attach } = rig({ log: true });
    const log = logWriter({ maxSize: 20_000, maxFile: 100 });
    const process = start(sessions, 'i=0; while [ $i -lt 3000 ]; do printf "%s" "line "; echo $i; i=$((i+1)); done', {
      log,
    });
    const clients: Client[] = [];
    for (let i = 0; i < 20; i++) {
      clients.push(attach({ logs: true, stdin: false }));
      await sleep(3);
    }
    await process.end();
    await until(() => clients.every((c) => c.ended));
    for (const client of clients) expect(client.frames[1]).toBe(lines(0, 3000));
  });

  test('of the last generation come first, then live output of the next', async () => {
    const { sessions, attach } = rig({ log: true });
    const log = logWriter();
    await start(sessions, 'echo one; printf half', { log }).end();
    const client = attach({ logs: true });
    await until(() => client.frames[1] === 'one\nhalf');
    await start(sessions, 'echo two', { log }).end();
    await until(() => client.ended);
    expect(client.frames[1]).toBe('one\nhalftwo\n');
  });
});

describe('a slow client', () => {
  const many =
    'i=0; while [ $i -lt 300 ]; do head -c 30000 /dev/zero | tr "\\0" "a"; echo; echo $i; i=$((i+1)); done; echo over >&2';
  const expected = Array.from({ length: 300 }, (_, i) => `${'a'.repeat(30000)}\n${i}\n`).join('');

  test('of an attach is fed from the log: it delays no one and misses nothing [client-slow]', async () => {
    const { sessions, attach } = rig({ log: true });
    const [slow, quick] = [attach({ stdin: false }, { reading: false }), attach({ stdin: false })];
    const process = start(sessions, many, { log: logWriter({ maxSize: 1_000_000, maxFile: 50 }) });
    await process.end();
    await until(() => quick.ended);
    expect(quick.frames[1] === expected).toBe(true);
    expect(sessions.count).toBeGreaterThan(0);
    slow.read();
    await until(() => slow.ended);
    expect(slow.frames[1] === expected).toBe(true);
    expect(slow.frames[2]).toBe('over\n');
  });

  test('may fall behind and catch up repeatedly', async () => {
    const { sessions, attach } = rig({ log: true });
    const client = attach({ stdin: false }, { reading: false });
    const process = start(sessions, many, { log: logWriter() });
    let reading = true;
    client.read();
    const toggle = setInterval(() => {
      reading = !reading;
      if (reading) client.socket.resume();
      else client.socket.pause();
    }, 7);
    await process.end();
    clearInterval(toggle);
    client.socket.resume();
    await until(() => client.ended);
    expect(client.frames[1] === expected).toBe(true);
  });

  test('gets binary output exactly: the log cannot replace it, so the process waits', async () => {
    const { sessions, attach } = rig({ log: true });
    const client = attach({ stdin: false }, { reading: false });
    const process = start(
      sessions,
      `${many.replace('30000', '3000')}; head -c 20000000 /dev/urandom | tee ${run}/sent`,
      { log: logWriter() },
    );
    await sleep(500);
    expect(process.child.exitCode).toBe(null);
    client.read();
    await process.end();
    await until(() => client.ended);
    const { 1: out } = unframeBytes(client.bytes.subarray(HEAD.length));
    expect(out.subarray(-20_000_000).equals(readFileSync(join(run, 'sent')))).toBe(true);
    expect(out.length).toBe(20_000_000 + expected.length - 300 * 27000);
  });

  test('of an exec delays that exec and loses nothing', async () => {
    const { sessions, attach } = rig();
    const client = attach({ stdin: false }, { reading: false });
    const process = start(sessions, many);
    await sleep(400);
    expect(process.child.exitCode).toBe(null);
    client.read();
    await process.end();
    await until(() => client.ended);
    expect(client.frames[1] === expected).toBe(true);
  });

  test('that reads nothing at all is dropped, and the exec continues [client-stuck]', async () => {
    const { sessions, attach } = rig({ slowClientMs: 200 });
    attach({ stdin: false }, { reading: false });
    const process = start(sessions, `${many}; touch ${run}/done`);
    await until(() => sessions.count === 0);
    await exited(process.child);
    expect(existsSync(join(run, 'done'))).toBe(true);
  });

  test('that reads a little now and then is not dropped', async () => {
    const { sessions, attach } = rig({ slowClientMs: 1000 });
    const client = attach({ stdin: false }, { reading: false });
    const process = start(sessions, many);
    client.socket.pause();
    for (let i = 0; i < 30; i++) {
      await sleep(60);
      for (let k = 0; k < 8; k++) {
        const bytes = client.socket.read() as Buffer | null;
        if (bytes) client.packets.push(bytes);
      }
    }
    expect(sessions.count).toBe(1);
    client.read().socket.resume();
    await process.end();
    await until(() => client.ended);
    expect(client.frames[1] === expected).toBe(true);
  });

  test('is dropped after the end of the process', async () => {
    const { sessions, attach, options } = rig({ log: true });
    attach({ stdin: false }, { reading: false });
    await start(sessions, many, { log: logWriter() }).end();
    expect(sessions.count).toBe(1);
    // The timeout is shortened only now, however long the process took to end.
    options.slowClientMs = 100;
    await until(() => sessions.count === 0, 30_000);
  });
});
