/** What a container that is dead by its journal and row may have left behind, and what shows that it is not. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Container } from '../../../model/container.ts';
import { KEEPER_SUFFIX } from '../../../protocol/paths.ts';
import { cgroupPidsBelow } from '../../../sys/cgroupfs.ts';
import { cgroupPath } from '../cgroups.ts';
import type { HandleDeps } from './handle-deps.ts';

type TraceDeps = Pick<HandleDeps, 'paths' | 'config'>;

/** Whether a process is in the container's cgroup, which is its own. */
export const hasProcesses = (c: Container, { config }: Pick<TraceDeps, 'config'>): boolean =>
  cgroupPidsBelow(cgroupPath(c, config)).length > 0;

/** Whether the runtime, a keeper or the cgroup has anything of the container: records of its last run may be lost. */
export function hasTraces(c: Container, deps: TraceDeps): boolean {
  const { paths } = deps;
  return (
    existsSync(join(paths.runtimeRoot(basename(c.hostConfig.Runtime)), c.id)) ||
    hasKeeper(paths.run(c.id)) ||
    hasProcesses(c, deps)
  );
}

function hasKeeper(run: string): boolean {
  try {
    return readdirSync(run).some((name) => name.endsWith(KEEPER_SUFFIX));
  } catch {
    return false; // It has never been started in this boot.
  }
}
