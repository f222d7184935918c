/**
 * What a shim believes when it opens a journal: the journal, or where that has lost records (emptied, garbled, deleted)
 * what the daemon has stored of it. Pure.
 */
import type { ParsedJournal } from '../protocol/journal-format.ts';
import type { StoredState } from '../protocol/messages.ts';
import { applyRecord, type RunState } from '../protocol/runstate.ts';
import { fold } from './compaction.ts';
import type { PendingIntents } from './pending-intents.ts';

export interface Beginning {
  state: RunState;
  pending: PendingIntents;
  /** The last sequence number in use. */
  seq: number;
  from: 'journal' | 'stored';
  /** The journal lacks records. An empty one without a stored state may be a new container's, or have lost all. */
  isIncomplete: boolean;
}

export function beginningOf(journal: ParsedJournal, stored?: StoredState): Beginning {
  const { snapshot, records, damaged } = journal;
  const own = fold(snapshot, records);
  const beginsWithin = snapshot !== null || records[0]?.seq === 1;
  const isIncomplete = !beginsWithin || damaged > 0 || journal.seq < (stored?.seq ?? 0);
  const isStoredNewer = stored !== undefined && stored.seq > 0 && isIncomplete && stored.seq > (snapshot?.seq ?? 0);
  if (!isStoredNewer) return { ...own, seq: journal.seq, from: 'journal', isIncomplete };
  const later = records.filter((record) => record.seq > stored.seq);
  const state = later.reduce(applyRecord, stored.state);
  // Its death may be all that was stored: whether a restart follows is decided again.
  const undecided = own.pending.undecided || (state.status === 'exited' && !state.final);
  return {
    state,
    pending: { ...own.pending, undecided },
    seq: Math.max(journal.seq, stored.seq),
    from: 'stored',
    isIncomplete,
  };
}
