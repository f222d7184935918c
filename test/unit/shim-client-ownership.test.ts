/** Descriptors of handed-over clients: none stays open when the shim refuses the operation. */
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LineSplitter } from '../../src/protocol/lines.ts';
import type { AttachOptions, Reply } from '../../src/protocol/messages.ts';
import { Client } from '../../src/shim/clients.ts';
import { Container } from '../../src/shim/container.ts';
import { Journal } from '../../src/shim/journal.ts';
import { Reaper } from '../../src/shim/reaper.ts';
import { Server } from '../../src/shim/server.ts';
import { deliverFd, socketPair } from '../../src/sys/socket.ts';

const OPTIONS: AttachOptions = {
  stdin: false,
  stdout: true,
  stderr: true,
  stream: true,
  logs: false,
  framed: true,
  detachKeys: [],
};
const EXEC = {
  id: 'e'.repeat(64),
  tty: false,
  consoleSize: [0, 0],
  attachStdin: false,
  attachStdout: true,
  attachStderr: true,
  process: {},
  detachKeys: [],
};

let base = '';
let passengerPath = '';
let journal: Journal;
let server: Server;
let ctl: Socket;
beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), 'ho-'));
  const [dir, run] = [join(base, 'd'), join(base, 'r')];
  mkdirSync(dir);
  mkdirSync(run);
  passengerPath = join(base, 'passenger');
  writeFileSync(passengerPath, '');
  journal = new Journal(join(dir, 'journal'), 'boot');
  const logError = (): void => undefined;
  const deps = { id: 'c', dir, run, boot: 'boot', journal, reaper: new Reaper(), daemonLives: () => false, logError };
  const container = new Container(deps);
  server = new Server({ id: 'c', container, journal, bundle: 'test', onRelease: () => undefined, logError });
  await server.listen(run);
  ctl = connect(join(run, 'ctl'));
  await new Promise((resolve) => ctl.once('connect', resolve));
});
afterEach(() => {
  ctl.destroy();
  server.close(join(base, 'r'));
  journal.close();
  rmSync(base, { recursive: true });
});

/** Hands over a descriptor that cannot be a socket, so that opening it fails. */
function handOver(token: string): { token: string; head: string; early: string } {
  const passenger = openSync(passengerPath, 'r');
  deliverFd(join(base, 'r/fd'), Buffer.from(token), passenger);
  closeSync(passenger);
  return { token, head: '', early: '' };
}

function request(body: object): Promise<Reply> {
  const splitter = new LineSplitter();
  return new Promise((resolve) => {
    ctl.on('data', (chunk: Buffer) => {
      for (const line of splitter.push(chunk)) {
        const message = JSON.parse(line) as Reply | { ring: number };
        if ('id' in message) resolve(message);
      }
    });
    ctl.write(`${JSON.stringify({ id: 1, ...body })}\n`);
  });
}

function isOpen(path: string): boolean {
  return readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false; // The directory's own descriptor.
    }
  });
}

test('an exec that is refused closes its client', async () => {
  const reply = await request({ op: 'exec', exec: EXEC, client: handOver('t'), options: OPTIONS });
  expect(reply).toEqual({ id: 1, error: { kind: 'conflict', message: 'container c is not running' } });
  expect(isOpen(passengerPath)).toBe(false);
});

test.each([
  ['attach', { op: 'attach', options: OPTIONS }],
  ['attach with malformed options', { op: 'attach', options: {} }],
  ['wait', { op: 'wait', condition: 'next-exit' }],
])('%s that fails closes its client', async (_, body) => {
  const reply = await request({ ...body, client: handOver('t') });
  expect(reply).toMatchObject({ error: { kind: 'failed' } });
  expect(isOpen(passengerPath)).toBe(false);
});

test('a client that was not opened is closed once', () => {
  const [ours, theirs] = socketPair();
  closeSync(theirs);
  const client = new Client(ours, Buffer.alloc(0), Buffer.alloc(0));
  client[Symbol.dispose]();
  client[Symbol.dispose]();
  expect(() => closeSync(ours)).toThrow('EBADF');
  expect(() => client.open()).toThrow('open or closed already');
});

test('an opened client belongs to its socket', async () => {
  const [ours, theirs] = socketPair();
  const client = new Client(ours, Buffer.alloc(0), Buffer.alloc(0));
  const socket = client.open();
  client[Symbol.dispose]();
  const received = new Promise((resolve) => socket.once('data', resolve));
  writeFileSync(theirs, 'x');
  expect(String(await received)).toBe('x');
  closeSync(theirs);
  await new Promise((resolve) => socket.destroy().once('close', resolve));
});
