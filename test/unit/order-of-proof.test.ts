/**
 * Journal, row, runtime, cgroup, keeper and shim can disagree when some of them have lost what they knew, or are copies
 * of earlier ones. Every combination goes through the decisions of daemon and shim (recovery/plan.ts, takeover.ts,
 * journal-beginning.ts): what lives is neither reported dead for good, nor released, nor killed without an order.
 */
import { expect, test } from 'vitest';
import { orphanFate, planContact, planRecovery, type Evidence } from '../../src/engine/containers/recovery/plan.ts';
import type { ParsedJournal } from '../../src/protocol/journal-format.ts';
import type { JournalRecord, RecordBody } from '../../src/protocol/records.ts';
import { applyRecord, initialRunState, type RunState } from '../../src/protocol/runstate.ts';
import { beginningOf } from '../../src/shim/journal-beginning.ts';
import { plan, type Living, type Takeover } from '../../src/shim/takeover.ts';

const BOOT = 'this';
const PID = { pid: 9, startTime: '900' };
const EARLIER = { pid: 8, startTime: '800' };

/** What is true: nothing else in a combination is certain. */
const TRUTHS = {
  'never ran': [],
  'waits for its start': ['creating', 'created'],
  runs: ['creating', 'created', 'started'],
  'is paused': ['creating', 'created', 'started', 'paused'],
  'ran, and runs again': ['creating', 'created', 'started', 'exited', 'final', 'creating', 'created', 'started'],
  'has died': ['creating', 'created', 'started'],
  'has ended': ['creating', 'created', 'started', 'exited', 'final'],
} as const;
type Truth = keyof typeof TRUTHS;
const truths = Object.keys(TRUTHS) as Truth[];
const lives = (truth: Truth): boolean => !['never ran', 'has died', 'has ended'].includes(truth);

const SHIMS: Evidence['shim'][] = ['answers', 'silent', 'dead'];
/** `earlier`: a whole journal, copied back from before the last start; `lost`: empty, garbled or deleted. */
const JOURNALS = ['whole', 'earlier', 'lost'] as const;
const ROWS = ['current', 'earlier'] as const;
const RUNTIMES = ['knows it', 'has lost it'] as const;

interface Combination {
  truth: Truth;
  shim: Evidence['shim'];
  journal: (typeof JOURNALS)[number];
  row: (typeof ROWS)[number];
  runtime: (typeof RUNTIMES)[number];
}
/** Without a death that its living shim has not noticed: that is recorded within milliseconds. */
const canOccur = ({ truth, shim }: Combination): boolean => !(truth === 'has died' && shim === 'answers');
const all: Combination[] = truths.flatMap((truth) =>
  SHIMS.flatMap((shim) =>
    JOURNALS.flatMap((journal) =>
      ROWS.flatMap((row) => RUNTIMES.map((runtime) => ({ truth, shim, journal, row, runtime }))),
    ),
  ),
);
const combinations = all.filter(canOccur);

function recordsOf(truth: Truth): JournalRecord[] {
  const types: readonly string[] = TRUTHS[truth];
  let gen = 0;
  return types.map((type, i) => {
    if (type === 'creating') gen++;
    const isLastRun = !types.slice(i + 1).includes('creating');
    const { pid, startTime } = isLastRun ? PID : EARLIER;
    const common = { seq: i + 1, gen, boot: BOOT, wall: String(i + 1), mono: String(i + 1) };
    const body = { type, operation: 'o', pid, startTime, code: 0, signal: 0, oomKilled: false, user: false };
    return { ...common, ...(body as unknown as RecordBody) };
  });
}

/** The records up to the last start, without it: what a copy from before has. */
const beforeLastStart = (records: JournalRecord[]): JournalRecord[] =>
  records.slice(0, Math.max(0, records.map(({ type }) => type).lastIndexOf('creating')));

const fold = (records: JournalRecord[]): RunState => records.reduce(applyRecord, initialRunState());

const journalFile = (records: JournalRecord[]): ParsedJournal => ({
  snapshot: null,
  records,
  damaged: 0,
  whole: 0,
  seq: records.at(-1)?.seq ?? 0,
});

interface Outcome {
  contact: ReturnType<typeof planContact>;
  takeover: Takeover['do'] | undefined;
  /** The state that the daemon has after contact and takeover. */
  state: Pick<RunState, 'status' | 'final' | 'gen'>;
  /** A process is in the cgroup. */
  populated: boolean;
}

