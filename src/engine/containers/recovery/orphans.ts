/** Container directories without a row. */
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { JOURNAL_FILE, LOCK_FILE } from '../../../protocol/paths.ts';
import { tryLock, type Lock } from '../../../sys/file.ts';
import { unmount } from '../../../sys/mount.ts';
import { mountsUnder } from '../../../sys/mountinfo.ts';
import { removeTree } from '../../remove-tree.ts';
import type { ContainerDeps } from '../deps.ts';
import { hasTraces } from '../handle/traces.ts';
import { damagedContainer, remainsOf } from './damaged.ts';
import { orphanFate } from './plan.ts';

/** Anything else there (lost+found on a file system of its own) is not ours. */
const isContainerId = (name: string): boolean => /^[0-9a-f]{64}$/.test(name);

type Deps = Pick<ContainerDeps, 'paths' | 'index' | 'log' | 'config'>;

/** Deletes, in the background, those that an unanswered create left; reports those that may belong to a container. */
export function sweepOrphans(deps: Deps): void {
  const { paths, index, log } = deps;
  mkdirSync(paths.containers(), { recursive: true, mode: 0o710 });
  mkdirSync(paths.runs(), { recursive: true, mode: 0o700 });
  for (const id of readdirSync(paths.containers()).filter(isContainerId)) {
    if (index.byId(id)) continue;
    try {
      sweepOrphan(id, deps);
    } catch (err) {
      log.error({ container: id, err }, 'could not look into a container directory that has no row');
    }
  }
}

function sweepOrphan(id: string, deps: Deps): void {
  const directory = deps.paths.container(id);
  const hasJournal = existsSync(join(directory, JOURNAL_FILE));
  const lock = hasJournal ? undefined : tryLock(join(directory, LOCK_FILE));
  const container = damagedContainer(remainsOf(id, deps), 'the row of this container in the store is lost', deps);
  if (orphanFate({ hasJournal, isLocked: !lock, hasTraces: hasTraces(container, deps) }) === 'delete')
    return void deleteOrphan(id, lock, deps);
  lock?.release();
  deps.log.error({ container: id }, 'a container directory that was in use has no row; it can be stopped and removed');
  deps.index.add(container);
}

async function deleteOrphan(id: string, lock: Lock | undefined, { paths, log }: Deps): Promise<void> {
  try {
    for (const point of mountsUnder(paths.run(id))) unmount(point);
    await removeTree(paths.run(id));
    await removeTree(paths.container(id));
  } catch (err) {
    log.error({ container: id, err }, 'could not delete what an interrupted create left');
  } finally {
    lock?.release();
  }
}
