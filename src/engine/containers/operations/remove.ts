/**
 * Removes a container: the intent is recorded, everything it holds is given back, its row goes last. Each step is
 * repeatable.
 */
import { rmdirSync } from 'node:fs';
import { faultPoint } from '../../../sys/fault.ts';
import { unmount } from '../../../sys/mount.ts';
import { mountsUnder } from '../../../sys/mountinfo.ts';
import { Conflict, SystemFault } from '../../../model/errors.ts';
import { removeTree } from '../../remove-tree.ts';
import { cgroupDirectories } from '../../../sys/cgroupfs.ts';
import { containerEvent } from '../../events/container-event.ts';
import type { Lifecycle } from '../lifecycle.ts';
import { standing } from '../moves.ts';
import type { Parts } from '../parts.ts';
import { shimCgroup } from '../shim-spec.ts';
import { isRunning } from '../../../model/container-status.ts';
import type { Supervisor } from '../handle/handle.ts';

export interface RemoveOptions {
  force: boolean;
  /** Its anonymous volumes too. */
  volumes: boolean;
}

/** @throws Conflict when it runs and `force` is not given */
export function checkRemovable(s: Supervisor, { force }: RemoveOptions): void {
  const c = s.container;
  if (c.phase === 'removing') throw new Conflict(`removal of container ${c.name} is already in progress`);
  if (!isRunning(c) || force) return;
  const reason =
    standing(c) === 'paused'
      ? 'container is paused and must be unpaused first'
      : 'container is running: stop the container before removing or force remove';
  throw new Conflict(`cannot remove container "${c.name}": ${reason}`);
}

/** Records the intent, on disk and in memory. */
export function markRemoving(s: Supervisor, parts: Parts): void {
  s.container.phase = 'removing';
  parts.rows.setPhase(s.container.id, 'removing');
}

/**
 * Kills it if it must, waits for the proof of its death, and takes everything away. `drop`: it is no more; who waits
 * for that is told after it.
 */
export async function removeContainer(
  s: Supervisor,
  parts: Parts,
  lifecycle: Lifecycle,
  options: RemoveOptions,
  drop: () => Promise<void> | void,
): Promise<void> {
  const c = s.container;
  markRemoving(s, parts);
  try {
    if (!c.state.final) await end(s);
    await finishRemoval(s, parts, lifecycle, options);
  } catch (error) {
    // Still there: it can be inspected, and removed again.
    c.phase = 'dead';
    parts.rows.setPhase(c.id, 'dead');
    throw error instanceof Error ? error : new SystemFault(String(error));
  }
  // Last, as in dockerd: `docker run --rm` has ended then, and what comes next may use its name, its image and its
  // volumes.
  try {
    await drop();
  } finally {
    await s.link?.request({ op: 'removed' }).catch(() => undefined);
    s.waits.answer(c.state.exitCode);
    s.retire();
    for (const directory of cgroupDirectories(shimCgroup(c, parts.config))) {
      try {
        rmdirSync(directory);
      } catch {
        // The shim may still be inside; the start-up sweep takes empty ones away.
      }
    }
  }
}

/** The second half, for a container that is dead: also what the start-up sweep does with a `removing` row. */
async function finishRemoval(s: Supervisor, parts: Parts, lifecycle: Lifecycle, options: RemoveOptions): Promise<void> {
  const c = s.container;
  await parts.files.stopWorkers(c.id);
  await lifecycle.tearDown(s);
  parts.snapshots.unmount(c.id);
  // A volume's subpath, say: what is still mounted there must not be deleted along.
  for (const point of mountsUnder(parts.paths.run(c.id))) unmount(point);
  faultPoint('remove.unmounted');
  // With the journal goes the proof of its death: the row must have it first.
  await parts.rows.flushed();
  await removeTree(parts.paths.run(c.id));
  await removeTree(parts.paths.container(c.id));
  faultPoint('remove.directories');
  parts.execs.forget(c.id);
  parts.rows.transaction(() => {
    parts.rows.delete(c.id);
    parts.events.record(containerEvent(c, 'destroy'));
  });
  const anonymous = c.mounts.filter((m) => m.anonymous);
  // Nobody's any more: it must not count among a volume's users.
  c.mounts = [];
  if (options.volumes) {
    for (const mount of anonymous) {
      await parts.volumes
        .remove(mount.name, { force: true })
        .catch((err: unknown) => parts.log.debug({ volume: mount.name, err }, 'anonymous volume stays'));
    }
  }
}

async function end(s: Supervisor): Promise<void> {
  const KILL_PATIENCE_MS = 30_000;
  const late = AbortSignal.timeout(KILL_PATIENCE_MS);
  // Again, where a restart under way has made the next generation meanwhile.
  while (!s.container.state.final && !late.aborted) {
    const { gen } = s.container.state;
    await s
      .insist((link) => link.request({ op: 'signal', operation: 'remove', signal: 9, asUser: true }))
      .catch((error: unknown) => {
        if (!(error instanceof Conflict)) throw error;
      });
    await s.pull();
    await s.until((state) => state.final || state.gen !== gen, late);
  }
  if (!s.container.state.final) throw new SystemFault(`could not kill container ${s.container.id}`);
}
