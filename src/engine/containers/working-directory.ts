/** A container's working directory is there from create on: `docker create`, `docker cp` into it, `docker start`. */
import { closeSync, fstatSync, lstatSync, mkdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { pathInRoot } from '../../sys/inroot.ts';
import { Errno, type Fd } from '../../sys/libc.ts';
import { SystemFault } from '../../model/errors.ts';
import type { Container } from '../../model/container.ts';
import type { Parts } from './parts.ts';

/**
 * Makes it where the image has none; nothing runs in there yet. @throws SystemFault where something else is in its
 * place
 */
export function makeWorkingDirectory(parts: Parts, c: Container): void {
  const { WorkingDir: directory } = c.config;
  if (directory === '' || directory === '/' || isInImage(parts, c)) return;
  parts.snapshots.mount(c.id);
  try {
    make(parts.paths.rootfs(c.id), directory, directory);
  } finally {
    parts.snapshots.unmount(c.id);
  }
}

// Most images have it: nothing is mounted for those. What is there behind a link, or was taken away by a layer above,
// is for the runtime.
const isInImage = (parts: Parts, c: Container): boolean =>
  parts.snapshots.layerDirectories(c.id).lower.some((layer) => isDirectory(join(layer, c.config.WorkingDir)));

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
    // A link that leads to nothing.
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
