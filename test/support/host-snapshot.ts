/**
 * Lists what Holdfast's engines have on this host: mounts, namespaces, links, cgroups, firewall rules, processes,
 * listening ports and roots, one line each.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { namesFor } from '../../src/config/names.ts';

/** A test's engine, identified by the names that everything of it carries. */
export interface Owner {
  root: string;
  /** Part of the names of its cgroup, bridge and tables. */
  instance: string;
  /** Bridges of its user-defined networks. */
  links: Set<string>;
}

/** `machine`: all engines on this host, for a test run that has the host to itself. */
export type Scope = readonly Owner[] | 'machine';

/** The engines of this test file's process. */
export const owners: Owner[] = [];

const CGROUPS = '/sys/fs/cgroup';
const PINS = '/run/netns';
const ROOTS = '/tmp';
const OURS =
  /holdfast-shim|holdfast-keeper|holdfast-listener|holdfast-ports|holdfast-dns|holdfastd|port-proxy|dns-server/;
/** Belongs to a dockerd on this host or to bench/peer-dockerd. */
const PEERS = /docker|containerd|peer|\bhfp\d+/;

export function ownerOf(root: string): Owner {
  return { root, instance: namesFor(join(root, 'data'), join(root, 'run')).instance, links: new Set() };
}

/** Lines such as `cgroup memory/holdfast-1a2b3c4d`, of the engines in `scope` only. */
export function snapshot(scope: Scope): string[] {
  const isOurs = (text: string): boolean =>
    scope === 'machine' ? !PEERS.test(text) : scope.some((owner) => belongs(text, owner));
  const processes = processesOf(scope);
  return [
    ...mounts()
      .filter(isOurs)
      .map((line) => `mount ${line}`),
    ...list(PINS)
      .filter((name) => isOurs(name) || new RegExp(`^hf\\D*${process.pid}$`).test(name))
      .map((name) => `netns ${name}`),
    ...output('ip', '-o', 'link')
      .split('\n')
      .map((line) => /^\d+: (.*)/.exec(line)?.[1] ?? '')
      .filter((line) => line !== '' && isOurs(line))
      .map((line) => `link ${line.split(':')[0]}`),
    ...cgroups()
      .filter(isOurs)
      .map((path) => `cgroup ${path}`),
    ...output('nft', 'list', 'tables')
      .split('\n')
      .filter((line) => line.includes('holdfast') && isOurs(line)),
    ...['iptables', 'ip6tables'].flatMap((command) =>
      output(command, '-S')
        .split('\n')
        .filter((line) => line.startsWith('-A') && isOurs(line))
        .map((line) => `${command} ${line}`),
    ),
    ...processes.map(({ pid, title }) => `process ${pid} ${title}`),
    ...listening(new Set(processes.map(({ pid }) => pid))),
    ...list(ROOTS)
      .filter((name) => name.startsWith('hf-'))
      .map((name) => join(ROOTS, name))
      .filter(isOurs)
      .map((path) => `root ${path}`),
  ].sort();
}

/** Lines of `after` that are not in `before`. */
export const remains = (before: readonly string[], after: readonly string[]): string[] =>
  after.filter((line) => !before.includes(line));

/** Pids of an engine's processes, without zombies. */
export const pidsOf = (owner: Owner): number[] => processesOf([owner]).map(({ pid }) => pid);

function belongs(text: string, { root, instance, links }: Owner): boolean {
  const words = text.split(/[^\w./-]+/);
  return (
    words.some((word) => word === root || word.startsWith(`${root}/`) || links.has(word)) || text.includes(instance)
  );
}

// Mount points, including those that pin namespaces.
const mounts = (): string[] =>
  readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter(Boolean);

/** Our cgroups in all hierarchies and two levels below. Deeper ones belong to the containers. */
function cgroups(): string[] {
  return ['', ...list(CGROUPS)].flatMap((hierarchy) =>
    list(join(CGROUPS, hierarchy))
      .filter((name) => name.startsWith('holdfast'))
      .flatMap((name) => below(join(hierarchy, name), 2)),
  );
}

const below = (path: string, depth: number): string[] =>
  existsSync(join(CGROUPS, path, 'cgroup.procs'))
    ? [path, ...(depth === 0 ? [] : list(join(CGROUPS, path)).flatMap((name) => below(join(path, name), depth - 1)))]
    : [];

interface Running {
  pid: number;
  title: string;
}

function processesOf(scope: Scope): Running[] {
  const sockets = new Map(
    readFileSync('/proc/net/unix', 'latin1')
      .split('\n')
      .map((line): [string, string] => {
        const fields = line.split(/\s+/);
        return [`socket:[${fields[6]}]`, fields[7] ?? ''];
      }),
  );
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && pid !== process.ppid)
    .flatMap((pid) => {
      try {
        const title = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
        // Kernel threads and zombies have none.
        if (title === '') return [];
        if (scope === 'machine') return OURS.test(title) && !PEERS.test(title) ? [{ pid, title }] : [];
        const open = (): string =>
          list(`/proc/${pid}/fd`)
            .map((fd) => link(`/proc/${pid}/fd/${fd}`))
            .map((target) => sockets.get(target) ?? target)
            .join('\n');
        const isOurs = (text: string): boolean => scope.some((owner) => belongs(text, owner));
        return isOurs(title) || isOurs(readFileSync(`/proc/${pid}/cgroup`, 'latin1')) || isOurs(open())
          ? [{ pid, title }]
          : [];
      } catch {
        return []; // ended meanwhile
      }
    });
}

// ss(8): "tcp LISTEN 0 511 127.0.0.1:80 0.0.0.0:* users:(("node",pid=1,fd=3))"
const listening = (pids: ReadonlySet<number>): string[] =>
  output('ss', '-H', '-ltunp')
    .split('\n')
    .filter((line) => [...line.matchAll(/pid=(\d+)/g)].some(([, pid]) => pids.has(Number(pid))))
    .map((line) => `port ${line.split(/\s+/)[0]} ${line.split(/\s+/)[4]}`);

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

// Without the program, the host has nothing of its kind.
function output(program: string, ...args: string[]): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
}
