/** Control groups (v1, v2 and hybrid): OOM kills, a container's processes, and the shim's own cgroup. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupHierarchies, isUnified, parseCgroupPaths, type CgroupHierarchy } from '../sys/cgroupfs.ts';
import { isAlive, procStat } from '../sys/process.ts';

const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
};

/** None when the mount table cannot be read: the container runs all the same. */
function hierarchies(): CgroupHierarchy[] {
  try {
    return cgroupHierarchies();
  } catch {
    return [];
  }
}

/** The directories of a process's cgroups by v1 controller; the key '' is the unified hierarchy. */
export function cgroupsOf(pid: number): Map<string, string> {
  const mounts = hierarchies();
  const directories = new Map<string, string>();
  for (const [name, path] of parseCgroupPaths(read(`/proc/${pid}/cgroup`) ?? '')) {
    const hierarchy = mounts.find((h) => (name === '' ? isUnified(h) : h.controllers.includes(name)));
    if (hierarchy) directories.set(name, join(hierarchy.mountPoint, path));
  }
  return directories;
}

/** The directories of the cgroup at `path` below the mount points, keyed as cgroupsOf() does, where they exist. */
export function cgroupsAt(path: string): Map<string, string> {
  const directories = new Map<string, string>();
  for (const hierarchy of hierarchies()) {
    const directory = join(hierarchy.mountPoint, path);
    if (!existsSync(directory)) continue;
    for (const name of isUnified(hierarchy) ? [''] : hierarchy.controllers) directories.set(name, directory);
  }
  return directories;
}

/** Removes the cgroup at `path` where it is empty. */
export function removeCgroup(path: string): void {
  for (const directory of new Set(cgroupsAt(path).values())) removed(directory);
}

/** The process in these cgroups from which the others descend: a namespace's PID 1, else the first one started. */
export function initIn(cgroups: Map<string, string>): { pid: number; startTime: string } | undefined {
  const isNamespaceInit = (pid: number): boolean => /^NSpid:.*\s1$/m.test(read(`/proc/${pid}/status`) ?? '');
  const [first] = processesIn(cgroups)
    .map((pid) => ({ pid, startTime: procStat(pid)?.startTime ?? '', rank: isNamespaceInit(pid) ? 0 : 1 }))
    .filter(({ pid, startTime }) => isAlive(pid, startTime))
    .sort((a, b) => a.rank - b.rank || Number(a.startTime) - Number(b.startTime));
  return first && { pid: first.pid, startTime: first.startTime };
}

/** Number of OOM kills in these cgroups. */
export function oomKills(cgroups: Map<string, string>): number {
  const v1 = cgroups.get('memory');
  const v2 = cgroups.get('');
  const oomControl = v1 && read(join(v1, 'memory.oom_control'));
  const text = oomControl ?? (v2 && read(join(v2, 'memory.events'))) ?? '';
  return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
}

/** Whether processes in a v1 memory cgroup wait for memory, as its OOM killer is disabled. */
export function waitsForMemory(cgroups: Map<string, string>): boolean {
  const v1 = cgroups.get('memory');
  const text = (v1 && read(join(v1, 'memory.oom_control'))) ?? '';
  return /^oom_kill_disable 1$/m.test(text) && /^under_oom 1$/m.test(text);
}

/** Pids of the processes in these cgroups. */
export function processesIn(cgroups: Map<string, string>): number[] {
  const directory = cgroups.get('pids') ?? cgroups.get('') ?? cgroups.get('name=systemd');
  return directory === undefined
    ? []
    : (read(join(directory, 'cgroup.procs')) ?? '')
        .split('\n')
        .filter(Boolean)
        .map(Number)
        .filter((pid) => pid > 1);
}

/**
 * Moves processes into the cgroup `path` of every hierarchy that accepts them. Exceptions in v1: cpuset, whose groups
 * need to be configured first, is skipped; for cpu they move to the root, because below the containers' common group
 * the shim would share that group's weight with them, and read their output later the busier they are.
 */
export function joinCgroup(path: string, pids: number[]): void {
  for (const { mountPoint, controllers } of hierarchies()) {
    if (controllers.includes('cpuset')) continue;
    const directory = controllers.includes('cpu') ? mountPoint : join(mountPoint, path);
    try {
      mkdirSync(directory, { recursive: true });
      for (const pid of pids) writeFileSync(join(directory, 'cgroup.procs'), String(pid));
    } catch {
      continue;
    }
  }
}

/** How long to wait until a killed keeper has left its cgroup. */
const EMPTY_TIMEOUT_MS = 500;
const EMPTY_POLL_MS = 5;

/**
 * Moves this process from the cgroup `path` to the root and removes `path`. To the root, because a v2 cgroup with child
 * cgroups takes no processes. Blocks up to EMPTY_TIMEOUT_MS while other processes in it end.
 */
export function leaveCgroup(path: string): void {
  const deadline = Date.now() + EMPTY_TIMEOUT_MS;
  for (const { mountPoint } of hierarchies()) {
    try {
      writeFileSync(join(mountPoint, 'cgroup.procs'), String(process.pid));
    } catch {
      // This shim may never have joined it; a previous one may have created it.
    }
    while (!removed(join(mountPoint, path)) && Date.now() < deadline)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, EMPTY_POLL_MS);
  }
}

function removed(directory: string): boolean {
  try {
    rmdirSync(directory);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'EBUSY';
  }
}
