/**
 * Killing a shim that does not answer: on a client's explicit wish for its container's end only. Its successor does the
 * rest.
 */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { CTL_SOCKET } from '../../protocol/paths.ts';
import { pidfdKill, pidfdOpen, SIGKILL } from '../../sys/process.ts';
import { listenerPid } from '../../sys/socket.ts';

/** Kills the shim that listens in `run`. False when none does. */
export function killShim(run: string): boolean {
  const socket = join(run, CTL_SOCKET);
  const pid = listenerPid(socket);
  if (pid === undefined) return false;
  const pidfd = pidfdOpen(pid);
  try {
    // It listens still, so it is the one that the descriptor names: no other got its pid in between.
    return listenerPid(socket) === pid && pidfdKill(pidfd, SIGKILL);
  } finally {
    closeSync(pidfd);
  }
}
