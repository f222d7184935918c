import { posix } from 'node:path';

/**
 * A path as an instruction means it: relative ones begin at the working directory. What is meant as a directory keeps a
 * slash at its end.
 */
export function inImage(directory: string, path: string): string {
  const isDirectory = path === '' || path === '.' || path.endsWith('/') || path.endsWith('/.');
  const absolute = posix.resolve('/', directory, path);
  return isDirectory && absolute !== '/' ? `${absolute}/` : absolute;
}
