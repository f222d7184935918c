/**
 * Directories of any depth in a process that walks them synchronously: a path longer than PATH_MAX is walked in parts,
 * each from another working directory. path_resolution(7)
 */
import { closeSync, constants, openSync } from 'node:fs';
import { enterDirectory } from '../../sys/jail.ts';
import { bytes } from './byte-path.ts';

/** With one more name, paths stay below PATH_MAX. */
const MAX_DIRECT_BYTES = 2048;
/** A container may nest directories without end, and each file's path goes into archives and lists as a whole. */
const MAX_PATH_BYTES = 16 * 1024;
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

/** Whether a directory should be walked by `inDirectory`. */
export const isDeep = (directory: string): boolean => directory.length > MAX_DIRECT_BYTES;

/**
 * Runs `work` with `directory`, in latin1, as the working directory.
 * @throws the errors of open(2); ENOTDIR or ELOOP for a symbolic link
 */
export function inDirectory<T>(directory: string, work: () => T): T {
  const before = openSync('.', DIRECTORY);
  try {
    const fd = openSync(bytes(directory), DIRECTORY | constants.O_NOFOLLOW);
    try {
      enterDirectory(fd);
    } finally {
      closeSync(fd);
    }
    try {
      return work();
    } finally {
      enterDirectory(before);
    }
  } finally {
    closeSync(before);
  }
}

/** @throws for a path from the walk's start that is too long for archives and lists */
export function checkPathLength(path: string): void {
  if (path.length > MAX_PATH_BYTES) throw new Error(`a path of more than ${MAX_PATH_BYTES} bytes`);
}
