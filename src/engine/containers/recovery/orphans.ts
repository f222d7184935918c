/** Container directories without a row. */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { JOURNAL_FILE, LOCK_FILE } from '../../../protocol/paths.ts';
import { tryLock } from '../../../sys/file.ts';
import { unmount } from '../../../sys/mount.ts';
import { mountsUnder } from '../../../sys/mountinfo.ts';
import type { ContainerDeps } from '../deps.ts';
import { damagedContainer, remainsOf } from './damaged.ts';
import { orphanFate } from './plan.ts';

/** Anything else there (lost+found on a file system of its own) is not ours. */
const isContainerId = (name: string): boolean => /^[0-9a-f]{64}$/.test(name);

/** Deletes those that an unanswered create left; reports those that may belong to a container. */
export function sweepOrphans(deps: Pick<ContainerDeps, 'paths' | 'index' | 'log' | 'config'>): void {
  const { paths, index, log } = deps;
  mkdirSync(paths.containers(), { recursive: true, mode: 0o710 });
  mkdirSync(paths.runs(), { recursive: true, mode: 0o700 });
  for (const id of readdirSync(paths.containers()).filter(isContainerId)) {
    if (index.byId(id)) continue;
    const directory = paths.container(id);
    const hasJournal = existsSync(join(directory, JOURNAL_FILE));
    const lock = hasJournal ? undefined : tryLock(join(directory, LOCK_FILE));
    switch (orphanFate({ hasJournal, isLocked: !lock })) {
      case 'report':
        log.error({ container: id }, 'a container directory with a journal has no row; it can be stopped and removed');
        index.add(damagedContainer(remainsOf(id, deps), 'the row of this container in the store is lost', deps));
        break;
      case 'leave':
        break;
      case 'delete':
        for (const point of mountsUnder(paths.run(id))) unmount(point);
        rmSync(paths.run(id), { recursive: true, force: true });
        rmSync(directory, { recursive: true, force: true });
    }
    lock?.release();
  }
}
