import { isAbsolute, posix } from 'node:path';
import { InvalidParameter } from '../../model/errors.ts';

/** The path in the form in which destinations are compared and mounted: normalized, without a trailing slash. */
export function cleanPath(path: string): string {
  const normal = posix.normalize(path);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

/** @throws InvalidParameter for `/` and for relative paths */
export function checkTarget(target: string): void {
  if (cleanPath(target) === '/') throw new InvalidParameter("invalid specification: destination can't be '/'");
  if (!isAbsolute(target)) throw new InvalidParameter(`invalid mount path: '${target}' mount path must be absolute`);
}
