/** Where a cgroup's directories are: one in each v1 hierarchy, or one in the unified one. cgroups(7). */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Mount points of the cgroup hierarchies, by controller list; '' is the unified one. */
function hierarchies(): string[] {
  return readFileSync('/proc/self/mountinfo', 'latin1').split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ');
    const type = after?.split(' ')[0];
    return type === 'cgroup' || type === 'cgroup2' ? [before!.split(' ')[4]!] : [];
  });
}

/** The existing directories of cgroup `path` in all hierarchies. */
export const cgroupDirectories = (path: string): string[] => hierarchies().map((mount) => join(mount, path)).filter((directory) => existsSync(directory));

/** All processes in the cgroup; empty when it does not exist. */
export function cgroupPids(path: string): number[] {
  for (const directory of cgroupDirectories(path)) {
    const pids = readFileSync(join(directory, 'cgroup.procs'), 'latin1').split('\n').filter((line) => line !== '').map(Number);
    if (pids.length > 0) return pids;
  }
  return [];
}
