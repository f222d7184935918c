/** Decides what a shim does with the container of a dead one, from the journal and the boot id. Pure. */
import type { RunState } from '../protocol/runstate.ts';
import type { PendingIntents } from './pending-intents.ts';

export interface Found {
  state: RunState;
  pending: PendingIntents;
  /** What the runtime and the cgroup have of the container; null = nothing alive, or not asked. */
  living: Living | null;
  /** Boot id of the running kernel. */
  boot: string;
}

/** An init that is alive, by the runtime or the cgroup. */
export interface Living {
  status: 'created' | 'running' | 'paused';
  pid: number;
  startTime: string;
  gen: number;
}

export type Takeover =
  /** Dead and final, or never started. */
  | { do: 'rest' }
  /** The init was running: it still is, or its death must be journalled. */
  | { do: 'adopt' }
  /** It runs, and the journal does not say so: the record of its start is made up for. */
  | { do: 'adopt-found'; as: 'running' | 'paused'; living: Living }
  /** Created and waiting for its start, and the journal does not say so. */
  | { do: 'clear-found'; living: Living }
  /**
   * A create or start was under way. If it did not succeed, undo it, then `fail` it, or `retry` it if it belongs to a
   * restart.
   */
  | { do: 'clear'; then: 'fail' | 'retry' }
  /** Dead, and whether a restart follows is not decided. */
  | { do: 'decide' }
  /** Dead, and a restart is due, by policy or by a client's `restart`. */
  | { do: 'await-restart'; by: 'policy' | 'client' }
  /** Dead, decided, and not yet final. */
  | { do: 'finish' }
  /** It ran when the host went down: its exit code is unknown. */
  | { do: 'lost' }
  /** It was being started when the host went down. */
  | { do: 'fail' };

export function plan({ state, pending, boot, living }: Found): Takeover {
  const isStarting = state.status === 'starting' || state.status === 'restarting';
  if (living && !isKnown(state, living)) {
    const { status } = living;
    if (status !== 'created') return { do: 'adopt-found', as: status, living };
    // A create under way is undone as such, whether its record is missing or not.
    if (!isStarting || state.final) return { do: 'clear-found', living };
  }
  const sameBoot = state.boot === boot;
  const byClient = pending.intents.some((intent) => intent.restart);
  switch (state.status) {
    case 'running':
    case 'paused':
      return { do: sameBoot ? 'adopt' : 'lost' };
    case 'starting':
      if (!sameBoot) return { do: 'fail' };
      return { do: 'clear', then: byClient ? 'retry' : 'fail' };
    case 'restarting':
      // Its network did not survive the reboot: only the daemon can start it.
      if (!sameBoot) return { do: 'finish' };
      return pending.restartAt === '' ? { do: 'clear', then: 'retry' } : { do: 'await-restart', by: 'policy' };
    case 'created':
    case 'exited':
      if (state.final) return { do: 'rest' };
      if (!sameBoot || !pending.undecided) return { do: 'finish' };
      return byClient ? { do: 'await-restart', by: 'client' } : { do: 'decide' };
  }
}

const isKnown = (state: RunState, { pid, startTime }: Living): boolean =>
  !state.final && state.pid === pid && state.pidStartTime === startTime;
