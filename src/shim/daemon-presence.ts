/** Whether a daemon is there, also one that has no connection: it rests while nothing is asked. */
import { readFileSync } from 'node:fs';
import { isAlive } from '../sys/process.ts';

/** `path`: the file that names the daemon by pid and start time; undefined = an older daemon's, which has none. */
export function daemonLives(path: string | undefined): boolean {
  if (path === undefined) return false;
  try {
    const [pid, startTime] = readFileSync(path, 'latin1').trim().split(' ');
    return startTime !== undefined && isAlive(Number(pid), startTime);
  } catch {
    return false;
  }
}
