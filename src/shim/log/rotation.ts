/** The log's rotated files on disk. */
import { renameSync, statSync, unlinkSync } from 'node:fs';
import { logFile } from '../../protocol/log-format.ts';
import type { LogSpec } from '../../protocol/spec.ts';
import { faultPoint } from '../../sys/fault.ts';

export type FileSpec = Extract<LogSpec, { driver: 'json-file' }>;

/** Inodes of the log's files, oldest first. */
export function existingFiles({ path, maxFile }: FileSpec): number[] {
  const inodes: number[] = [];
  for (let n = maxFile - 1; n >= 0; n--) {
    const stat = statSync(logFile(path, n), { throwIfNoEntry: false });
    if (stat) inodes.push(stat.ino);
  }
  return inodes;
}

/** Gives every file the next number, which frees the first name; the oldest file is replaced. */
export function renameFiles({ path, maxFile }: FileSpec): void {
  if (maxFile === 1) return unlinkSync(path);
  for (let n = maxFile - 1; n > 0; n--) renameIfThere(logFile(path, n - 1), logFile(path, n));
}

function renameIfThere(from: string, to: string): void {
  try {
    renameSync(from, to);
    faultPoint('rotation.renamed');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
