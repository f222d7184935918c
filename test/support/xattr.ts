/** Extended attributes as raw bytes: lsetxattr(2), lgetxattr(2), llistxattr(2). */
import { check, declare, Errno, errno } from '../../src/sys/libc.ts';

const setCall = declare('int lsetxattr(const char *path, const char *name, void *value, size_t size, int flags)');
const getCall = declare('long lgetxattr(const char *path, const char *name, void *value, size_t size)');
const listCall = declare('long llistxattr(const char *path, void *list, size_t size)');

const ENODATA = 61;
const EOPNOTSUPP = 95;
const MAX_VALUE = 65536;

export function setXattr(path: string, name: string, value: Buffer): void {
  check(setCall(path, name, value, value.length, 0), 'lsetxattr', `${name} on ${path}`);
}

export function getXattr(path: string, name: string): Buffer | undefined {
  const value = Buffer.allocUnsafe(MAX_VALUE);
  const n = getCall(path, name, value, value.length);
  if (n >= 0) return Buffer.from(value.subarray(0, n));
  if (errno() === ENODATA || errno() === EOPNOTSUPP) return undefined;
  throw new Errno(errno(), 'lgetxattr', `${name} of ${path}`);
}

export function listXattrs(path: string): string[] {
  const list = Buffer.allocUnsafe(MAX_VALUE);
  const n = listCall(path, list, list.length);
  if (n < 0) {
    if (errno() === EOPNOTSUPP) return [];
    throw new Errno(errno(), 'llistxattr', path);
  }
  return list
    .subarray(0, n)
    .toString('latin1')
    .split('\0')
    .filter((name) => name !== '');
}
