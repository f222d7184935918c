/**
 * Removes a directory with all that is in it, also what lies deeper than a path can tell: an archive or a container may
 * make such.
 */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';

/** @throws what rm(1) says where even that cannot */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENAMETOOLONG') throw error;
    // It goes from directory to directory, as Node does not.
    await promisify(execFile)('rm', ['-rf', '--one-file-system', '--', path], {
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin' },
    });
  }
}
