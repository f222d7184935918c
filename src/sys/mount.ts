/** Mounts. mount(2), umount2(2), mount_setattr(2). */
import { faultPoint } from './fault.ts';
import { check, declare, Errno, errno } from './libc.ts';

const mountCall = declare(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
);
const umountCall = declare('int umount2(const char *target, int flags)');
const unshareCall = declare('int unshare(int flags)');

export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  DIRSYNC: 128,
  NOATIME: 1024,
  NODIRATIME: 2048,
  BIND: 4096,
  MOVE: 8192,
  REC: 16384,
  UNBINDABLE: 1 << 17,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  SHARED: 1 << 20,
  RELATIME: 1 << 21,
  STRICTATIME: 1 << 24,
} as const;

const CLONE_NEWNS = 0x20000;
const MNT_DETACH = 2;
const EINVAL = 22;
const ENOENT = 2;

export function mount(
  source: string,
  target: string,
  type: string | null,
  flags = 0,
  data: string | null = null,
): void {
  faultPoint('mount.before');
  check(mountCall(source, target, type, flags, data), 'mount', `${type ?? 'bind'} on ${target}`);
  faultPoint('mount.after');
}

/**
 * Gives the calling thread mounts of its own: what it mounts from now on nobody else sees, and it goes with the thread.
 * unshare(2), mount_namespaces(7).
 */
export function ownMounts(): void {
  check(unshareCall(CLONE_NEWNS), 'unshare');
  check(mountCall('none', '/', null, MS.REC | MS.PRIVATE, null), 'mount', 'private on /');
}

/** Unmounts lazily; true when something was mounted there. */
export function unmount(target: string): boolean {
  faultPoint('unmount.before');
  if (umountCall(target, MNT_DETACH) === 0) {
    faultPoint('unmount.after');
    return true;
  }
  if (errno() === EINVAL || errno() === ENOENT) return false;
  throw new Errno(errno(), 'umount2', target);
}
