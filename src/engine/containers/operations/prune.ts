/** `docker container prune`: removes containers that do not run. */
import { isRunning } from '../../../model/container-status.ts';
import { wallNow } from '../../clock.ts';
import type { ContainerDeps } from '../deps.ts';
import { filterForPrune } from '../views/list-filter.ts';
import { remove, type RemoveDeps } from './remove.ts';

/** A container that is started or removed concurrently is skipped (moby daemon/prune.go). */
export async function prune(
  filters: Map<string, string[]>,
  deps: RemoveDeps & Pick<ContainerDeps, 'index'>,
): Promise<{ deleted: string[]; reclaimed: number }> {
  const { index, snapshots, events, log } = deps;
  const deleted: string[] = [];
  let reclaimed = 0;
  for (const c of filterForPrune(index.containers(), filters)) {
    // What cannot be told fully is removed by name only.
    if (isRunning(c) || c.damaged) continue;
    try {
      const size = await snapshots.sizeRw(c.id);
      await remove(index.lookup(c.id), { force: false, volumes: false }, deps);
      deleted.push(c.id);
      reclaimed += Math.max(size, 0);
    } catch (err) {
      log.warn({ container: c.id, err }, 'could not prune the container');
    }
  }
  events.record({
    type: 'container',
    action: 'prune',
    actor: '',
    attributes: { reclaimed: String(reclaimed) },
    time: wallNow(),
  });
  return { deleted, reclaimed };
}
