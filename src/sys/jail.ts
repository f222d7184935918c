/**
 * A process of its own that can reach nothing above one directory, and does not outlive its parent. chroot(2),
 * prctl(2).
 */
import { check, declare } from './libc.ts';
import { SIGKILL } from './process.ts';

const chrootCall = declare('int chroot(const char *path)');
const chdirCall = declare('int chdir(const char *path)');
const prctlCall = declare('int prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');

const PR_SET_PDEATHSIG = 1;

/** Jails this whole process, the thread pool included (all threads share their root), under `root`. */
export function jailProcess(root: string): void {
  check(chrootCall(root), 'chroot', root);
  check(chdirCall('/'), 'chdir');
}

/**
 * This process is killed when its parent dies. `parent` is the pid that it had when it was spawned: false when that one
 * is gone already.
 */
export function dieWithParent(parent: number): boolean {
  check(prctlCall(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), 'prctl');
  return process.ppid === parent;
}
