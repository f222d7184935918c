import { readFileSync } from 'node:fs';

/** The trimmed content of a file in /proc or /sys; '' if it cannot be read. */
export function readHostFile(path: string): string {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return '';
  }
}
