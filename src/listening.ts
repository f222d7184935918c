/**
 * The API's listening sockets. Where systemd does not hold them (fd://), a tiny process does: it inherits the
 * descriptors
 * and sleeps, so that connections queue while no daemon lives, and the socket keeps its inode over any number of
 * daemons.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { makeNonBlocking } from './sys/file.ts';
import type { Fd } from './sys/libc.ts';
import { isAlive, kill, pidfdGetfd, pidfdOpen, procStat, SIGKILL } from './sys/process.ts';
import { isListening, listenUnix } from './sys/socket.ts';

/** As dockerd's; the kernel clamps it to somaxconn. */
const BACKLOG = 4096;
/** docker.sock's mode: root and its group. */
const MODE = 0o660;
/** systemd's first passed descriptor. sd_listen_fds(3). */
const FIRST_FD = 3;

interface Holder {
  pid: number;
  startTime: string;
  sockets: { path: string; inode: number }[];
}

export interface Listening {
  fds: Fd[];
  /** A clean end: nobody serves any more, so the sockets go. After a crash they stay, held. */
  release(): void;
}

/** @throws when another server listens on one of the paths, or a host is of a kind that is not served */
export function openListeners(hosts: readonly string[], execRoot: string, group: string): Listening {
  const passed = hosts.some((h) => h.startsWith('fd://')) ? passedBySystemd() : [];
  const paths = hosts.filter((h) => !h.startsWith('fd://')).map(unixPath);
  if (paths.length === 0) return { fds: passed, release: () => undefined };
  const record = join(execRoot, 'listener.json');
  const taken = takeOver(record, paths);
  if (taken) return { fds: [...passed, ...taken], release: () => discard(record) };
  discard(record);
  const fds = paths.map((path) => open(path, group));
  hold(record, paths, fds);
  return { fds: [...passed, ...fds], release: () => discard(record) };
}

function unixPath(host: string): string {
  if (!host.startsWith('unix://')) throw new Error(`cannot listen on ${host}: only unix:// and fd:// are served`);
  return host.slice('unix://'.length);
}

function passedBySystemd(): Fd[] {
  if (process.env.LISTEN_PID !== String(process.pid))
    throw new Error('fd:// was asked for, but no socket was passed (LISTEN_PID)');
  return Array.from({ length: Number(process.env.LISTEN_FDS ?? 0) }, (_, i) => FIRST_FD + i);
}

function open(path: string, group: string): Fd {
  if (isListening(path)) throw new Error(`another server listens on ${path}`);
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  const fd = listenUnix(path, BACKLOG);
  chmodSync(path, MODE);
  const gid = group === '' ? undefined : groupId(group);
  if (gid !== undefined) chownSync(path, 0, gid);
  return fd;
}

/** By number, or by name in /etc/group. @throws when there is no such group */
function groupId(group: string): number {
  if (/^\d+$/.test(group)) return Number(group);
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((l) => l.startsWith(`${group}:`));
  if (!line) throw new Error(`group ${group} does not exist`);
  return Number(line.split(':')[2]);
}

function hold(record: string, paths: string[], fds: Fd[]): void {
  const child = spawn('sleep', ['infinity'], {
    argv0: 'holdfast-listener',
    detached: true,
    cwd: '/',
    env: {},
    stdio: ['ignore', 'ignore', 'ignore', ...fds],
  });
  child.on('error', () => undefined);
  child.unref();
  if (child.pid === undefined) return; // Without a holder the daemon serves all the same; only its death is noticed.
  const holder: Holder = {
    pid: child.pid,
    startTime: procStat(child.pid)?.startTime ?? '',
    sockets: paths.map((path) => ({ path, inode: statSync(path).ino })),
  };
  writeFileSync(`${record}.new`, JSON.stringify(holder), { mode: 0o600 });
  renameSync(`${record}.new`, record);
}

function readHolder(record: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(record, 'utf8')) as Holder;
  } catch {
    return undefined;
  }
}

// The sockets of the daemon before this one, if they are still what the paths name.
function takeOver(record: string, paths: string[]): Fd[] | undefined {
  const holder = readHolder(record);
  if (!holder || !isAlive(holder.pid, holder.startTime)) return undefined;
  const same =
    paths.length === holder.sockets.length &&
    holder.sockets.every((s, i) => s.path === paths[i] && inodeOf(s.path) === s.inode);
  if (!same) return undefined;
  const pidfd = pidfdOpen(holder.pid);
  try {
    return paths.map((_, i) => {
      const fd = pidfdGetfd(pidfd, FIRST_FD + i);
      makeNonBlocking(fd);
      return fd;
    });
  } finally {
    closeSync(pidfd);
  }
}

const inodeOf = (path: string): number => {
  try {
    return statSync(path).ino;
  } catch {
    return -1;
  }
};

function discard(record: string): void {
  const holder = readHolder(record);
  if (!holder) return;
  for (const { path, inode } of holder.sockets) if (inodeOf(path) === inode) rmSync(path, { force: true });
  if (isAlive(holder.pid, holder.startTime)) kill(holder.pid, SIGKILL);
  rmSync(record, { force: true });
}
