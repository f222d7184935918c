/** A container's volumes: created with it, mounted while it runs. */
import { closeSync, existsSync, fstatSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathBeneath } from '../../sys/inroot.ts';
import { Errno, type Fd } from '../../sys/libc.ts';
import { mount, MS, unmount } from '../../sys/mount.ts';
import { isMountPoint, mountsUnder } from '../../sys/mountinfo.ts';
import { SystemFault } from '../../model/errors.ts';
import { cleanPath } from '../spec/mount-target.ts';
import { volumeEvent } from '../volumes/events.ts';
import type { VolumeReservation } from '../volumes/volumes.ts';
import type { Container, MountPoint } from '../../model/container.ts';
import type { ContainerDeps } from './deps.ts';

type Deps = Pick<ContainerDeps, 'volumes' | 'snapshots' | 'events' | 'paths'>;

/** Creates those that do not exist, and copies the image's files at the mount point into empty ones (copy-up). */
export async function makeVolumes(c: Container, reservation: VolumeReservation, deps: Deps): Promise<void> {
  const filled: MountPoint[] = [];
  for (const point of c.mounts.filter(({ type }) => type === 'volume')) {
    // --volumes-from: held, because the other container may be removed before this one has its row.
    if (point.source !== '') {
      reservation.add(point.name);
      continue;
    }
    const options = c.hostConfig.Mounts?.find(
      ({ Type, Target }) => Type === 'volume' && cleanPath(Target) === point.destination,
    )?.VolumeOptions;
    if (point.name === '') point.anonymous = true;
    const volume = await deps.volumes.create(
      {
        name: point.name,
        driver: point.driver,
        labels: options?.Labels ?? {},
        options: options?.DriverConfig?.Options ?? {},
      },
      reservation,
    );
    Object.assign(point, { name: volume.name, source: volume.mountpoint, driver: volume.driver });
    if (!options?.NoCopy && !point.mode.split(',').includes('nocopy')) filled.push(point);
  }
  if (filled.length === 0) return;
  // Copy-up needs the image's files: the rootfs is mounted for a moment.
  deps.snapshots.mount(c.id);
  try {
    for (const { name, destination, subpath } of filled)
      await deps.volumes.copyUp(deps.volumes.resolve(name), deps.paths.rootfs(c.id), destination, {
        user: c.id,
        subpath,
      });
  } finally {
    deps.snapshots.unmount(c.id);
  }
}

/** Before a start: mounts volumes with mount options, and binds subpaths. Repeatable. */
export async function mountVolumes(deps: Deps, c: Container): Promise<void> {
  for (const [index, point] of c.mounts.entries()) {
    if (point.type !== 'volume') continue;
    const volume = deps.volumes.resolve(point.name);
    await deps.volumes.mount(volume, c.id);
    deps.events.record(
      volumeEvent(volume, 'mount', {
        container: c.id,
        destination: point.destination,
        propagation: point.propagation,
        'read/write': String(point.rw),
      }),
    );
    if (point.subpath !== undefined) bindSubpath(volume.mountpoint, point.subpath, deps.paths.subpath(c.id, index));
  }
}

/** When the container is final. Repeatable. */
export async function unmountVolumes(deps: Omit<Deps, 'snapshots'>, c: Container): Promise<void> {
  const subpaths = deps.paths.subpaths(c.id);
  // The mount table may be long.
  if (existsSync(subpaths)) for (const path of mountsUnder(subpaths)) unmount(path);
  for (const { name, driver } of c.mounts.filter(({ type }) => type === 'volume')) {
    if (await deps.volumes.unmount(name, c.id))
      deps.events.record(volumeEvent({ name, driver }, 'unmount', { container: c.id }));
  }
}

/** The container was not final when the daemon started: its volumes are mounted. */
export function noteMountedVolumes(c: Container, { volumes }: Pick<Deps, 'volumes'>): void {
  for (const { type, name } of c.mounts) if (type === 'volume') volumes.adoptMount(name, c.id);
}

// Bound by descriptor: a process with access to the volume may replace any part of the path by a symlink at any time.
function bindSubpath(volume: string, subpath: string, target: string): void {
  const fd = openSubpath(volume, subpath);
  try {
    if (isMountPoint(target)) return;
    if (fstatSync(fd).isDirectory()) mkdirSync(target, { recursive: true, mode: 0o700 });
    else {
      mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
      writeFileSync(target, '');
    }
    mount(`/proc/self/fd/${fd}`, target, null, MS.BIND | MS.REC);
  } finally {
    closeSync(fd);
  }
}

function openSubpath(volume: string, subpath: string): Fd {
  try {
    return pathBeneath(volume, subpath);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    if (error.code === 'EXDEV')
      throw new SystemFault(
        `path concatenation escapes the base directory, base: ${JSON.stringify(volume)}, subpath: ${JSON.stringify(subpath)}`,
      );
    const reason =
      error.code === 'ENOENT'
        ? 'no such file or directory'
        : error.code === 'ENOTDIR'
          ? 'not a directory'
          : error.message;
    throw new SystemFault(`cannot access path ${join(volume, subpath)}: lstat ${join(volume, subpath)}: ${reason}`);
  }
}
