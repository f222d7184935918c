/**
 * What a shim's successor must know beyond the run state: intents that were journalled and not finished. A fold over
 * the journal.
 */
import type { JournalRecord } from '../protocol/records.ts';

/** A stop, kill or restart that a client asked for. */
export interface StopIntent {
  operation: string;
  signal: number;
  /** -1 = no deadline. */
  deadlineMs: number;
  restart: boolean;
  kill: boolean;
  /** CLOCK_MONOTONIC ns, decimal: the deadline counts from here. */
  since: string;
  /** Its first signal was sent. */
  sent: boolean;
}

export interface Carried {
  /** Of the create or start that is under way or made this generation; '' = by the restart policy. */
  operation: string;
  /** In the order they came; they end with the container's death. */
  intents: StopIntent[];
  /** The container's init died and nothing was decided yet. */
  undecided: boolean;
  /** When the restart policy strikes; '' = not. Monotonic ns. */
  restartAt: string;
  /** The last back-off; 0 = none yet. */
  backoffMs: number;
  /** CLOCK_MONOTONIC ns of the last start. */
  startedMono: string;
  /** Of this generation, as far as the journal tells. */
  oomKills: number;
  /** The host goes down. */
  shutdown: boolean;
}

export const initialCarried = (): Carried => ({
  operation: '',
  intents: [],
  undecided: false,
  restartAt: '',
  backoffMs: 0,
  startedMono: '',
  oomKills: 0,
  shutdown: false,
});

/** Applies one record. Pure. */
export function carry(c: Carried, r: JournalRecord): Carried {
  switch (r.type) {
    case 'creating':
      // By hand the back-off begins anew; by policy (no operation) it goes on.
      return {
        ...c,
        operation: r.operation,
        undecided: false,
        restartAt: '',
        oomKills: 0,
        shutdown: false,
        backoffMs: r.operation === '' ? c.backoffMs : 0,
      };
    case 'started':
      return { ...c, startedMono: r.mono };
    case 'failed':
      return { ...c, intents: [] };
    case 'oom':
      return { ...c, oomKills: r.kills ?? c.oomKills + 1 };
    case 'exited':
      return { ...c, undecided: true };
    case 'restarting': {
      const delayNs = BigInt(r.at) - BigInt(r.wall);
      return {
        ...c,
        undecided: false,
        intents: [],
        restartAt: String(BigInt(r.mono) + delayNs),
        backoffMs: Number(delayNs / 1_000_000n),
      };
    }
    case 'final':
      // Stops that wait for the death still owe their `stopped`; the rest is done.
      return { ...c, undecided: false, restartAt: '', intents: c.intents.filter((i) => !i.kill && !i.restart) };
    case 'stopping':
      return {
        ...c,
        intents: [
          ...c.intents,
          {
            operation: r.operation,
            signal: r.signal,
            deadlineMs: r.deadlineMs,
            restart: r.restart,
            kill: r.kill === true,
            since: r.mono,
            sent: false,
          },
        ],
      };
    case 'killed':
      return { ...c, intents: c.intents.map((i) => (i.signal === r.signal ? { ...i, sent: true } : i)) };
    case 'stopped':
    case 'restarted':
      return { ...c, intents: c.intents.filter((i) => i.operation !== r.operation) };
    case 'shutdown':
      return { ...c, shutdown: true };
    default:
      return c;
  }
}
