/** Paths that must be absolute. */
import { isAbsolute } from 'node:path';
import { ConfigError } from './error.ts';

/** @throws ConfigError unless `path` is absolute */
export function absolute(key: string, path: string): string {
  if (!isAbsolute(path)) throw new ConfigError(`invalid ${key}: ${JSON.stringify(path)} must be an absolute path`);
  return path;
}
