/** Archive paths as latin1 strings, one character per byte: file names on Linux need not be UTF-8. */
import { quote, TarError } from './tar.ts';

/** An empty component, `.` or `..`. */
const UNCLEAN = /(?:^|\/)\.{0,2}(?:\/|$)/;

/**
 * Normalizes an archive's name to an absolute path.
 * @param whole names the root in the error message
 * @throws TarError when the path leads above the root
 */
export function clean(path: string, whole = 'the image'): string {
  const plain = path.slice(path.startsWith('./') ? 2 : 0, path.endsWith('/') ? -1 : undefined);
  if (!UNCLEAN.test(plain)) return `/${plain}`;
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) throw new TarError(`${quote(path)} is outside of ${whole}`);
  }
  return `/${parts.join('/')}`;
}

/** The path as bytes, for system calls. */
export const bytes = (path: string): Buffer => Buffer.from(path, 'latin1');
export const join = (directory: string, name: string): string =>
  directory === '/' ? `/${name}` : `${directory}/${name}`;
export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/';
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
