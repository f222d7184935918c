/**
 * What a starting daemon does with each container it finds: pure decisions, from what the row, the journal, the mount
 * table, the cgroup and the boot id say. recover.ts carries them out.
 */
import type { HostConfig } from '../../../model/container-config.ts';
import type { Phase } from '../../../model/container.ts';
import type { RunState } from '../../../protocol/runstate.ts';

/** What is known of a container before its shim, or a new one, has told more. */
export interface Evidence {
  /** `silent`: it holds the container's lock and does not answer, being frozen or stuck. `dead`: the lock is free. */
  shim: 'answers' | 'silent' | 'dead';
  /** Journal and row, the later of the two, do not say that it is dead with no restart pending. */
  mustLive: boolean;
  /** The runtime, a keeper or the cgroup has something of it: if journal and row say dead, they have lost records. */
  hasTraces: boolean;
}

/**
 * Whom a daemon believes. The order of proof: a shim that answers; the journal and the row; the runtime and the cgroup
 * where those two say dead, asked by a new shim. Silence proves nothing.
 */
export type Contact =
  /** The shim tells. */
  | 'ask'
  /** Show what is known, release nothing, refuse what needs the shim after a while, try again. */
  | 'wait'
  /** A new shim finds out what lives, adopts it or records its end. */
  | 'succeed'
  /** It is dead. */
  | 'rest';

export function planContact({ shim, mustLive, hasTraces }: Evidence): Contact {
  if (shim === 'answers') return 'ask';
  if (shim === 'silent') return 'wait';
  return mustLive || hasTraces ? 'succeed' : 'rest';
}

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
  /** A process is in its cgroup although it is final: no shim could be found that knows it. */
  mayLive: boolean;
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
  if (!state.final || found.mayLive) return steps;
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
  /** It has a journal, a shim or a process: the row was lost, and the container may be alive. */
  | 'report';

export function orphanFate(found: { hasJournal: boolean; isLocked: boolean; hasTraces: boolean }): OrphanFate {
  return found.hasJournal || found.isLocked || found.hasTraces ? 'report' : 'delete';
}
