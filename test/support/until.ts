/** Waits for a condition instead of a guessed time. */
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 10;
const MAX_SOURCE_CHARS = 200;

type Falsy = false | 0 | '' | null | undefined;

/**
 * Polls until `condition` returns something truthy, and returns that.
 * @throws when it does not within `deadlineMs`, with the condition's source; or what the condition throws
 */
export function until(condition: () => boolean | Promise<boolean>, deadlineMs?: number): Promise<void>;
export function until<T>(condition: () => T, deadlineMs?: number): Promise<Exclude<T, Falsy>>;
export async function until(condition: () => unknown, deadlineMs = 20_000): Promise<unknown> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) {
      const source = condition.toString().slice(0, MAX_SOURCE_CHARS);
      throw new Error(`not within ${deadlineMs} ms: ${source}`);
    }
    await sleep(POLL_MS);
  }
}
