/** Network namespaces, pinned by a bind mount so that they outlive the processes in them. network_namespaces(7). */
import { closeSync, existsSync, openSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { faultPoint } from './fault.ts';
import { check, declare, type Fd } from './libc.ts';
import { mount, MS, unmount } from './mount.ts';

const unshareCall = declare('int unshare(int flags)');
const setnsCall = declare('int setns(int fd, int type)');
const CLONE_NEWNET = 0x40000000;
/** statfs(2) type of a network namespace's file. */
const NSFS_MAGIC = 0x6e736673;

/** Whether a network namespace is pinned at `path`, as this process sees it. */
export const isNetns = (path: string): boolean => existsSync(path) && statfsSync(path).type === NSFS_MAGIC;

/** Runs `work`, which must be synchronous, inside the network namespace at `path`. */
export function inNetns<T>(path: string, work: () => T): T {
  return restoringNetns(() => {
    const fd = openSync(path, 'r');
    try {
      check(setnsCall(fd, CLONE_NEWNET), 'setns', path);
    } finally {
      closeSync(fd);
    }
    return work();
  });
}

/** Creates a network namespace and pins it on the file `path`. */
export function createNetns(path: string): void {
  faultPoint('netns.before');
  writeFileSync(path, '', { flag: 'wx', mode: 0o600 });
  faultPoint('netns.file');
  restoringNetns(() => {
    check(unshareCall(CLONE_NEWNET), 'unshare');
    mount('/proc/thread-self/ns/net', path, null, MS.BIND);
  });
}

/** Unpins a namespace; the kernel destroys it when no process is in it. Repeatable. */
export function removeNetns(path: string): void {
  unmount(path);
  rmSync(path, { force: true });
}

/** Returns to this thread's network namespace after `work`, which must be synchronous: it runs in the main thread. */
function restoringNetns<T>(work: () => T): T {
  const own: Fd = openSync('/proc/thread-self/ns/net', 'r');
  try {
    return work();
  } finally {
    check(setnsCall(own, CLONE_NEWNET), 'setns', 'own');
    closeSync(own);
  }
}
