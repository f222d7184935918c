/** What a compaction of the journal keeps. Pure. */
import { encodeRecord, encodeSnapshot, type ParsedJournal, type Snapshot } from '../protocol/journal-format.ts';
import type { JournalRecord } from '../protocol/records.ts';
import { applyRecord, initialRunState, type RunState } from '../protocol/runstate.ts';
import { initialIntents, reduceIntents, type PendingIntents } from './pending-intents.ts';

/** Probes kept while no daemon commits: a week at the default interval of 30 s. */
const HEALTH_RECORDS = 20_160;

/**
 * The lines of a compacted journal: a snapshot of what is committed, then the rest without the oldest surplus probes.
 * undefined when the compaction would drop nothing.
 */
export function compactedLines({ snapshot, records }: ParsedJournal, committed: number): Buffer[] | undefined {
  const done = records.filter((r) => r.seq <= committed);
  const rest = bounded(records.filter((r) => r.seq > committed));
  if (done.length === 0 && rest.length === records.length) return undefined;
  const seq = Math.max(committed, snapshot?.seq ?? 0);
  const { state, pending } = fold(snapshot, done);
  return [encodeSnapshot({ seq, state, carried: pending }), ...rest.map(encodeRecord)];
}

/** The run state and the pending intents after `records`. */
export function fold(
  snapshot: Snapshot | null,
  records: JournalRecord[],
): { state: RunState; pending: PendingIntents } {
  const carried = snapshot?.carried as Partial<PendingIntents> | undefined;
  return {
    state: records.reduce(applyRecord, snapshot?.state ?? initialRunState()),
    pending: records.reduce(reduceIntents, { ...initialIntents(), ...carried }),
  };
}

/** Drops the oldest probes' records beyond `keep`, except those that changed the status. */
export function bounded(records: JournalRecord[], keep = HEALTH_RECORDS): JournalRecord[] {
  let status = '';
  const droppable: JournalRecord[] = [];
  for (const r of records) {
    if (r.type !== 'health') continue;
    if (r.status === status) droppable.push(r);
    status = r.status;
  }
  const drop = new Set(droppable.slice(0, Math.max(droppable.length - keep, 0)));
  return drop.size === 0 ? records : records.filter((r) => !drop.has(r));
}
