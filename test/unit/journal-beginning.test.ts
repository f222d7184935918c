/** What a shim believes of a journal that may have lost records. */
import { describe, expect, test } from 'vitest';
import type { ParsedJournal } from '../../src/protocol/journal-format.ts';
import type { JournalRecord, RecordBody } from '../../src/protocol/records.ts';
import { applyRecord, initialRunState, type RunState } from '../../src/protocol/runstate.ts';
import { initialIntents } from '../../src/shim/pending-intents.ts';
import { beginningOf } from '../../src/shim/journal-beginning.ts';

const life: RecordBody[] = [
  { type: 'adopted', shimPid: 5, bundle: 'b' },
  { type: 'creating', operation: 'a' },
  { type: 'created', pid: 9, startTime: '1' },
  { type: 'started', pid: 9, startTime: '1', operation: 'a' },
  { type: 'exited', code: 3, signal: 0, oomKilled: false },
  { type: 'final', user: false },
];
const all: JournalRecord[] = life.map((body, i) => ({
  seq: i + 1,
  gen: i === 0 ? 0 : 1,
  boot: 'b',
  wall: '1',
  mono: '1',
  ...body,
}));
const after = (seq: number): RunState => all.slice(0, seq).reduce(applyRecord, initialRunState());
const stored = (seq: number) => ({ seq, state: after(seq) });
const snapshot = (seq: number) => ({ seq, state: after(seq), carried: initialIntents() });
const journal = (records: JournalRecord[], more: Partial<ParsedJournal> = {}): ParsedJournal => ({
  snapshot: null,
  records,
  seq: records.at(-1)?.seq ?? more.snapshot?.seq ?? 0,
  whole: 0,
  damaged: 0,
  ...more,
});

describe('what is believed at the beginning', () => {
  test.each([
    ['a new container', journal([]), undefined, ['journal', 'created', 0, true]],
    ['a whole journal', journal(all.slice(0, 4)), undefined, ['journal', 'running', 4, false]],
    ['a whole journal, and a row as new', journal(all.slice(0, 4)), stored(4), ['journal', 'running', 4, false]],
    ['a whole journal, and an older row', journal(all), stored(4), ['journal', 'exited', 6, false]],
    ['a shorter journal', journal(all.slice(0, 2)), stored(4), ['stored', 'running', 4, true]],
    ['an empty journal', journal([]), stored(4), ['stored', 'running', 4, true]],
    ['an empty journal of a dead container', journal([]), stored(6), ['stored', 'exited', 6, true]],
    ['only records after the row', journal(all.slice(4)), stored(4), ['stored', 'exited', 6, true]],
    ['a damaged line', journal(all.slice(0, 4), { damaged: 1 }), stored(4), ['stored', 'running', 4, true]],
    ['a damaged line and no row', journal(all.slice(0, 4), { damaged: 1 }), undefined, ['journal', 'running', 4, true]],
    [
      'a compacted journal',
      journal(all.slice(4), { snapshot: snapshot(4) }),
      stored(6),
      ['journal', 'exited', 6, false],
    ],
    ['compacted and cut', journal([], { snapshot: snapshot(4) }), stored(6), ['stored', 'exited', 6, true]],
    [
      'a damaged line after a snapshot that is newer than the row',
      journal(all.slice(5), { snapshot: snapshot(4), damaged: 1 }),
      stored(3),
      ['journal', 'exited', 6, true],
    ],
  ] as const)('%s', (_, parsed, row, [from, status, seq, isIncomplete]) => {
    const beginning = beginningOf(parsed, row);
    expect(beginning).toMatchObject({ from, seq, isIncomplete });
    expect(beginning.state.status).toBe(status);
  });

  test('a stored death of which no restart is decided is decided again', () => {
    expect(beginningOf(journal([]), stored(5)).pending.undecided).toBe(true);
    expect(beginningOf(journal([]), stored(6)).pending.undecided).toBe(false);
  });
});
