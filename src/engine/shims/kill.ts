/** Kills a shim that does not answer, only when a client asked to end its container. A successor does the rest. */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { CTL_SOCKET } from '../../protocol/paths.ts';
import { pidfdKill, pidfdOpen, SIGKILL } from '../../sys/process.ts';
import { listenerPid } from '../../sys/socket.ts';

/** Kills the shim that listens in the run directory `run`. False when none does. */
export function killShim(run: string): boolean {
  const socket = join(run, CTL_SOCKET);
  const pid = listenerPid(socket);
  if (pid === undefined) return false;
  const pidfd = pidfdOpen(pid);
  try {
    // It still listens, so the pidfd is the shim's: its pid was not reused in between.
    return listenerPid(socket) === pid && pidfdKill(pidfd, SIGKILL);
  } finally {
    closeSync(pidfd);
  }
}
