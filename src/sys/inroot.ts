/** Opens files below a container's root so that no symbolic link leads out of it. openat2(2), Linux 5.6. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { addressOf, check, errno, Errno, syscall, type Fd } from './libc.ts';

const SYS_OPENAT2 = 437;
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_BENEATH = 0x08;
const RESOLVE_IN_ROOT = 0x10;
const OPEN_HOW_SIZE = 24;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const EAGAIN = 11;
/** openat2(2) fails with EAGAIN when a concurrent rename interferes, and should then be tried again. */
const RETRIES = 16;

/**
 * An O_PATH descriptor for `path` as a process chrooted to `root` would find it.
 * @throws Errno ENOENT, ENOTDIR, ELOOP … as open(2)
 */
export const pathInRoot = (root: string, path: string): Fd => open(root, path, RESOLVE_IN_ROOT);

/**
 * An O_PATH descriptor for `path` below `root`. A path or symbolic link that leads out of `root` is an error.
 * @throws Errno EXDEV for such a path; ENOENT … as open(2)
 */
export const pathBeneath = (root: string, path: string): Fd => open(root, path, RESOLVE_BENEATH);

function open(root: string, path: string, resolve: number): Fd {
  const directory = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const name = Buffer.from(`${path}\0`);
    const how = Buffer.alloc(OPEN_HOW_SIZE);
    how.writeBigUInt64LE(BigInt(O_PATH | O_CLOEXEC), 0);
    how.writeBigUInt64LE(BigInt(resolve | RESOLVE_NO_MAGICLINKS), 16);
    for (let left = RETRIES; ; left--) {
      const fd = syscall(SYS_OPENAT2, directory, Number(addressOf(name)), Number(addressOf(how)), OPEN_HOW_SIZE);
      if (fd >= 0) return fd;
      if (errno() !== EAGAIN || left === 0) check(fd, 'openat2', path);
    }
  } finally {
    closeSync(directory);
  }
}

/**
 * The first `limit` bytes of the regular file at `path` inside `root`; undefined when there is none. Other files are
 * never opened: a FIFO could block, and opening a device can have effects.
 */
export function readInRoot(root: string, path: string, limit: number): Buffer | undefined {
  let found: Fd;
  try {
    found = pathInRoot(root, path);
  } catch (error) {
    if (error instanceof Errno && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.code)) return undefined;
    throw error;
  }
  try {
    if (!fstatSync(found).isFile()) return undefined;
    const file = openSync(`/proc/self/fd/${found}`, constants.O_RDONLY);
    try {
      return readUpTo(file, limit);
    } finally {
      closeSync(file);
    }
  } finally {
    closeSync(found);
  }
}

function readUpTo(file: Fd, limit: number): Buffer {
  const chunks: Buffer[] = [];
  for (let left = limit; left > 0;) {
    const chunk = Buffer.allocUnsafe(Math.min(left, 65536));
    const n = readSync(file, chunk);
    if (n === 0) break;
    chunks.push(chunk.subarray(0, n));
    left -= n;
  }
  return Buffer.concat(chunks);
}
