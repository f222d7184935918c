/** A container's working directory exists from create on: `docker cp` into it works before the first start. */
import { closeSync, fstatSync, lstatSync, mkdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { pathInRoot } from '../../sys/inroot.ts';
import { Errno, type Fd } from '../../sys/libc.ts';
import { SystemFault } from '../../model/errors.ts';
import type { Container } from '../../model/container.ts';
import type { ContainerDeps } from './deps.ts';

type Deps = Pick<ContainerDeps, 'snapshots' | 'paths'>;

/**
 * Makes it where the image has none; nothing runs in there yet. @throws SystemFault where something else is in its
 * place
 */
export function makeWorkingDirectory(c: Container, deps: Deps): void {
  const { WorkingDir: directory } = c.config;
  if (directory === '' || directory === '/' || isInImage(c, deps)) return;
  deps.snapshots.mount(c.id);
  try {
    make(deps.paths.rootfs(c.id), directory, directory);
  } finally {
    deps.snapshots.unmount(c.id);
  }
}

// Most images have it, and need no mount. A symlink, or a directory that an upper layer deleted, is left to the
// runtime.
const isInImage = (c: Container, deps: Deps): boolean =>
  deps.snapshots.layerDirectories(c.id).lower.some((layer) => isDirectory(join(layer, c.config.WorkingDir)));

function isDirectory(path: string): boolean {
  try {
    return lstatSync(path).isDirectory();
  } catch {
    return false;
  }
}

function make(rootfs: string, path: string, wanted: string): void {
  const found = opened(rootfs, path);
  if (found !== undefined) {
    const isDirectory = fstatSync(found).isDirectory();
    closeSync(found);
    if (!isDirectory) throw new SystemFault(`Cannot mkdir: ${wanted} is not a directory`);
    return;
  }
  const parent = posix.dirname(path);
  make(rootfs, parent, wanted);
  const inside = pathInRoot(rootfs, parent);
  try {
    mkdirSync(`/proc/self/fd/${inside}/${posix.basename(path)}`, { mode: 0o755 });
  } catch (error) {
    // EEXIST: a dangling symlink.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    closeSync(inside);
  }
}

function opened(rootfs: string, path: string): Fd | undefined {
  try {
    return pathInRoot(rootfs, path);
  } catch (error) {
    if (error instanceof Errno && error.code === 'ENOENT') return undefined;
    if (error instanceof Errno && error.code === 'ENOTDIR') throw new SystemFault(`lstat ${path}: not a directory`);
    throw error;
  }
}
