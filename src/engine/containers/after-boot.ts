/**
 * Which containers a daemon starts after the host has booted (moby daemon/container: ShouldRestart at daemon start).
 */
import type { RunState } from '../../protocol/runstate.ts';

export function startsAfterBoot(policy: { Name: string; MaximumRetryCount: number }, state: RunState): boolean {
  if (state.gen === 0) return false;
  switch (policy.Name) {
    case 'always':
      return true;
    case 'unless-stopped':
      return !state.stoppedByUser;
    case 'on-failure':
      return (
        !state.stoppedByUser &&
        state.exitCode !== 0 &&
        (policy.MaximumRetryCount === 0 || state.restartCount < policy.MaximumRetryCount)
      );
    default:
      return false;
  }
}
