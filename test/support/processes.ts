/** Processes as the kernel knows them. */
import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** State letter of proc_pid_stat(5): `T` is stopped, `Z` a zombie; '' when there is no such process. */
export function processState(pid: number): string {
  try {
    return /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1] ?? '';
  } catch {
    return '';
  }
}

/** A zombie counts as dead: in a test's container PID 1 may not reap. */
export const isDead = (pid: number): boolean => ['', 'Z', 'X'].includes(processState(pid));

export const hasExited = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

/** Resolves with the exit code once `child` has ended, or -1 when a signal killed it. */
export const exited = (child: ChildProcess): Promise<number> =>
  new Promise((resolve) => {
    if (hasExited(child)) resolve(child.exitCode ?? -1);
    else child.once('exit', (code) => resolve(code ?? -1));
  });

/** Pids of other processes with a file descriptor below `directory`. */
export function processesHolding(directory: string): number[] {
  const holds = (pid: string): boolean => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(directory));
    } catch {
      return false;
    }
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid && holds(name))
    .map(Number);
}
