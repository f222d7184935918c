/** File operations that node:fs lacks: locks, FIFOs, pipes, descriptor flags. */
import { closeSync, fsyncSync, openSync } from 'node:fs';
import { check, declare, Errno, errno, type Fd } from './libc.ts';

const unlinkCall = declare('int unlink(const char *path)');
const flockCall = declare('int flock(int fd, int operation)');
const mkfifoCall = declare('int mkfifo(const char *path, unsigned int mode)');
const mknodCall = declare('int mknod(const char *path, unsigned int mode, unsigned long device)');
const fcntlCall = declare('int fcntl(int fd, int command, long argument)');
const fallocateCall = declare('int fallocate(int fd, int mode, long offset, long length)');
const getdentsCall = declare('long getdents64(int fd, void *entries, size_t size)');
const eventfdCall = declare('int eventfd(unsigned int initval, int flags)');

const LOCK_EX = 2;
const LOCK_NB = 4;
const ENOENT = 2;
const EWOULDBLOCK = 11;
const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const F_SETPIPE_SZ = 1031;
const O_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const DT_UNKNOWN = 0;

/** An exclusive lock, released by the kernel when the process dies. flock(2). */
export interface Lock {
  readonly fd: Fd;
  release(): void;
}

/** Locks `path` (created if missing, close-on-exec); undefined when another process holds the lock. */
export function tryLock(path: string): Lock | undefined {
  const fd = openSync(path, 'a', 0o600);
  if (flockCall(fd, LOCK_EX | LOCK_NB) === 0) return { fd, release: () => closeSync(fd) };
  const reason = errno();
  closeSync(fd);
  if (reason === EWOULDBLOCK) return undefined;
  throw new Errno(reason, 'flock', path);
}

/** mkfifo(3), mode 0600. */
export const mkfifo = (path: string): void => void check(mkfifoCall(path, 0o600), 'mkfifo', path);

/** `mode` includes the file type. mknod(2). */
export const mknod = (path: string, mode: number, device: bigint): void =>
  void check(mknodCall(path, mode, device), 'mknod', path);

/** An eventfd(2), close-on-exec and non-blocking. */
export const eventFd = (): Fd => check(eventfdCall(0, EFD_CLOEXEC | EFD_NONBLOCK), 'eventfd');

/** Raises the capacity of a pipe or FIFO; false when the kernel refuses. F_SETPIPE_SZ, fcntl(2). */
export const growPipe = (fd: Fd, bytes: number): boolean => fcntlCall(fd, F_SETPIPE_SZ, bytes) >= 0;

/** Clears O_NONBLOCK on the open file description, which all duplicates of the descriptor share. */
export function makeBlocking(fd: Fd): void {
  const flags = check(fcntlCall(fd, F_GETFL, 0), 'fcntl');
  check(fcntlCall(fd, F_SETFL, flags & ~O_NONBLOCK), 'fcntl');
}

/** Sets O_NONBLOCK on the open file description, which all duplicates of the descriptor share. */
export function makeNonBlocking(fd: Fd): void {
  const flags = check(fcntlCall(fd, F_GETFL, 0), 'fcntl');
  check(fcntlCall(fd, F_SETFL, flags | O_NONBLOCK), 'fcntl');
}

/** Another descriptor of the same open file description, close-on-exec and at least `from`. */
export const duplicate = (fd: Fd, from = 0): Fd => check(fcntlCall(fd, F_DUPFD_CLOEXEC, from), 'fcntl');

/** Deletes a file if it exists. One unlink(2), where rmSync() makes two more system calls. */
export function removeFile(path: string): void {
  if (unlinkCall(path) !== 0 && errno() !== ENOENT) throw new Errno(errno(), 'unlink', path);
}

/** Allocates disk space, so that later writes cannot fail with ENOSPC. fallocate(2) with FALLOC_FL_KEEP_SIZE. */
export const preallocate = (fd: Fd, offset: number, length: number): boolean =>
  fallocateCall(fd, 1, offset, length) === 0;

/** Makes a directory's entries (a rename, a new file) durable. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Whether the file system reports the types of directory entries (d_type), which overlayfs requires. A struct
 * linux_dirent64 begins with inode and offset (8 bytes each), its length (2) and the type (1). getdents64(2).
 */
export function supportsDType(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const entries = Buffer.alloc(4096);
    check(getdentsCall(fd, entries, entries.length), 'getdents64', path);
    return entries[18] !== DT_UNKNOWN;
  } finally {
    closeSync(fd);
  }
}