/** What daemon and shim make of a combination, by the pure functions that they use. */
function decide({ truth, shim, journal, row, runtime }: Combination): Outcome {
  const records = recordsOf(truth);
  const inJournal = { whole: records, earlier: beforeLastStart(records), lost: [] }[journal];
  const inRow = row === 'current' ? records : beforeLastStart(records);
  const populated = lives(truth);
  // A daemon folds what the journal has after the row's cursor.
  const known = [...inRow, ...inJournal.filter(({ seq }) => seq > inRow.length)].reduce(applyRecord, initialRunState());
  const mustLive = !known.final && known.gen > 0;
  const hasTraces = populated || (runtime === 'knows it' && truth === 'has died');
  const contact = planContact({ shim, mustLive, hasTraces });
  if (contact === 'ask') return { contact, takeover: undefined, state: fold(records), populated };
  if (contact !== 'succeed') return { contact, takeover: undefined, state: known, populated };

  const stored = inRow.length > 0 ? { seq: inRow.length, state: fold(inRow) } : undefined;
  const { state, pending, isIncomplete } = beginningOf(journalFile(inJournal), stored);
  const recordedLives = populated && state.pid === PID.pid;
  const living = !isIncomplete && recordedLives ? null : livingOf({ truth, runtime, state });
  const step = plan({ state, pending, boot: BOOT, living });
  return { contact, takeover: step.do, state: { ...state, ...afterwards(step, populated, state) }, populated };
}

/** living.ts: the runtime, else a process in the cgroup of a container that is final. */
function livingOf({
  truth,
  runtime,
  state,
}: Pick<Combination, 'truth' | 'runtime'> & { state: RunState }): Living | null {
  if (!lives(truth)) return null;
  const gen = Math.max(1, state.gen + (state.final ? 1 : 0));
  const status = truth === 'waits for its start' ? 'created' : truth === 'is paused' ? 'paused' : 'running';
  if (runtime === 'knows it') return { ...PID, gen, status };
  return state.final ? { ...PID, gen, status: 'running' } : null;
}

/** What the successor's steps lead to (successor.ts). */
function afterwards(step: Takeover, populated: boolean, state: RunState): Partial<RunState> {
  switch (step.do) {
    case 'rest':
      return {};
    case 'adopt':
      return populated && state.pid === PID.pid ? {} : { status: 'exited', final: true };
    case 'adopt-found':
      return { status: step.as, final: false };
    default:
      return { status: 'exited', final: true };
  }
}

test('each combination: what lives is not reported dead, released or removed [order-of-proof]', () => {
  const wrong = combinations.flatMap((combination) => {
    const { contact, takeover, state, populated } = decide(combination);
    const say = (what: string): string[] => [`${JSON.stringify(combination)}: ${what} (${contact}, ${takeover})`];
    // An init that waits for a start that is never going to come is killed: that start is undone, as its own order was.
    const isUndone = combination.truth === 'waits for its start' && (takeover?.startsWith('clear') ?? false);
    const livesOn = populated && !isUndone;
    const mayLive = state.final && livesOn;
    const steps = planRecovery({
      phase: 'ready',
      state,
      ofEarlierBoot: false,
      shimAnswers: contact === 'ask',
      pausedForCommit: false,
      mayLive,
      holdsResources: true,
      autoRemove: true,
    });
    const isKept = !steps.includes('tear-down') && !steps.includes('auto-remove');
    if (livesOn && !isKept) return say('released');
    // Without an answer from the shim, journal and row are shown; if both are from before the start, that is old.
    const isOld = contact === 'wait' && combination.journal !== 'whole' && combination.row !== 'current';
    if (livesOn && state.final && !isOld) return say('reported dead for good');
    if (!livesOn && contact !== 'wait' && !state.final) return say('reported alive');
    return [];
  });
  expect(wrong).toEqual([]);
});

test('only silence waits, and nothing alive is killed but an init whose start was cut off [proof-no-orders]', () => {
  for (const combination of combinations) {
    const { contact, takeover } = decide(combination);
    expect(contact === 'wait', JSON.stringify(combination)).toBe(combination.shim === 'silent');
    const isCleared = takeover === 'clear' || takeover === 'clear-found';
    if (isCleared) expect(combination.truth, JSON.stringify(combination)).toBe('waits for its start');
  }
});

test('a directory without a row is deleted only without journal, shim and process [orphan-table]', () => {
  for (const hasJournal of [true, false])
    for (const isLocked of [true, false])
      for (const hasTraces of [true, false])
        expect(orphanFate({ hasJournal, isLocked, hasTraces })).toBe(
          hasJournal || isLocked || hasTraces ? 'report' : 'delete',
        );
});
