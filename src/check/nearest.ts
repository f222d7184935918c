import { existsSync } from 'node:fs';
import { dirname } from 'node:path';

/** The directory itself or, if it does not exist, its nearest existing ancestor. */
export const nearestExisting = (path: string): string =>
  existsSync(path) || path === '/' ? path : nearestExisting(dirname(path));
