/** Network namespaces, pinned by a bind mount so that they outlive every process in them. */
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { faultPoint } from './fault.ts';
import { check, declare, type Fd } from './libc.ts';
import { mount, MS, unmount } from './mount.ts';

const unshareCall = declare('int unshare(int flags)');
const setnsCall = declare('int setns(int fd, int type)');
const CLONE_NEWNET = 0x40000000;

/** Runs `work` synchronously inside the network namespace at `path`, then returns to this thread's own. */
export function inNetns<T>(path: string, work: () => T): T {
  return aside(() => {
    const fd = openSync(path, 'r');
    try {
      check(setnsCall(fd, CLONE_NEWNET), 'setns', path);
    } finally {
      closeSync(fd);
    }
    return work();
  });
}

/** Makes a new network namespace and pins it on the file `path`. */
export function createNetns(path: string): void {
  faultPoint('netns.before');
  writeFileSync(path, '', { flag: 'wx', mode: 0o600 });
  faultPoint('netns.file');
  aside(() => {
    check(unshareCall(CLONE_NEWNET), 'unshare');
    mount('/proc/thread-self/ns/net', path, null, MS.BIND);
  });
}

/** Lets go of a pinned namespace; it ends when no process is in it. Repeatable. */
export function removeNetns(path: string): void {
  unmount(path);
  rmSync(path, { force: true });
}

// Nothing asynchronous may happen in between: the whole main thread is in the other namespace.
function aside<T>(work: () => T): T {
  const home: Fd = openSync('/proc/thread-self/ns/net', 'r');
  try {
    return work();
  } finally {
    check(setnsCall(home, CLONE_NEWNET), 'setns', 'home');
    closeSync(home);
  }
}
