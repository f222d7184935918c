/**
 * Removes directory trees that containers and archives have made: of any depth (paths may be longer than PATH_MAX),
 * with any number of files, and with names that are not UTF-8.
 */
import { execFile } from 'node:child_process';
import { lstat, opendir, rmdir, unlink } from 'node:fs/promises';
import { promisify } from 'node:util';

/** Larger trees are left to rm(1): the daemon's memory and event loop must not depend on a container's files. */
const FEW = 1_000;
const BATCH = 100;

/** Does nothing when `path` does not exist. @throws the error of rm(1) */
export async function removeTree(path: string): Promise<void> {
  try {
    const found = await lstat(path).catch(ifMissing);
    if (!found || (await removeFew(Buffer.from(path), found.isDirectory(), { left: FEW }))) return;
  } catch {
    // rm(1) tries again, and says what is wrong.
  }
  // It descends with openat(2), so PATH_MAX does not apply to it.
  await promisify(execFile)('rm', ['-rf', '--one-file-system', '--', path], {
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C' },
  });
}

/** Returns false, with a part of the tree removed, when it has more entries than `budget.left`. */
async function removeFew(path: Buffer, isDirectory: boolean, budget: { left: number }): Promise<boolean> {
  if (!isDirectory) {
    await unlink(path).catch(ifMissing);
    return true;
  }
  // Read in batches: a directory may have any number of entries.
  const directory = await opendir(path, { encoding: 'buffer' as BufferEncoding, bufferSize: BATCH });
  for await (const entry of directory) {
    if (--budget.left < 0) return false;
    const inner = Buffer.concat([path, SLASH, Buffer.from(entry.name)]);
    if (!(await removeFew(inner, entry.isDirectory(), budget))) return false;
  }
  await rmdir(path).catch(ifMissing);
  return true;
}

const SLASH = Buffer.from('/');

function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
