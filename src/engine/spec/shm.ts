/** /dev/shm: private, the host's, or shared between containers. */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { mount, MS, unmount } from '../../sys/mount.ts';
import { mountsUnder } from '../../sys/mountinfo.ts';
import type { HostConfig } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import type { Paths } from '../paths.ts';
import { joinedContainer } from '../../model/namespace-mode.ts';

/** The host mount point of a container's shareable /dev/shm. It is unmounted with the rest of the run directory. */
const shareablePath = (paths: Paths, containerId: string): string => join(paths.run(containerId), 'shm');

/**
 * The host path to bind to /dev/shm; undefined when the container gets a private tmpfs, or none.
 * @param donor the container whose /dev/shm a joined one has, if not its own
 */
export function sharedShm(
  hostConfig: Pick<HostConfig, 'IpcMode'>,
  containerId: string,
  paths: Paths,
  donor?: Pick<Container, 'id' | 'hostConfig'>,
): string | undefined {
  if (hostConfig.IpcMode === 'host') return '/dev/shm';
  const joined = joinedContainer(hostConfig.IpcMode);
  if (joined) return donor ? sharedShm(donor.hostConfig, donor.id, paths) : shareablePath(paths, joined);
  return hasShareableShm(hostConfig) ? shareablePath(paths, containerId) : undefined;
}

/** Whether the container's own IPC namespace and /dev/shm are for others too. */
export const hasShareableShm = ({ IpcMode }: Pick<HostConfig, 'IpcMode'>): boolean => IpcMode === 'shareable';

/** Mounts the shareable /dev/shm before the container is created. Idempotent; does nothing for other IPC modes. */
export function mountShareableShm(
  hostConfig: Pick<HostConfig, 'IpcMode' | 'ShmSize'>,
  containerId: string,
  paths: Paths,
): void {
  if (!hasShareableShm(hostConfig)) return;
  const path = shareablePath(paths, containerId);
  if (mountsUnder(path).length > 0) return;
  mkdirSync(path, { recursive: true, mode: 0o700 });
  mount('shm', path, 'tmpfs', MS.NOEXEC | MS.NOSUID | MS.NODEV, `mode=1777,size=${hostConfig.ShmSize}`);
  chmodSync(path, 0o1777);
}

/** For a container that has ended. Others keep it in their own mount namespaces. Idempotent. */
export function unmountShareableShm(containerId: string, paths: Paths): void {
  while (unmount(shareablePath(paths, containerId)));
}
