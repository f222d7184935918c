/** What the archive worker (archive-worker.ts) is asked to do, from a request and the container's definition. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Container, MountPoint } from '../../model/container.ts';
import { SystemFault } from '../../model/errors.ts';
import type { Paths } from '../paths.ts';
import { cleanPath } from '../spec/mount-target.ts';
import { lookUpUser } from '../spec/user.ts';
import type { ArchiveJob } from './archive-worker.ts';
import type { View, ViewMount } from './container-view.ts';

export interface UnpackOptions {
  noOverwriteDirNonDir: boolean;
  /** Gives everything to the container's user instead of the archive's owners. */
  copyUIDGID: boolean;
}

export type Request = { kind: 'stat' | 'pack' } | { kind: 'unpack'; options: UnpackOptions };

const NETWORK_FILES = ['hosts', 'hostname', 'resolv.conf'];

interface Wanted {
  /** As the client sent it. */
  path: string;
  request: Request;
  paths: Paths;
  /** The container runs, and the worker gets its mount namespace. */
  running: boolean;
}

/** What the worker is to do with the files of a container. @throws SystemFault for an unknown user of the container */
export function archiveJob(c: Container, { path, request, paths, running }: Wanted): ArchiveJob {
  const rootfs = paths.rootfs(c.id);
  const view: View = { rootfs, running, root: rootOf(rootfs), mounts: viewMounts(c, paths) };
  if (request.kind !== 'unpack') return { kind: request.kind, view, path };
  const { noOverwriteDirNonDir, copyUIDGID } = request.options;
  const owner = copyUIDGID && c.config.User ? ownerOf(view.rootfs, c.config.User) : undefined;
  return {
    kind: 'unpack',
    view,
    path,
    access: [...c.mounts.map(accessOf), ...tmpfsAccess(c)],
    readOnlyRoot: c.hostConfig.ReadonlyRootfs,
    noOverwriteDirNonDir,
    ...(owner && { owner }),
  };
}

const accessOf = ({ destination, rw }: MountPoint) => ({ destination, readOnly: !rw });

const tmpfsAccess = (c: Container) =>
  Object.entries(c.hostConfig.Tmpfs ?? {}).map(([target, options]) => ({
    destination: cleanPath(target),
    readOnly: options.split(',').includes('ro'),
  }));

function ownerOf(rootfs: string, user: string): { uid: number; gid: number } {
  try {
    const { uid, gid } = lookUpUser(rootfs, user, []);
    return { uid, gid };
  } catch (error) {
    throw new SystemFault((error as Error).message);
  }
}

/** Device and inode of a directory. */
export function rootOf(path: string): { dev: number; ino: number } {
  const { dev, ino } = statSync(path);
  return { dev, ino };
}

/** The container's mounts except tmpfs, parents before what is mounted inside them. */
function viewMounts(c: Container, paths: Paths): ViewMount[] {
  const points = c.mounts
    .filter(({ type }) => type !== 'tmpfs')
    .map(({ source, subpath, destination, rw }) => ({
      source,
      destination,
      readOnly: !rw,
      ...(subpath !== undefined && { subpath }),
    }));
  const taken = new Set(points.map(({ destination }) => destination));
  const networkFiles = NETWORK_FILES.map((name) => ({
    source: join(paths.container(c.id), name),
    destination: `/etc/${name}`,
    readOnly: c.hostConfig.ReadonlyRootfs,
  })).filter(({ source, destination }) => !taken.has(destination) && existsSync(source));
  const depth = ({ destination }: ViewMount): number => destination.split('/').length;
  return [...points, ...networkFiles].sort((a, b) => depth(a) - depth(b));
}
