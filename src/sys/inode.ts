/**
 * Inode operations that node:fs lacks (device nodes, extended attributes, times in nanoseconds), on paths as bytes.
 * They do not follow a symbolic link at the end of the path.
 */
import { closeSync, openSync } from 'node:fs';
import { check, declare, Errno, errno } from './libc.ts';

const mknodCall = declare('int mknod(const char *path, unsigned int mode, unsigned long device)');
const setxattrCall = declare('int lsetxattr(const char *path, const char *name, void *value, size_t size, int flags)');
const getxattrCall = declare('long lgetxattr(const char *path, const char *name, void *value, size_t size)');
const listxattrCall = declare('long llistxattr(const char *path, void *list, size_t size)');
const utimensatCall = declare('int utimensat(int directory, const char *path, void *times, int flags)');
const syncfsCall = declare('int syncfs(int fd)');

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const NANOSECONDS = 1_000_000_000n;
const ENODATA = 61;
const EOPNOTSUPP = 95;

export const S_IFIFO = 0o010000;
export const S_IFCHR = 0o020000;
export const S_IFBLK = 0o060000;

/** The limits of device numbers: 12 bits for major, 20 for minor. */
export const MAX_MAJOR = 0xfff;
export const MAX_MINOR = 0xfffff;

/** makedev(3). */
const makedev = (major: number, minor: number): number =>
  (major & MAX_MAJOR) * 256 + (minor & 0xff) + (minor >> 8) * 2 ** 20;

/** Major and minor number of a device, from st_rdev. major(3). */
export const deviceNumbers = (rdev: number): { major: number; minor: number } => ({
  major: Math.floor(rdev / 256) & MAX_MAJOR,
  minor: (rdev & 0xff) | (Math.floor(rdev / 2 ** 12) & 0xfff00),
});

/** `mode` includes the type. mknod(2). */
export function makeNode(path: Buffer, mode: number, major: number, minor: number): void {
  check(mknodCall(cString(path), mode, makedev(major, minor)), 'mknod', path.toString());
}

/** lsetxattr(2). */
export function setXattrAt(path: Buffer, name: string, value: Buffer): void {
  check(setxattrCall(cString(path), name, value, value.length, 0), 'lsetxattr', `${name} on ${path.toString()}`);
}

/** The value of an extended attribute; undefined when it is not set. lgetxattr(2). */
export function getXattrAt(path: Buffer, name: string): Buffer | undefined {
  const MAX_VALUE = 65_536;
  const value = Buffer.allocUnsafe(MAX_VALUE);
  const length = getxattrCall(cString(path), name, value, value.length);
  if (length >= 0) return Buffer.from(value.subarray(0, length));
  if (errno() === ENODATA || errno() === EOPNOTSUPP) return undefined;
  throw new Errno(errno(), 'lgetxattr', `${name} of ${path.toString()}`);
}

const NAMES = Buffer.allocUnsafe(65_536);

/** Names of the extended attributes. llistxattr(2). */
export function listXattrsAt(path: Buffer): string[] {
  const length = listxattrCall(cString(path), NAMES, NAMES.length);
  if (length > 0) return NAMES.toString('latin1', 0, length - 1).split('\0');
  if (length === 0 || errno() === EOPNOTSUPP) return [];
  throw new Errno(errno(), 'llistxattr', path.toString());
}

/** Sets access and modification time, in nanoseconds since the epoch. utimensat(2). */
export function setTimes(path: Buffer, atime: bigint, mtime: bigint): void {
  putTime(0, atime);
  putTime(2, mtime);
  if (utimensatCall(AT_FDCWD, cString(path), TIMES, AT_SYMLINK_NOFOLLOW) < 0)
    throw new Errno(errno(), 'utimensat', path.toString());
}

/** struct timespec[2]; reused, because unpacking sets the times of every file. */
const TIMES = new BigInt64Array(4);

// tv_nsec is never negative, not even before the epoch.
function putTime(at: number, time: bigint): void {
  const rest = time % NANOSECONDS;
  const nanoseconds = rest < 0n ? rest + NANOSECONDS : rest;
  TIMES[at] = (time - nanoseconds) / NANOSECONDS;
  TIMES[at + 1] = nanoseconds;
}

/** Writes all cached data of the file system that `path` is on to disk. syncfs(2). */
export function syncFilesystem(path: string): void {
  const fd = openSync(path, 'r');
  try {
    check(syncfsCall(fd), 'syncfs', path);
  } finally {
    closeSync(fd);
  }
}

function cString(path: Buffer): Buffer {
  const text = Buffer.allocUnsafe(path.length + 1);
  path.copy(text);
  text[path.length] = 0;
  return text;
}
