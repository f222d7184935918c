/** Earlier releases resolved names with aardvark-dns. One that still runs holds the addresses. */
import { closeSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Fd } from '../../sys/libc.ts';
import { pidfdKill, pidfdOpen, procStat, SIGKILL } from '../../sys/process.ts';

const PID_FILE = 'aardvark.pid';
const DEADLINE_MS = 10_000;
const STEP_MS = 2;

/**
 * Ends the aardvark-dns of this directory, and removes the directory.
 * @returns whether there was one
 * @throws when it does not end
 */
export async function endAardvark(directory: string): Promise<boolean> {
  if (!existsSync(directory)) return false;
  const ended = await end(directory);
  rmSync(directory, { recursive: true, force: true });
  return ended;
}

async function end(directory: string): Promise<boolean> {
  const pid = pidIn(directory);
  const pidfd = pid === undefined ? undefined : openedPid(pid);
  if (pid === undefined || pidfd === undefined) return false;
  try {
    // Looked at with the pidfd open, so that it is this process and none that got its pid.
    if (!isOurs(pid, directory)) return false;
    pidfdKill(pidfd, SIGKILL);
    const deadline = performance.now() + DEADLINE_MS;
    while (performance.now() < deadline) {
      if (!isRunning(pid, directory)) return true;
      await delay(STEP_MS);
    }
    throw new Error(`aardvark-dns (pid ${pid}) does not end`);
  } finally {
    closeSync(pidfd);
  }
}

function pidIn(directory: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(directory, PID_FILE), 'latin1'));
    return pid > 1 ? pid : undefined;
  } catch {
    return undefined;
  }
}

function openedPid(pid: number): Fd | undefined {
  try {
    return pidfdOpen(pid);
  } catch {
    return undefined;
  }
}

function isOurs(pid: number, directory: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').includes(directory);
  } catch {
    return false;
  }
}

// A zombie has closed its sockets, and has no command line.
const isRunning = (pid: number, directory: string): boolean => procStat(pid)?.state !== 'Z' && isOurs(pid, directory);
