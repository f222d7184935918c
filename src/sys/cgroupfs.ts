/** The cgroup file systems: v1, v2, and both (hybrid). cgroups(7). */
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { mountsOfType, readMountTable } from './mountinfo.ts';

export interface CgroupHierarchy {
  mountPoint: string;
  /** Controllers of a v1 hierarchy, or its name (`name=systemd`); empty for v2. */
  controllers: string[];
}

export type CgroupLayout = 'v1' | 'hybrid' | 'v2';

/** The mounted hierarchies: one per group of controllers in v1, one in v2. */
export const cgroupHierarchies = (table = readMountTable()): CgroupHierarchy[] =>
  mountsOfType('cgroup', table).map(({ point, type, superOptions }) => ({
    mountPoint: point,
    controllers: type === 'cgroup' ? superOptions.filter((option) => option !== 'rw' && option !== 'ro') : [],
  }));

export const isUnified = ({ controllers }: CgroupHierarchy): boolean => controllers.length === 0;

/** A host without any hierarchy counts as v2. */
export function cgroupLayout(hierarchies: readonly CgroupHierarchy[]): CgroupLayout {
  if (hierarchies.every(isUnified)) return 'v2';
  return hierarchies.some(isUnified) ? 'hybrid' : 'v1';
}

/**
 * The paths of a process's cgroups from the text of /proc/PID/cgroup, by v1 controller or name (`name=systemd`); '' is
 * v2.
 */
export function parseCgroupPaths(text: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(.+)$/.exec(line) ?? [];
    if (path !== '') for (const controller of controllers.split(',')) paths.set(controller, path);
  }
  return paths;
}

let mounted: CgroupHierarchy[] = [];

// They are mounted when the host boots. Read once, because the mount table of a host with many containers is long.
function mountedHierarchies(): CgroupHierarchy[] {
  if (mounted.length === 0) mounted = cgroupHierarchies();
  return mounted;
}

/** The existing directories of cgroup `path` in all hierarchies. */
export const cgroupDirectories = (path: string): string[] =>
  mountedHierarchies()
    .map(({ mountPoint }) => join(mountPoint, path))
    .filter((directory) => existsSync(directory));

/** The processes in a cgroup's directory; zombies are not listed. */
export const pidsIn = (directory: string): number[] =>
  readFileSync(join(directory, 'cgroup.procs'), 'latin1')
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);

/** The processes in cgroup `path`; empty when it does not exist. */
export function cgroupPids(path: string): number[] {
  for (const directory of cgroupDirectories(path)) {
    const pids = pidsIn(directory);
    if (pids.length > 0) return pids;
  }
  return [];
}

/** The processes in cgroup `path` and below it; empty when it does not exist. */
export function cgroupPidsBelow(path: string): number[] {
  for (const directory of cgroupDirectories(path)) {
    const pids = pidsBelow(directory);
    if (pids.length > 0) return pids;
  }
  return [];
}

function pidsBelow(directory: string): number[] {
  try {
    const children = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...pidsIn(directory), ...children.flatMap(({ name }) => pidsBelow(join(directory, name)))];
  } catch {
    return []; // Removed meanwhile: it was empty.
  }
}

/** Removes the empty child cgroups of `path`, except those named in `keep`: a process may be about to enter them. */
export function removeEmptyCgroups(path: string, keep: ReadonlySet<string>): void {
  for (const directory of cgroupDirectories(path)) {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (!entry.isDirectory() || keep.has(entry.name)) continue;
      try {
        rmdirSync(join(directory, entry.name));
      } catch {
        // EBUSY: a process is still in it.
      }
    }
  }
}
