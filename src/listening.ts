/**
 * The API's listening sockets. Unless systemd passes them (fd://), a `sleep` process inherits and holds them: while no
 * daemon runs, connections queue instead of being refused, and the socket file keeps its inode across daemons, so that
 * it can be bind-mounted into a container. This holds after SIGTERM too, because a restart begins with it.
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
import {
  bootId,
  isNotedAlive,
  kill,
  pidfdGetfd,
  pidfdOpen,
  procStat,
  SIGKILL,
  type NotedProcess,
} from './sys/process.ts';
import { isListening, listenUnix } from './sys/socket.ts';

/** Like dockerd's. The kernel clamps it to somaxconn. */
const BACKLOG = 4096;
/** Like docker.sock: root and the socket's group. */
const SOCKET_MODE = 0o660;
/** The first descriptor that systemd passes, and that the holder inherits. sd_listen_fds(3) */
const FIRST_FD = 3;

/** The process that holds the sockets, as recorded in listener.json. */
interface Holder extends NotedProcess {
  sockets: { path: string; inode: number }[];
}

export interface Listening {
  fds: Fd[];
  /** For an end that no start follows: removes the sockets and ends their holder. */
  discard(): void;
}

/** @throws when another server listens on one of the paths, or a host is neither unix:// nor fd:// */
export function openListeners(hosts: readonly string[], execRoot: string, group: string): Listening {
  const passed = hosts.some((h) => h.startsWith('fd://')) ? passedBySystemd() : [];
  const paths = hosts.filter((h) => !h.startsWith('fd://')).map(unixPath);
  if (paths.length === 0) return { fds: passed, discard: () => undefined };
  const record = join(execRoot, 'listener.json');
  const kept = takeFromHolder(record, paths);
  if (!kept) discardHeld(record);
  const fds = kept ?? paths.map((path) => open(path, group));
  if (!kept) startHolder(record, paths, fds);
  return { fds: [...passed, ...fds], discard: () => discardHeld(record) };
}

function unixPath(host: string): string {
  if (!host.startsWith('unix://')) throw new Error(`cannot listen on ${host}: only unix:// and fd:// are served`);
  return host.slice('unix://'.length);
}

function passedBySystemd(): Fd[] {
  if (process.env.LISTEN_PID !== String(process.pid))
    throw new Error('fd:// needs a socket passed by systemd, and there is none (LISTEN_PID)');
  return Array.from({ length: Number(process.env.LISTEN_FDS ?? 0) }, (_, i) => FIRST_FD + i);
}

function open(path: string, group: string): Fd {
  if (isListening(path)) throw new Error(`another server listens on ${path}`);
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  const fd = listenUnix(path, BACKLOG);
  chmodSync(path, SOCKET_MODE);
  const gid = group === '' ? undefined : groupId(group);
  if (gid !== undefined) chownSync(path, 0, gid);
  return fd;
}

/** @param group a number, or a name in /etc/group. @throws when it does not exist */
function groupId(group: string): number {
  if (/^\d+$/.test(group)) return Number(group);
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((l) => l.startsWith(`${group}:`));
  if (!line) throw new Error(`group ${group} does not exist`);
  return Number(line.split(':')[2]);
}

function startHolder(record: string, paths: string[], fds: Fd[]): void {
  const child = spawn('sleep', ['infinity'], {
    argv0: 'holdfast-listener',
    detached: true,
    cwd: '/',
    env: {},
    stdio: ['ignore', 'ignore', 'ignore', ...fds],
  });
  child.on('error', () => undefined);
  child.unref();
  // Without a holder the daemon works too, but clients notice when it dies.
  if (child.pid === undefined) return;
  const holder: Holder = {
    pid: child.pid,
    startTime: procStat(child.pid)?.startTime ?? '',
    boot: bootId(),
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

/** The sockets of the previous daemon, if they are still the ones at these paths. */
function takeFromHolder(record: string, paths: string[]): Fd[] | undefined {
  const holder = readHolder(record);
  if (!holder || !isNotedAlive(holder)) return undefined;
  const unchanged =
    paths.length === holder.sockets.length &&
    holder.sockets.every((s, i) => s.path === paths[i] && inodeOf(s.path) === s.inode);
  if (!unchanged) return undefined;
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

/** Removes the recorded sockets and ends their holder. */
function discardHeld(record: string): void {
  const holder = readHolder(record);
  if (!holder) return;
  for (const { path, inode } of holder.sockets) if (inodeOf(path) === inode) rmSync(path, { force: true });
  if (isNotedAlive(holder)) kill(holder.pid, SIGKILL);
  rmSync(record, { force: true });
}
