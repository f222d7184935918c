/**
 * Copy-up: an empty volume begins with what the image has at the place where it is mounted, owner and modes included.
 *
 * The copy is made beside the volume's data and its entries are renamed into it when it is whole: after a crash a
 * volume is
 * empty (and filled the next time) or the rest is moved in at the next start, but it never passes for filled with half
 * of it.
 * The data directory itself stays the same one, as running containers may have it mounted already.
 */
import { execFile } from 'node:child_process';
import { closeSync, fstatSync } from 'node:fs';
import { chmod, chown, lstat, readdir, rename, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { faultPoint } from '../../sys/fault.ts';
import { pathInRoot } from '../../sys/inroot.ts';
import { Errno } from '../../sys/libc.ts';
import { isMountPoint } from '../../sys/mountinfo.ts';
import { SystemFault } from '../../model/errors.ts';

const run = promisify(execFile);

/** Being copied; worthless after a crash. */
const FILLING = '_filling';
/** Copied wholly; its entries are being moved. */
const FILLED = '_filled';

/** Fills `data`, if it is empty, with the content of `destination` as seen from inside `rootfs`. */
export async function copyUp(directory: string, data: string, rootfs: string, destination: string): Promise<void> {
  if ((await readdir(data)).length > 0) return;
  // Held open: no link in the image leads out of it, and nothing changes between the look and the copy.
  const source = openDirectory(rootfs, destination);
  if (source === undefined) return;
  try {
    const from = `/proc/${process.pid}/fd/${source}/.`;
    if (isMountPoint(data)) {
      // Another file system is mounted there: nothing can be renamed into it.
      await copy(from, data);
      return;
    }
    await rm(join(directory, FILLING), { recursive: true, force: true });
    await copy(from, join(directory, FILLING));
  } finally {
    closeSync(source);
  }
  faultPoint('volume.filling');
  await rename(join(directory, FILLING), join(directory, FILLED));
  faultPoint('volume.filled');
  await moveIn(directory, data);
}

/** After a crash: what was copied wholly is moved in, the rest is thrown away. */
export async function finishCopyUp(directory: string, data: string): Promise<void> {
  await rm(join(directory, FILLING), { recursive: true, force: true });
  await moveIn(directory, data);
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
  await rm(filled, { recursive: true, force: true });
}

/** undefined when the image has no directory there. */
function openDirectory(rootfs: string, path: string): number | undefined {
  let fd: number;
  try {
    fd = pathInRoot(rootfs, path);
  } catch (error) {
    if (error instanceof Errno && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.code)) return undefined;
    throw error;
  }
  if (fstatSync(fd).isDirectory()) return fd;
  closeSync(fd);
  return undefined;
}

/** cp(1) keeps owners, modes, times, links, sparse files and extended attributes, and follows no link. */
async function copy(from: string, to: string): Promise<void> {
  try {
    await run('cp', ['-a', '--', from, to]);
  } catch (error) {
    throw new SystemFault(
      `failed to copy the image's content to the volume: ${(error as { stderr?: string }).stderr?.trim() || (error as Error).message}`,
    );
  }
}

const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );
