/** Finds programs. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Path of a program in PATH or in the usual directories, /sbin included; undefined when not installed. */
export function findProgram(name: string, env: NodeJS.ProcessEnv): string | undefined {
  const directories = [
    ...(env.PATH ?? '').split(delimiter).filter(Boolean),
    '/usr/local/sbin',
    '/usr/local/bin',
    '/usr/sbin',
    '/usr/bin',
    '/sbin',
    '/bin',
  ];
  return directories.map((directory) => join(directory, name)).find(isExecutable);
}

/** Whether this process may execute the file at `path`. */
export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
