/**
 * Mounts by descriptor, and other processes' mount namespaces. open_tree(2) and move_mount(2) (Linux 5.2),
 * mount_setattr(2) (Linux 5.12), setns(2), pivot_root(2).
 */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { addressOf, check, declare, SYS, syscall, type Fd } from './libc.ts';
import { parseMounts, type Mount } from './mountinfo.ts';

const unshareCall = declare('int unshare(int flags)');
const setnsCall = declare('int setns(int fd, int type)');
const umountCall = declare('int umount2(const char *target, int flags)');
const chdirCall = declare('int chdir(const char *path)');
const openatCall = declare('int openat(int directory, const char *path, int flags)');

const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;
const SYS_OPEN_TREE = 428;
const SYS_MOVE_MOUNT = 429;
const SYS_PIVOT_ROOT: Readonly<Record<string, number>> = { x64: 155, arm64: 41 };
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const OPEN_TREE_CLONE = 1;
const O_CLOEXEC = 0o2000000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** NOSYMFOLLOW: Linux 5.14. */
export const ATTR = { RDONLY: 1, NODEV: 4, NOSYMFOLLOW: 0x200000 } as const;

/** A C string; paths have one character per byte. */
const cString = (path: string): Buffer => Buffer.from(`${path}\0`, 'latin1');
const pointerTo = (buffer: Buffer): number => Number(addressOf(buffer));

/** Moves this thread into a mount namespace, with its root and working directory. */
export function enterMountNamespace(namespace: Fd): void {
  check(unshareCall(CLONE_FS), 'unshare');
  check(setnsCall(namespace, CLONE_NEWNS), 'setns');
}

/** A detached copy of the mounts at and below an open file or directory. */
export function cloneMounts(source: Fd): Fd {
  const empty = cString('');
  return check(
    syscall(SYS_OPEN_TREE, source, pointerTo(empty), OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE | O_CLOEXEC),
    'open_tree',
  );
}

/** Attaches the result of `cloneMounts` at `target`, which is resolved below this thread's root. */
export function attachMounts(tree: Fd, target: string): void {
  const [empty, path] = [cString(''), cString(target)];
  check(
    syscall(SYS_MOVE_MOUNT, tree, pointerTo(empty), AT_FDCWD, pointerTo(path), MOVE_MOUNT_F_EMPTY_PATH),
    'move_mount',
    target,
  );
}

/** Sets ATTR flags on all mounts of a tree; without one, on all mounts below this thread's root. */
export function setMountFlags(flags: number, tree?: Fd): void {
  const SIZE = 32;
  const attributes = Buffer.alloc(SIZE);
  attributes.writeBigUInt64LE(BigInt(flags), 0);
  const path = cString(tree === undefined ? '/' : '');
  check(
    syscall(
      SYS.mount_setattr,
      tree ?? AT_FDCWD,
      pointerTo(path),
      AT_RECURSIVE | (tree === undefined ? 0 : AT_EMPTY_PATH),
      pointerTo(attributes),
      SIZE,
    ),
    'mount_setattr',
  );
}

/** Makes the mount point `root` this thread's root, and unmounts the old root. pivot_root(2), NOTES. */
export function pivotRoot(root: string): void {
  check(chdirCall(root), 'chdir', root);
  const here = cString('.');
  check(syscall(SYS_PIVOT_ROOT[process.arch] ?? -1, pointerTo(here), pointerTo(here)), 'pivot_root', root);
  check(umountCall('.', MNT_DETACH), 'umount2');
  check(chdirCall('/'), 'chdir');
}

/** Unmounts what is mounted at and below `point`, without following a symbolic link. Returns whether it succeeded. */
export const unmountTree = (point: string): boolean => umountCall(cString(point), MNT_DETACH | UMOUNT_NOFOLLOW) === 0;

/**
 * The mount table of this thread, read through a descriptor of /proc, which may be outside the thread's root. Paths
 * have one character per byte.
 */
export function readThreadMounts(proc: Fd): Mount[] {
  const fd = check(openatCall(proc, 'thread-self/mountinfo', O_CLOEXEC), 'openat', 'mountinfo');
  try {
    return parseMounts(readFileSync(fd, 'latin1'), 'latin1');
  } finally {
    closeSync(fd);
  }
}

/** A descriptor of /proc, which stays valid when the root changes. */
export const openProc = (): Fd => openSync('/proc', 'r');
