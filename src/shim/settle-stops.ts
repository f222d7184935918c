/** Settles the stops that a journal still owes a record. */
import type { Journal } from './journal.ts';

/** Journals `stopped` for each pending stop: the container is dead, so nothing else is left to do. */
export function settleStops(journal: Journal): void {
  for (const { operation, restart, kill } of journal.pending.intents) {
    if (!restart && !kill) journal.append({ type: 'stopped', operation });
  }
}
