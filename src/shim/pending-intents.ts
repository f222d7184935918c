/**
 * What a successor must know beyond the run state: intents that were journalled and not finished. Like the run state, a
 * fold over the journal. Serialized as `carried` in a journal's snapshot.
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
  /** CLOCK_MONOTONIC ns, decimal: when the deadline began. */
  since: string;
  /** Its first signal was sent. */
  sent: boolean;
}

export interface PendingIntents {
  /** Operation of the create or start that made this generation; '' = the restart policy. */
  operation: string;
  /** Oldest first. They end with the container's death. */
  intents: StopIntent[];
  /** The init died, and whether a restart follows is not journalled yet. */
  undecided: boolean;
  /** When the restart policy starts the container, CLOCK_MONOTONIC ns; '' = no restart is due. */
  restartAt: string;
  /** The last back-off, ms; 0 = none yet. */
  backoffMs: number;
  /** CLOCK_MONOTONIC ns of the last start. */
  startedMono: string;
  /** OOM kills of this generation that are journalled. */
  oomKills: number;
  /** The host goes down. */
  shutdown: boolean;
}

export const initialIntents = (): PendingIntents => ({
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
export function reduceIntents(c: PendingIntents, r: JournalRecord): PendingIntents {
  switch (r.type) {
    case 'creating':
      // A start by a client resets the back-off; one by policy (no operation) continues it.
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
      // A stop's `stopped` follows `final`; kills and restarts are done.
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
