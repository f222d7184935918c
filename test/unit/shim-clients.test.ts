/** Connections handed over to a shim are matched with the commands that name them, in whatever order both arrive. */
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Clients } from '../../src/shim/clients.ts';
import { deliverFd, listenUnix, sendFds } from '../../src/sys/socket.ts';

let directory = '';
let path = '';
let clients: Clients;
let passenger = 0;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'hc-'));
  path = join(directory, 'fd');
  clients = new Clients(listenUnix(path, 16), () => true);
  passenger = openSync('/dev/null', 'r');
});
afterEach(() => {
  clients.close();
  closeSync(passenger);
  rmSync(directory, { recursive: true });
});

const claim = (token: string): boolean => {
  using client = clients.claim({ token, head: '', early: '' });
  return client !== undefined;
};
const connected = (): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket)).on('error', reject);
  });
const fdOf = (socket: Socket): number => (socket as unknown as { _handle: { fd: number } })._handle.fd;

test('each connection is claimed by its token, in any order, once', () => {
  for (const token of ['a', 'b', 'c']) deliverFd(path, Buffer.from(token), passenger);
  expect([claim('b'), claim('a'), claim('x'), claim('b'), claim('c')]).toEqual([true, true, false, false, true]);
});

test('a connection that has not sent its token yet survives the claim of another', async () => {
  const late = await connected();
  deliverFd(path, Buffer.from('other'), passenger);
  expect(claim('other')).toBe(true);
  sendFds(fdOf(late), Buffer.from('late'), [passenger]);
  late.destroy();
  expect(claim('late')).toBe(true);
});

test('a connection whose sender died is dropped, and unclaimed ones are closed', async () => {
  const dying = await connected();
  expect(claim('nobody')).toBe(false);
  dying.destroy();
  await new Promise((resolve) => dying.once('close', resolve));
  deliverFd(path, Buffer.from('unnamed'), passenger);
  clients.dropUnclaimed();
  expect([claim('unnamed'), fstatSync(passenger).isCharacterDevice()]).toEqual([false, true]);
});
