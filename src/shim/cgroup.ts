/**
 * Control groups, as far as a shim needs them: who was killed for memory, who is left, and a place of its own. v1, v2
 * and hybrid.
 */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupHierarchies, isUnified, type CgroupHierarchy } from '../sys/cgroupfs.ts';

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

/** The directories of a process's cgroups, by v1 controller; '' is the unified hierarchy. */
export function cgroupsOf(pid: number): Map<string, string> {
  const mounts = hierarchies();
  const directories = new Map<string, string>();
  for (const line of (read(`/proc/${pid}/cgroup`) ?? '').split('\n')) {
    const [, names = '', path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === '') continue;
    for (const name of names.split(',')) {
      const hierarchy = mounts.find((h) => (name === '' ? isUnified(h) : h.controllers.includes(name)));
      if (hierarchy) directories.set(name, join(hierarchy.mountPoint, path));
    }
  }
  return directories;
}

/** How many processes of a container were killed for want of memory. */
export function oomKills(cgroups: Map<string, string>): number {
  const v1 = cgroups.get('memory');
  const v2 = cgroups.get('');
  const text = (v1 && read(join(v1, 'memory.oom_control'))) ?? (v2 && read(join(v2, 'memory.events'))) ?? '';
  return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
}

/** The processes of a container, dead ones excluded by the kernel. */
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
 * Moves processes into the cgroup `path` of every hierarchy that lets them (v1's cpuset wants to be set up first: left
 * alone).
 * Of v1's cpu into the root: below the containers' common group the shim would share that group's weight with them, and
 * the
 * busier they are, the later their lines would be read.
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

/** A killed keeper is out of its cgroup within this. */
const EMPTYING_MS = 500;
const EMPTYING_STEP_MS = 5;

/**
 * Leaves the cgroup `path` for the root (on v2 a cgroup with children takes no processes) and removes it. Waits,
 * briefly, for others who end.
 */
export function leaveCgroup(path: string): void {
  const deadline = Date.now() + EMPTYING_MS;
  for (const { mountPoint } of hierarchies()) {
    try {
      writeFileSync(join(mountPoint, 'cgroup.procs'), String(process.pid));
    } catch {
      // A shim that was never in it has nothing to leave; what its predecessor made is removed all the same.
    }
    while (!removed(join(mountPoint, path)) && Date.now() < deadline)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, EMPTYING_STEP_MS);
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
