/** The process, or the host, has no file descriptor left: others are about to be closed. */

/** How long a step that needs one is tried again. */
export const SHORTAGE_MS = 5_000;
export const SHORTAGE_POLL_MS = 50;

export function isShortage(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EMFILE' || code === 'ENFILE';
}
