/**
 * `docker rm`: the intent is recorded, everything the container holds is released, its row goes last. Each step is
 * repeatable.
 */
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../../../model/container.ts';
import { dockerStatus, isRunning } from '../../../model/container-status.ts';
import { Conflict, SystemFault } from '../../../model/errors.ts';
import { KEEPER_SUFFIX } from '../../../protocol/paths.ts';
import { faultPoint } from '../../../sys/fault.ts';
import { cgroupDirectories, cgroupPidsBelow } from '../../../sys/cgroupfs.ts';
import { unmount } from '../../../sys/mount.ts';
import { mountsUnder } from '../../../sys/mountinfo.ts';
import { isNotedAlive, kill, SIGKILL, type NotedProcess } from '../../../sys/process.ts';
import { containerEvent } from '../../events/container-event.ts';
import { removeTree } from '../../remove-tree.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { hasProcesses } from '../handle/traces.ts';
import { cgroupPath } from '../cgroups.ts';
import { shimCgroup } from '../shim-spec.ts';
import { tearDown, type TeardownDeps } from './teardown.ts';

export type RemoveDeps = TeardownDeps & Pick<ContainerDeps, 'config' | 'execs' | 'files' | 'images' | 'index' | 'log'>;

export interface RemoveOptions {
  /** Also while it runs. */
  force: boolean;
  /** Its anonymous volumes too. */
  volumes: boolean;
}

/** A container that SIGKILL does not end within this stays. */
const KILL_TIMEOUT_MS = 30_000;
const KILL_POLL_MS = 20;

/** @throws Conflict when it runs and `force` is not given, or when another removal is under way */
export async function remove(handle: ContainerHandle, options: RemoveOptions, deps: RemoveDeps): Promise<void> {
  assertNotRemoving(handle);
  assertNotRunning(handle.container, options);
  handle.removalPending = true;
  try {
    await handle.turns.run(async () => {
      // What was queued before may have removed it, as moby's second look does, or started it.
      assertNotRunning(handle.container, options);
      await removeInTurn(handle, options, deps);
    });
  } finally {
    handle.removalPending = false;
  }
}

/**
 * The removal itself, for a caller that has the container's turn: kills what lives, waits for the proof of its death,
 * and releases everything. Does nothing when an earlier turn has removed it.
 */
export async function removeInTurn(handle: ContainerHandle, options: RemoveOptions, deps: RemoveDeps): Promise<void> {
  if (handle.isRetired) return;
  const { container: c, shim, waits, journal } = handle;
  // Before the intent, which the next daemon finishes by force.
  if (!options.force && hasProcesses(c, deps)) throw new Conflict(isRunningText(c.name));
  const endIsStored = c.state.final && journal.isStored;
  // The row first, here and below: a disk that refuses it leaves the container as it was.
  deps.rows.setPhase(c.id, 'removing');
  c.phase = 'removing';
  try {
    if (!c.state.final) await killAndWait(handle);
    await endLeftProcesses(c, options, deps);
    await release(handle, deps);
    journal.store();
    // The journal is the proof of its death: the row must have it on disk before the journal is deleted. The intent was
    // written with everything before it.
    if (!endIsStored) await deps.rows.flushed();
    await deleteAll(handle, options, deps);
  } catch (error) {
    // It can be inspected and removed again. A container that survived its kill is not dead (moby daemon/delete.go).
    c.phase = c.state.final ? 'dead' : 'ready';
    deps.rows.setPhase(c.id, c.phase);
    throw error instanceof Error ? error : new SystemFault(String(error));
  }
  deps.index.drop(handle);
  // `docker run --rm` returns after the waits are answered: name, image and volumes must be free by then.
  try {
    // If the image was removed before its last container, its layers are garbage now.
    if (!deps.images.find(c.imageId)) await deps.images.collect();
  } finally {
    await shim.link?.request({ op: 'removed' }).catch(() => undefined);
    waits.answer(c.state.exitCode);
    handle.retire();
    removeCgroup(shimCgroup(c, deps.config));
  }
}

function assertNotRemoving({ container: c, removalPending }: ContainerHandle): void {
  if (removalPending || c.phase === 'removing')
    throw new Conflict(`removal of container ${c.name} is already in progress`);
}

function assertNotRunning(c: Container, { force }: RemoveOptions): void {
  // A restart under way has no status of its own in Docker: not final, it counts as running.
  const lives = isRunning(c) || !c.state.final;
  if (!lives || force) return;
  throw new Conflict(
    dockerStatus(c) === 'paused'
      ? `cannot remove container "${c.name}": container is paused and must be unpaused first`
      : isRunningText(c.name),
  );
}

