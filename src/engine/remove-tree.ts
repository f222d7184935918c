/** Removes a directory tree of any depth: archives and containers may create paths longer than PATH_MAX. */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';

/** @throws the error of rm(1) if it fails too */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENAMETOOLONG') throw error;
    // rm(1) descends with openat(2), so PATH_MAX does not apply to it.
    await promisify(execFile)('rm', ['-rf', '--one-file-system', '--', path], {
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin' },
    });
  }
}
