/** /dev/shm: a container's own, the host's, or one that several containers share. */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { mount, MS, unmount } from '../../sys/mount.ts';
import { mountsUnder } from '../../sys/mountinfo.ts';
import type { HostConfig } from '../../model/container-config.ts';
import type { Paths } from '../paths.ts';
import { joinedContainer } from './namespaces.ts';

/**
 * Where a container's shareable /dev/shm is mounted on the host. It ends with the other mounts in the run directory.
 */
const shareablePath = (paths: Paths, containerId: string): string => join(paths.run(containerId), 'shm');

/** The host path that is bound to /dev/shm; undefined when the container gets a tmpfs of its own (or none). */
export function sharedShm(
  hostConfig: Pick<HostConfig, 'IpcMode'>,
  containerId: string,
  paths: Paths,
): string | undefined {
  if (hostConfig.IpcMode === 'host') return '/dev/shm';
  const donor = joinedContainer(hostConfig.IpcMode);
  if (donor) return shareablePath(paths, donor);
  return hostConfig.IpcMode === 'shareable' ? shareablePath(paths, containerId) : undefined;
}

/** Whether others may join this container's IPC namespace and its /dev/shm. */
export const sharesShm = ({ IpcMode }: Pick<HostConfig, 'IpcMode'>): boolean => IpcMode === 'shareable';

/**
 * Mounts the /dev/shm that others may share, before the container is created. Does nothing for other modes; repeatable.
 */
export function mountShareableShm(
  hostConfig: Pick<HostConfig, 'IpcMode' | 'ShmSize'>,
  containerId: string,
  paths: Paths,
): void {
  if (!sharesShm(hostConfig)) return;
  const path = shareablePath(paths, containerId);
  if (mountsUnder(path).length > 0) return;
  mkdirSync(path, { recursive: true, mode: 0o700 });
  mount('shm', path, 'tmpfs', MS.NOEXEC | MS.NOSUID | MS.NODEV, `mode=1777,size=${hostConfig.ShmSize}`);
  chmodSync(path, 0o1777);
}

/** After the container's end. Those who share it still have it, in their own mount namespaces. Repeatable. */
export function unmountShareableShm(containerId: string, paths: Paths): void {
  while (unmount(shareablePath(paths, containerId)));
}
