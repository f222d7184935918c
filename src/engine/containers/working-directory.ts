/** A container's working directory exists from create on: `docker cp` into it works before the first start. */
import { closeSync, fstatSync, lstatSync, mkdirSync, readlinkSync, realpathSync } from 'node:fs';
import { posix } from 'node:path';
import { pathInRoot } from '../../sys/inroot.ts';
import { Errno, type Fd } from '../../sys/libc.ts';
import { SystemFault } from '../../model/errors.ts';
import type { Container } from '../../model/container.ts';
import { inLayers } from '../images/inherit.ts';
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

// Most images have it, and need no mount. No symbolic link is followed here: it would lead into the host.
const isInImage = (c: Container, deps: Deps): boolean =>
  inLayers(deps.snapshots.layerDirectories(c.id).lower, latin1(c.config.WorkingDir))?.isDirectory() === true;

const latin1 = (path: string): string => Buffer.from(path).toString('latin1');

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
    const name = `/proc/self/fd/${inside}/${posix.basename(path)}`;
    if (!lstatSync(name, { throwIfNoEntry: false })?.isSymbolicLink()) mkdirSync(name, { mode: 0o755 });
    else {
      // A dangling symlink: what it leads to inside is made, as by dockerd. The kernel has refused circles (ELOOP).
      const parentInside = posix.relative(realpathSync(rootfs), readlinkSync(`/proc/self/fd/${inside}`));
      make(rootfs, posix.resolve('/', parentInside, readlinkSync(name)), wanted);
    }
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
