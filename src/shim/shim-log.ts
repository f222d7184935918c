/** The shim's own log of unexpected errors: one entry each, bounded in size. */
import { appendFileSync, statSync, truncateSync } from 'node:fs';

const MAX_BYTES = 256 * 1024;

/** Logs an error that no caller can be given: `what` failed with `error`. Never throws. */
export type LogError = (what: string, error: unknown) => void;

/** Appends one entry to `file`. Never throws: failing to log (a full disk) must not make things worse. */
export function appendErrorLog(file: string, what: string, error: unknown): void {
  try {
    if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) > MAX_BYTES) truncateSync(file, 0);
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    appendFileSync(file, `${new Date().toISOString()} ${process.pid} ${what}: ${reason}\n`, { mode: 0o600 });
  } catch {
    return;
  }
}
