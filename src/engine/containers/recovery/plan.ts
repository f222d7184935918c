/**
 * What a starting daemon does with each container it finds: pure decisions, from what the row, the journal, the mount
 * table and the boot id say. recover.ts carries them out.
 */
import type { HostConfig } from '../../../model/container-config.ts';
import type { Phase } from '../../../model/container.ts';
import type { RunState } from '../../../protocol/runstate.ts';

/** What is known of a container when its shim has answered, or its journal was read because no shim lives. */
export interface Found {
  phase: Phase;
  state: Pick<RunState, 'status' | 'final' | 'gen'>;
  /** The last run belongs to an earlier boot: nothing of it is alive. */
  ofEarlierBoot: boolean;
  /** Its shim is connected. */
  shimAnswers: boolean;
  /** The dead daemon paused it for a commit. */
  pausedForCommit: boolean;
  /** It has addresses, ports, a network namespace, or something mounted below its run directory. */
  holdsResources: boolean;
  autoRemove: boolean;
}

export type Step =
  /** The daemon died within a start, and its client with it: the shim undoes the start. */
  | 'abandon-start'
  | 'resume-after-commit'
  | 'tear-down'
  /** Finishes a removal that the last daemon had started. */
  | 'finish-removal'
  /** An --rm container whose end no daemon saw. */
  | 'auto-remove';

/** The steps in order. After `abandon-start` the state has changed: plan again. */
export function planRecovery(found: Found): Step[] {
  const { state } = found;
  if (found.phase === 'removing') return ['finish-removal'];
  if (state.status === 'starting' && found.shimAnswers) return ['abandon-start'];
  const steps: Step[] = [];
  if (found.pausedForCommit) steps.push('resume-after-commit');
  if (!state.final) return steps;
  if (found.holdsResources) steps.push('tear-down');
  // After a boot an --rm container is kept, as in dockerd: no process saw its end.
  if (found.autoRemove && state.gen > 0 && !found.ofEarlierBoot) steps.push('auto-remove');
  return steps;
}

/**
 * Whether the restart policy starts an ended container when the daemon starts (moby daemon/daemon.go, restore;
 * restartmanager.go, ShouldRestart). Only `unless-stopped` heeds that a client has stopped it.
 */
export function startsWithDaemon(policy: HostConfig['RestartPolicy'], state: RunState): boolean {
  const hasBeenStarted = state.startedAt !== '';
  if (!hasBeenStarted) return false;
  switch (policy.Name) {
    case 'always':
      return true;
    case 'unless-stopped':
      return !state.stoppedByUser;
    case 'on-failure': {
      const triesLeft = policy.MaximumRetryCount === 0 || state.restartCount < policy.MaximumRetryCount;
      return state.exitCode !== 0 && triesLeft;
    }
    default:
      return false;
  }
}

/** What to do with a container directory that no row names. */
export type OrphanFate =
  /** A create that was never answered left it. */
  | 'delete'
  /** It has a journal: the row was lost, and the container may be alive. */
  | 'report'
  /** A shim holds its lock. */
  | 'leave';

export function orphanFate(found: { hasJournal: boolean; isLocked: boolean }): OrphanFate {
  if (found.hasJournal) return 'report';
  return found.isLocked ? 'leave' : 'delete';
}
