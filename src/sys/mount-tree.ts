/**
 * Mounts by descriptor, and the mount namespaces of others. open_tree(2), move_mount(2), mount_setattr(2) (Linux 5.2,
 * 5.12), setns(2), pivot_root(2).
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

export const ATTR = { RDONLY: 1, NODEV: 4 } as const;

const text = (path: string): Buffer => Buffer.from(`${path}\0`, 'latin1');
const at = (buffer: Buffer): number => Number(addressOf(buffer));

/** Enters a mount namespace with this thread alone: its root and working directory are that namespace's from now on. */
export function enterMounts(namespace: Fd): void {
  check(unshareCall(CLONE_FS), 'unshare');
  check(setnsCall(namespace, CLONE_NEWNS), 'setns');
}

/** A copy of the mounts at and below an open file or directory, attached nowhere yet. */
export function copyTree(place: Fd): Fd {
  const empty = text('');
  return check(
    syscall(SYS_OPEN_TREE, place, at(empty), OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE | O_CLOEXEC),
    'open_tree',
  );
}

/** Attaches what `copyTree` gave at `target`, which is looked up below this thread's root. */
export function attachTree(tree: Fd, target: string): void {
  const [empty, path] = [text(''), text(target)];
  check(syscall(SYS_MOVE_MOUNT, tree, at(empty), AT_FDCWD, at(path), MOVE_MOUNT_F_EMPTY_PATH), 'move_mount', target);
}

/** Sets ATTR flags on all mounts of a tree; on all below this thread's root without one. */
export function setMountFlags(flags: number, tree?: Fd): void {
  const SIZE = 32;
  const attributes = Buffer.alloc(SIZE);
  attributes.writeBigUInt64LE(BigInt(flags), 0);
  const path = text(tree === undefined ? '/' : '');
  check(
    syscall(
      SYS.mount_setattr,
      tree ?? AT_FDCWD,
      at(path),
      AT_RECURSIVE | (tree === undefined ? 0 : AT_EMPTY_PATH),
      at(attributes),
      SIZE,
    ),
    'mount_setattr',
  );
}

/** Makes the mount point `root` this thread's root, and lets go of everything else. */
export function pivotTo(root: string): void {
  check(chdirCall(root), 'chdir', root);
  const here = text('.');
  check(syscall(SYS_PIVOT_ROOT[process.arch] ?? -1, at(here), at(here)), 'pivot_root', root);
  check(umountCall('.', MNT_DETACH), 'umount2');
  check(chdirCall('/'), 'chdir');
}

/** Unmounts what is at `point` and below. A final link is not followed. */
export const detach = (point: string): boolean => umountCall(text(point), MNT_DETACH | UMOUNT_NOFOLLOW) === 0;

/**
 * The mounts that this thread sees, read through a descriptor of /proc that may lie outside its root. Paths have one
 * character per byte.
 */
export function mountsBy(proc: Fd): Mount[] {
  const fd = check(openatCall(proc, 'thread-self/mountinfo', O_CLOEXEC), 'openat', 'mountinfo');
  try {
    return parseMounts(readFileSync(fd, 'latin1'), 'latin1');
  } finally {
    closeSync(fd);
  }
}

/** /proc, to be kept over a change of root. */
export const openProc = (): Fd => openSync('/proc', 'r');
