/** What a shim does with what a dead one left: pure, from the journal's last word and what the kernel says. */
import type { RunState } from '../protocol/runstate.ts';
import type { Carried } from './pending-intents.ts';

export interface Found {
  state: RunState;
  carried: Carried;
  /** This boot's id. */
  boot: string;
}

export type Takeover =
  /** Dead and settled, or never run. */
  | { do: 'rest' }
  /** Its init was running: it still is, or its death is to be told. */
  | { do: 'adopt' }
  /**
   * A create or start was under way: undo it, unless it turns out to have succeeded; then `fail` it, or `retry` where
   * no client waits for it.
   */
  | { do: 'clear'; then: 'fail' | 'retry' }
  /** Dead, and nothing was decided. */
  | { do: 'decide' }
  /** Dead, and a restart is due, by policy or by a client's `restart`. */
  | { do: 'await-restart'; by: 'policy' | 'client' }
  /** Dead, decided, and not yet final. */
  | { do: 'finish' }
  /** It ran when the host went down: nobody knows its end. */
  | { do: 'lost' }
  /** It was being started when the host went down. */
  | { do: 'fail' };

export function plan({ state, carried, boot }: Found): Takeover {
  const sameBoot = state.boot === boot;
  const byClient = carried.intents.some((intent) => intent.restart);
  switch (state.status) {
    case 'running':
    case 'paused':
      return { do: sameBoot ? 'adopt' : 'lost' };
    case 'starting':
      if (!sameBoot) return { do: 'fail' };
      return { do: 'clear', then: byClient ? 'retry' : 'fail' };
    case 'restarting':
      // Its network did not survive the boot: the daemon starts it, if it is to be.
      if (!sameBoot) return { do: 'finish' };
      return carried.restartAt === '' ? { do: 'clear', then: 'retry' } : { do: 'await-restart', by: 'policy' };
    case 'created':
    case 'exited':
      if (state.final) return { do: 'rest' };
      if (!sameBoot || !carried.undecided) return { do: 'finish' };
      return byClient ? { do: 'await-restart', by: 'client' } : { do: 'decide' };
  }
}
