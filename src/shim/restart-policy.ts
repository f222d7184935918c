/** The restart policy (moby daemon/internal/restartmanager). Pure. */
import type { RestartPolicy } from '../protocol/records.ts';

const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 60_000;
/** A run of this length resets the back-off. */
const SOUND_RUN_MS = 10_000;

/** A death, as far as the policy depends on it. */
export interface Circumstances {
  code: number;
  ranMs: number;
  /** A client stopped or killed it: no restart. */
  stoppedByUser: boolean;
  /** The host goes down: no restart; the daemon decides after the boot. */
  shutdown: boolean;
  restartCount: number;
  /** The back-off before this run, ms; 0 = none. */
  backoffMs: number;
}

export type Decision = { restart: false } | { restart: true; delayMs: number; count: number };

/** Whether and when a dead container is started again. */
export function decide(policy: RestartPolicy, death: Circumstances): Decision {
  if (death.stoppedByUser || death.shutdown || !isWanted(policy, death)) return { restart: false };
  return { restart: true, delayMs: nextBackoff(death.backoffMs, death.ranMs), count: death.restartCount + 1 };
}

function isWanted(policy: RestartPolicy, { code, restartCount }: Circumstances): boolean {
  switch (policy.name) {
    case 'no':
      return false;
    case 'always':
    case 'unless-stopped':
      return true;
    case 'on-failure':
      return code !== 0 && (policy.maximumRetryCount === 0 || restartCount < policy.maximumRetryCount);
  }
}

/** The next back-off, ms: doubles from 100 ms to one minute. */
export function nextBackoff(previousMs: number, ranMs: number): number {
  if (previousMs === 0 || ranMs >= SOUND_RUN_MS) return FIRST_BACKOFF_MS;
  return Math.min(previousMs * 2, MAX_BACKOFF_MS);
}
