/** Cgroups of an engine, in every mounted hierarchy. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const CGROUPS = '/sys/fs/cgroup';

/** The directories of one cgroup, one in each hierarchy that has it. */
function directoriesOf(cgroup: string): string[] {
  return ['.', ...readdirSync(CGROUPS)]
    .map((hierarchy) => join(CGROUPS, hierarchy, cgroup))
    .filter((directory) => existsSync(directory));
}

/** Cgroups of containers and shims below `cgroup`. The `shims` parents do not count: they stay for the next daemon. */
export function cgroupsBelow(cgroup: string): string[] {
  return directoriesOf(cgroup).flatMap((directory) =>
    execFileSync('find', [directory, '-mindepth', '1', '-type', 'd', '-not', '-path', join(directory, 'shims')], {
      encoding: 'utf8',
    })
      .split('\n')
      .filter(Boolean),
  );
}

/** As cgroupsBelow(), one level deep, and without a process: for a condition that is polled. */
export const cgroupsIn = (cgroup: string): string[] =>
  directoriesOf(cgroup).flatMap((directory) =>
    ['', 'shims'].flatMap((parent) =>
      directoriesIn(join(directory, parent))
        .filter((name) => name !== 'shims')
        .map((name) => join(directory, parent, name)),
    ),
  );

const directoriesIn = (path: string): string[] =>
  existsSync(path)
    ? readdirSync(path, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name)
    : [];

/** Removes a cgroup and the empty ones below it, from every hierarchy. @returns whether nothing of it is left */
export function removeCgroup(cgroup: string): boolean {
  for (const directory of directoriesOf(cgroup)) {
    try {
      execFileSync('find', [directory, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'], { stdio: 'ignore' });
    } catch {
      continue; // find(1) fails when a directory disappears under it.
    }
  }
  return directoriesOf(cgroup).length === 0;
}
