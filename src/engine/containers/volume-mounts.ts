/** A container's volumes: made with it, mounted while it runs. */
import { closeSync, fstatSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathBeneath } from '../../sys/inroot.ts';
import { Errno, type Fd } from '../../sys/libc.ts';
import { mount, MS, unmount } from '../../sys/mount.ts';
import { isMountPoint, mountsUnder } from '../../sys/mountinfo.ts';
import { SystemFault } from '../../model/errors.ts';
import { cleanPath } from '../spec/mount-target.ts';
import { volumeEvent } from '../../model/volume.ts';
import type { VolumeHold } from '../volumes/volumes.ts';
import type { Container } from '../../model/container.ts';
import type { Parts } from './parts.ts';

/** Makes those that are not there, and fills empty ones with what the image has in their place. */
export async function makeVolumes(parts: Parts, c: Container, hold: VolumeHold): Promise<void> {
  const filled: { name: string; destination: string }[] = [];
  for (const point of c.mounts.filter(({ type }) => type === 'volume')) {
    // Another container's (--volumes-from), which may go before this one is there.
    if (point.source !== '') {
      hold.keep(point.name);
      continue;
    }
    const options = c.hostConfig.Mounts?.find(
      ({ Type, Target }) => Type === 'volume' && cleanPath(Target) === point.destination,
    )?.VolumeOptions;
    if (point.name === '') point.anonymous = true;
    const volume = await parts.volumes.create(
      {
        name: point.name,
        driver: point.driver,
        labels: options?.Labels ?? {},
        options: options?.DriverConfig?.Options ?? {},
      },
      hold,
    );
    Object.assign(point, { name: volume.name, source: volume.mountpoint, driver: volume.driver });
    if (!options?.NoCopy && !point.mode.split(',').includes('nocopy') && point.subpath === undefined)
      filled.push(point);
  }
  if (filled.length === 0) return;
  // Copy-up needs the image's files: the rootfs is mounted for a moment.
  parts.snapshots.mount(c.id);
  try {
    for (const { name, destination } of filled)
      await parts.volumes.copyUp(parts.volumes.resolve(name), parts.paths.rootfs(c.id), destination, c.id);
  } finally {
    parts.snapshots.unmount(c.id);
  }
}

/** Before it starts: what their options name is mounted, and what of them it is to see is bound. Repeatable. */
export async function mountVolumes(parts: Parts, c: Container): Promise<void> {
  for (const [index, point] of c.mounts.entries()) {
    if (point.type !== 'volume') continue;
    const volume = parts.volumes.resolve(point.name);
    await parts.volumes.mount(volume, c.id);
    parts.events.record(
      volumeEvent(volume, 'mount', {
        container: c.id,
        destination: point.destination,
        propagation: point.propagation,
        'read/write': String(point.rw),
      }),
    );
    if (point.subpath !== undefined) bindSubpath(volume.mountpoint, point.subpath, parts.paths.subpath(c.id, index));
  }
}

/** When it is dead for good. Repeatable. */
export async function unmountVolumes(parts: Parts, c: Container): Promise<void> {
  for (const path of mountsUnder(join(parts.paths.run(c.id), 'subpaths'))) unmount(path);
  for (const { name, driver } of c.mounts.filter(({ type }) => type === 'volume')) {
    if (await parts.volumes.unmount(name, c.id))
      parts.events.record(volumeEvent({ name, driver }, 'unmount', { container: c.id }));
  }
}

/** It ran when the daemon started. */
export function foundMounted(parts: Parts, c: Container): void {
  for (const { type, name } of c.mounts) if (type === 'volume') parts.volumes.foundMounted(name, c.id);
}

// Bound by a descriptor: whoever has the volume mounted may swap any part of the path for a link at any moment.
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
