/** Where a cgroup's directories are: one in each v1 hierarchy, or one in the unified one. cgroups(7). */
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

/** A cgroup as the runtime is told (slice:prefix:name under systemd, a path otherwise) as a path in the hierarchies. */
export function cgroupDirectory(named: string): string {
  const [slice = '', prefix, name] = named.split(':');
  return name === undefined ? named : join(sliceDirectory(slice), `${prefix ? `${prefix}-` : ''}${name}.scope`);
}

/**
 * Where systemd has a slice: a-b.slice lies in a.slice, and -.slice is the root. systemd.slice(5). Other paths are as
 * they are.
 */
export function sliceDirectory(slice: string): string {
  if (!slice.endsWith('.slice') || slice.includes('/')) return join('/', slice);
  const parts = slice
    .slice(0, -'.slice'.length)
    .split('-')
    .filter((part) => part !== '');
  return join('/', ...parts.map((_, i) => `${parts.slice(0, i + 1).join('-')}.slice`));
}

/** Mount points of the cgroup hierarchies, by controller list; '' is the unified one. */
function hierarchies(): string[] {
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .flatMap((line) => {
      const [before, after] = line.split(' - ');
      const type = after?.split(' ')[0];
      return type === 'cgroup' || type === 'cgroup2' ? [before!.split(' ')[4]!] : [];
    });
}

/** The existing directories of cgroup `path` in all hierarchies. */
export const cgroupDirectories = (path: string): string[] =>
  hierarchies()
    .map((mount) => join(mount, path))
    .filter((directory) => existsSync(directory));

/** All processes in the cgroup; empty when it does not exist. */
export function cgroupPids(path: string): number[] {
  for (const directory of cgroupDirectories(path)) {
    const pids = readFileSync(join(directory, 'cgroup.procs'), 'latin1')
      .split('\n')
      .filter((line) => line !== '')
      .map(Number);
    if (pids.length > 0) return pids;
  }
  return [];
}

/** Removes the empty cgroups in `path`: what a shim left that was killed. Those named in `keep` may just be entered. */
export function sweepCgroups(path: string, keep: ReadonlySet<string>): void {
  for (const directory of cgroupDirectories(path)) {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (!entry.isDirectory() || keep.has(entry.name)) continue;
      try {
        rmdirSync(join(directory, entry.name));
      } catch {
        // Somebody is in it still: the kernel keeps it.
      }
    }
  }
}
