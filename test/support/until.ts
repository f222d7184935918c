/** Waits for conditions, never for luck. */
const POLL_MS = 20;

/** Resolves when `condition` holds. @throws when it does not within `deadlineMs`, or when it throws */
export async function until(condition: () => boolean | Promise<boolean>, deadlineMs = 20_000): Promise<void> {
  for (const end = Date.now() + deadlineMs; ; await new Promise((resolve) => setTimeout(resolve, POLL_MS))) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`not within ${deadlineMs} ms: ${condition.toString().slice(0, 200)}`);
  }
}
