/** Notices that a client disconnects while its data waits to be read: Node reports an end only behind the data. */
import { hasHungUp } from '../sys/socket.ts';

const INTERVAL_MS = 500;

/**
 * Calls `gone` when the other side has closed a socket.
 * @param descriptor -1 once our side is closed
 * @returns what stops the watch
 */
export function watchHangUp(descriptor: () => number, gone: () => void): () => void {
  const timer = setInterval(() => {
    if (!hasHungUp(descriptor())) return;
    clearInterval(timer);
    gone();
  }, INTERVAL_MS).unref();
  return () => clearInterval(timer);
}
