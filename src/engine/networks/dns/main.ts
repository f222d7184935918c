/**
 * The DNS server of user-defined networks: one process per daemon, which works without it. It listens on the bridges'
 * own addresses, knows the asking container by its address, and answers from the tables in its directory (argument 1);
 * argument 2 is the hash of its bundle.
 *
 * A server that finds another one at work takes its place: the other hands over the questions that it has read and not
 * answered, the sockets stay open all the time.
 */
import { readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Serial } from '../../../async/serial.ts';
import { LineSplitter } from '../../../protocol/lines.ts';
import { tryLock, type Lock } from '../../../sys/file.ts';
import { kill, SIGKILL } from '../../../sys/process.ts';
import { listenerPid } from '../../../sys/socket.ts';
import { HostServers } from './host-servers.ts';
import { KeptSockets } from './kept-sockets.ts';
import { Service } from './service.ts';
import {
  DNS_FILES,
  type DnsHello,
  type DnsReloaded,
  type DnsRequest,
  type DnsRetired,
  type DnsTables,
} from './tables.ts';

/** How long a server that has nothing to answer waits for new tables. */
const IDLE_MS = 10_000;
/** How long the server before has for its answer. One that is frozen is killed. */
const RETIRE_MS = 5_000;
const LOCK_MS = 20_000;
/** How long connections of clients outlive the retirement: longer than an upstream server has for its answer. */
const LINGER_MS = 10_000;
const STEP_MS = 5;
/** A socket that could not be opened is tried again. */
const REOPEN_MS = 2_000;
const MAX_LOGGED = 100;
const NO_TABLES: DnsTables = { version: 1, networks: [], containers: [] };

const [directory, bundle] = process.argv.slice(2) as [string, string];
const path = (file: keyof typeof DNS_FILES): string => join(directory, DNS_FILES[file]);

const sockets = new KeptSockets(directory);
const service = new Service(sockets, new HostServers('/etc/resolv.conf'));
const daemons = new Set<Socket>();
const updates = new Serial();
let lock: Lock | undefined;
let idle: NodeJS.Timeout | undefined;
let reopening: NodeJS.Timeout | undefined;
let retired = false;
let logged = 0;

process.title = `holdfast-dns ${directory}`;
for (const signal of ['SIGHUP', 'SIGINT', 'SIGPIPE'] as const) process.on(signal, () => undefined);
// A bug in one answer must not end the others.
for (const event of ['uncaughtException', 'unhandledRejection'] as const)
  process.on(event, (error) => {
    if (logged++ < MAX_LOGGED) console.error(new Date().toISOString(), error);
  });

const control = createServer(serveDaemon);
void begin().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});

async function begin(): Promise<void> {
  const inherited = await retirePredecessor();
  lock = await takeLock();
  if (!lock) process.exit(1);
  sockets.takeOver();
  await updates.run(reload);
  service.adopt(inherited);
  rmSync(path('control'), { force: true });
  control.listen(path('control'));
}

/** @returns what it has not answered */
async function retirePredecessor(): Promise<DnsRetired> {
  const pid = runningServer();
  if (pid === undefined) return { unanswered: [] };
  const answer = await askToRetire();
  // Still the same process: its socket is at the path.
  if (!answer && runningServer() === pid) kill(pid, SIGKILL);
  return answer ?? { unanswered: [] };
}

/** Its pid, even if it does not answer. */
function runningServer(): number | undefined {
  try {
    return listenerPid(path('control'));
  } catch {
    return undefined;
  }
}

function askToRetire(): Promise<DnsRetired | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path('control'));
    const lines = new LineSplitter();
    const settle = (answer: DnsRetired | undefined): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => settle(undefined), RETIRE_MS);
    socket.on('error', () => settle(undefined));
    socket.on('close', () => settle(undefined));
    socket.on('data', (chunk) => {
      for (const line of lines.push(chunk)) {
        const message = JSON.parse(line) as DnsHello | DnsRetired;
        if ('unanswered' in message) settle(message);
      }
    });
    socket.write(`${JSON.stringify({ op: 'retire' } satisfies DnsRequest)}\n`);
  });
}

async function takeLock(): Promise<Lock | undefined> {
  const deadline = performance.now() + LOCK_MS;
  while (performance.now() < deadline) {
    const taken = tryLock(path('lock'));
    if (taken) return taken;
    await delay(STEP_MS);
  }
  return undefined;
}

function serveDaemon(socket: Socket): void {
  const lines = new LineSplitter();
  daemons.add(socket);
  socket.on('error', () => socket.destroy());
  socket.on('close', () => {
    daemons.delete(socket);
    if (daemons.size === 0 && service.isIdle && !retired) exit();
  });
  socket.on('data', (chunk) => {
    for (const line of lines.push(chunk)) void updates.run(() => obey(socket, JSON.parse(line) as DnsRequest));
  });
  send(socket, { op: 'hello', pid: process.pid, bundle });
}

function send(socket: Socket, message: DnsHello | DnsReloaded | DnsRetired): void {
  if (!socket.destroyed) socket.write(`${JSON.stringify(message)}\n`);
}

async function obey(socket: Socket, { op }: DnsRequest): Promise<void> {
  if (retired) return;
  if (op === 'retire') retire(socket);
  else send(socket, { failed: await reload().catch((error: unknown) => [String(error)]) });
}

async function reload(): Promise<string[]> {
  clearTimeout(idle);
  clearTimeout(reopening);
  const failed = await service.use(readTables());
  if (service.isIdle) idle = setTimeout(exit, IDLE_MS);
  if (failed.length > 0) reopening = setTimeout(() => void updates.run(reload), REOPEN_MS);
  return failed;
}

function readTables(): DnsTables {
  try {
    return JSON.parse(readFileSync(path('tables'), 'utf8')) as DnsTables;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return NO_TABLES;
    throw error;
  }
}

/** The successor owns sockets and files from here on; only questions by TCP are still answered. */
function retire(successor: Socket): void {
  retired = true;
  clearTimeout(idle);
  clearTimeout(reopening);
  sockets.handOver();
  send(successor, service.retire());
  lock?.release();
  control.close();
  for (const socket of daemons) if (socket !== successor) socket.destroy();
  setTimeout(() => process.exit(0), LINGER_MS);
  setInterval(() => service.connections === 0 && daemons.size === 0 && process.exit(0), STEP_MS);
}

function exit(): void {
  if (retired) return;
  sockets.end();
  rmSync(path('control'), { force: true });
  process.exit(0);
}
