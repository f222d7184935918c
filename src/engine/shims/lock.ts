/** The proof that a container has no shim: its lock is free. */
import { existsSync } from 'node:fs';
import { tryLock } from '../../sys/file.ts';

const POLL_MS = 20;

/** Whether the lock at `path` is free, after waiting up to `ms` for a shim that is ending. @throws Errno */
export async function isLockFree(path: string, ms: number): Promise<boolean> {
  // Of a container that was never started. Making the file would cost a starting daemon more than all the rest.
  if (!existsSync(path)) return true;
  for (const end = Date.now() + ms; ;) {
    const lock = tryLock(path);
    lock?.release();
    if (lock) return true;
    if (Date.now() >= end) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
