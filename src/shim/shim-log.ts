/** The shim's own small log, for the day something goes wrong: one line each, bounded. */
import { appendFileSync, statSync, truncateSync } from 'node:fs';

const MAX_BYTES = 256 * 1024;

/** Never throws: a complaint about a full disk must not make things worse. */
export function complainTo(file: string, what: string, error: unknown): void {
  try {
    if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) > MAX_BYTES) truncateSync(file, 0);
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    appendFileSync(file, `${new Date().toISOString()} ${process.pid} ${what}: ${reason}\n`, { mode: 0o600 });
  } catch {
    return;
  }
}
