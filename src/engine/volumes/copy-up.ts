/**
 * Copy-up: an empty volume is filled with what the image has at its mount point, including owners and modes.
 *
 * The copy is made beside the volume's data; when it is complete, its entries are renamed into the data directory.
 * After a crash the volume is either still empty, and filled the next time, or the remaining entries are moved in at
 * the next start. The data directory itself is never replaced, because running containers may have it mounted.
 */
import { execFile } from 'node:child_process';
import { closeSync, constants, existsSync, fstatSync, openSync } from 'node:fs';
import { chmod, chown, lstat, opendir, readdir, rename, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { faultPoint } from '../../sys/fault.ts';
import { pathBeneath, pathInRoot } from '../../sys/inroot.ts';
import { Errno, type Fd } from '../../sys/libc.ts';
import { ATTR, cloneMounts, setMountFlags } from '../../sys/mount-tree.ts';
import { isMountPoint } from '../../sys/mountinfo.ts';
import { SystemFault } from '../../model/errors.ts';
import { removeTree } from '../remove-tree.ts';

const run = promisify(execFile);

const FAILED = "failed to copy the image's content to the volume";
/** The copy while it is incomplete; deleted after a crash. */
const FILLING = '_filling';
/** The complete copy, whose entries are being moved. */
const FILLED = '_filled';

/**
 * Fills `data`, if it is empty, with the content of `destination` as seen from inside `rootfs`.
 * @throws SystemFault when the copy fails
 */
export async function copyUp(directory: string, data: string, rootfs: string, destination: string): Promise<void> {
  if (!(await isEmpty(data))) return;
  // Copied through a descriptor: no symbolic link leads out of the rootfs, and the path cannot change meanwhile.
  const source = openDirectory(rootfs, destination);
  if (source === undefined) return;
  try {
    const from = `/proc/${process.pid}/fd/${source}/.`;
    if (isMountPoint(data)) {
      // rename(2) does not work across file systems.
      const target = openSync(data, constants.O_RDONLY | constants.O_DIRECTORY);
      await copyInto(target, from).finally(() => closeSync(target));
      return;
    }
    await removeTree(join(directory, FILLING));
    await copy(from, join(directory, FILLING));
  } finally {
    closeSync(source);
  }
  faultPoint('volume.filling');
  await rename(join(directory, FILLING), join(directory, FILLED));
  faultPoint('volume.filled');
  await moveIn(directory, data);
}

/**
 * The same for a directory of the volume. If there is none, nothing is done: the start will say so. After a crash, part
 * of the copy may be there.
 * @throws SystemFault when the copy fails
 */
export async function copyUpBelow(data: string, subpath: string, rootfs: string, destination: string): Promise<void> {
  const target = openDirectory(data, subpath, pathBeneath);
  if (target === undefined) return;
  try {
    if (!(await isEmpty(`/proc/self/fd/${target}`))) return;
    const source = openDirectory(rootfs, destination);
    if (source === undefined) return;
    await copyInto(target, `/proc/${process.pid}/fd/${source}/.`).finally(() => closeSync(source));
  } finally {
    closeSync(target);
  }
}

/** Whether a crash interrupted it. */
export const isCopyUpUnfinished = (directory: string): boolean =>
  [FILLING, FILLED].some((name) => existsSync(join(directory, name)));

/** After a crash: moves a complete copy in, and deletes an incomplete one. */
export async function finishCopyUp(directory: string, data: string): Promise<void> {
  await removeTree(join(directory, FILLING));
  await moveIn(directory, data);
}

// Reads no more than one entry: a volume may have any number of them.
async function isEmpty(path: string): Promise<boolean> {
  const directory = await opendir(path);
  try {
    return (await directory.read()) === null;
  } finally {
    await directory.close();
  }
}

async function moveIn(directory: string, data: string): Promise<void> {
  const filled = join(directory, FILLED);
  const entries = await readdir(filled).catch(() => undefined);
  if (!entries) return;
  for (const name of entries) {
    if (!(await exists(join(data, name)))) await rename(join(filled, name), join(data, name));
  }
  const { uid, gid, mode, atime, mtime } = await lstat(filled);
  await chown(data, uid, gid);
  await chmod(data, mode & 0o7777);
  await utimes(data, atime, mtime);
  await removeTree(filled);
}

/** undefined when there is no directory. */
function openDirectory(root: string, path: string, resolve = pathInRoot): number | undefined {
  let fd: number;
  try {
    fd = resolve(root, path);
  } catch (error) {
    if (error instanceof Errno && ['ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV'].includes(error.code)) return undefined;
    throw error;
  }
  if (fstatSync(fd).isDirectory()) return fd;
  closeSync(fd);
  return undefined;
}

/**
 * Copies into a directory that other containers may be writing to. They can plant links, devices and FIFOs at the paths
 * to be written: cp(1) writes through a mount that follows no symbolic link and opens no device, and opens no file that
 * it has not created.
 */
async function copyInto(directory: Fd, from: string): Promise<void> {
  try {
    const guarded = cloneMounts(directory);
    try {
      setMountFlags(ATTR.NODEV | ATTR.NOSYMFOLLOW, guarded);
      await copy(from, `/proc/${process.pid}/fd/${guarded}`, ['--no-clobber']);
    } finally {
      closeSync(guarded);
    }
  } catch (error) {
    if (error instanceof Errno) throw new SystemFault(`${FAILED}: ${error.message}`);
    throw error;
  }
}

/** cp -a keeps owners, modes, times, links, sparse files and extended attributes, and follows no link. */
async function copy(from: string, to: string, options: string[] = []): Promise<void> {
  try {
    await run('cp', ['-a', ...options, '--', from, to], { env: { PATH: process.env.PATH, LC_ALL: 'C' } });
  } catch (error) {
    const { message, stderr = '' } = error as Error & { stderr?: string };
    // coreutils 9.2 to 9.4 fail when --no-clobber has kept a file.
    const reasons = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('cp: not replacing '));
    if (stderr !== '' && reasons.length === 0) return;
    throw new SystemFault(`${FAILED}: ${reasons.join('\n') || message}`);
  }
}

const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );
