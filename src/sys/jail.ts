/** Confines a worker process to one directory, and to the lifetime of its parent. chroot(2), prctl(2). */
import { check, declare, type Fd } from './libc.ts';
import { SIGKILL } from './process.ts';

const chrootCall = declare('int chroot(const char *path)');
const chdirCall = declare('int chdir(const char *path)');
const fchdirCall = declare('int fchdir(int fd)');
const prctlCall = declare('int prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');

const PR_SET_PDEATHSIG = 1;

/** Changes the root of this process, including its thread pool: all threads share their root directory. */
export function jailProcess(root: string): void {
  check(chrootCall(root), 'chroot', root);
  check(chdirCall('/'), 'chdir');
}

/** Changes the working directory to an open directory. fchdir(2). */
export const enterDirectory = (fd: Fd): void => void check(fchdirCall(fd), 'fchdir');

/**
 * Has the kernel kill this process when its parent dies. Returns false when `parent`, the PID that spawned it, is dead
 * already.
 */
export function dieWithParent(parent: number): boolean {
  check(prctlCall(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), 'prctl');
  return process.ppid === parent;
}