async function killAndWait(handle: ContainerHandle): Promise<void> {
  const { container: c, journal } = handle;
  const timeout = AbortSignal.timeout(KILL_TIMEOUT_MS);
  const timedOut = new Promise<false>((resolve) => timeout.addEventListener('abort', () => resolve(false)));
  // More than once where a restart under way has made the next generation.
  while (!c.state.final && !timeout.aborted) {
    const { gen } = c.state;
    const wasRunning = isRunning(c);
    const isAnswered = await Promise.race([askToEnd(handle).then(() => true), timedOut]);
    if (!isAnswered) break;
    await journal.pull();
    await journal.until((state) => state.final || state.gen !== gen || isRunning({ state }) !== wasRunning, timeout);
  }
  if (!c.state.final) throw new SystemFault(`could not kill container ${c.id}`);
}

// This removal has the container's turn, so no start of this daemon is under way: an init that waits for its start gets
// none, and a signal would wait with it.
async function askToEnd({ container: c, shim }: ContainerHandle): Promise<void> {
  const isStarting = c.state.status === 'starting';
  try {
    await shim.askOrKillShim<unknown>((link) =>
      isStarting
        ? link.request({ op: 'abandon', operation: 'remove', error: 'the container is being removed', code: 128 })
        : link.request({ op: 'signal', operation: 'remove', signal: SIGKILL, asUser: true }),
    );
  } catch (error) {
    // It has ended meanwhile, or it runs by now.
    if (!(error instanceof Conflict)) throw error;
  }
}

// The journal may have lost the records of a run. The cgroup is the container's own, so what is in it belongs to it.
async function endLeftProcesses(c: Container, { force }: RemoveOptions, { config, paths }: RemoveDeps): Promise<void> {
  const cgroup = cgroupPath(c, config);
  if (cgroupPidsBelow(cgroup).length === 0) return;
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  for (let pids = cgroupPidsBelow(cgroup); pids.length > 0; pids = cgroupPidsBelow(cgroup)) {
    if (!force) throw new Conflict(isRunningText(c.name));
    if (Date.now() > deadline) throw new SystemFault(`could not kill container ${c.id}: process ${pids[0]} lives on`);
    for (const pid of pids) kill(pid, SIGKILL);
    await new Promise((resolve) => setTimeout(resolve, KILL_POLL_MS));
  }
  killKeepers(paths.run(c.id));
  removeCgroup(cgroup);
}

/** Kills the processes that hold descriptors for a shim that is dead. */
function killKeepers(run: string): void {
  if (!existsSync(run)) return;
  for (const name of readdirSync(run).filter((entry) => entry.endsWith(KEEPER_SUFFIX))) {
    try {
      const keeper = JSON.parse(readFileSync(join(run, name), 'utf8')) as NotedProcess;
      if (isNotedAlive(keeper)) kill(keeper.pid, SIGKILL);
    } catch {
      continue; // It cannot be told which process it is.
    }
  }
}

const isRunningText = (name: string): string =>
  `cannot remove container "${name}": container is running: stop the container before removing or force remove`;

async function release(handle: ContainerHandle, deps: RemoveDeps): Promise<void> {
  const { container: c } = handle;
  const { paths, files, snapshots } = deps;
  await files.stopWorkers(c.id);
  await tearDown(handle, deps);
  snapshots.unmount(c.id);
  // What is still mounted below (a volume's subpath, say) must not be deleted with the directory.
  if (existsSync(paths.run(c.id))) for (const point of mountsUnder(paths.run(c.id))) unmount(point);
  faultPoint('remove.unmounted');
}

async function deleteAll({ container: c }: ContainerHandle, options: RemoveOptions, deps: RemoveDeps): Promise<void> {
  const { paths, rows, events, execs } = deps;
  await removeTree(paths.run(c.id));
  await removeTree(paths.container(c.id));
  faultPoint('remove.directories');
  execs.forget(c.id);
  // Not synced: the intent is on disk, and a daemon that finds it deletes the row again.
  rows.relaxed(() => {
    rows.delete(c.id);
    events.record(containerEvent(c, 'destroy'));
  });
  const anonymous = c.mounts.filter((mount) => mount.anonymous);
  // From here on it must not count among its volumes' users.
  c.mounts = [];
  if (options.volumes) await removeVolumes(anonymous, deps);
}

async function removeVolumes(mounts: Container['mounts'], { volumes, log }: RemoveDeps): Promise<void> {
  for (const { name } of mounts) {
    await volumes
      .remove(name, { force: true })
      .catch((err: unknown) => log.debug({ volume: name, err }, 'the anonymous volume stays'));
  }
}

function removeCgroup(path: string): void {
  for (const directory of cgroupDirectories(path)) {
    try {
      rmdirSync(directory);
    } catch {
      // A shim may still be inside; the next daemon's start removes empty ones.
    }
  }
}
