/** How mounts travel between the host and containers. mount_namespaces(7) */
import { readFileSync, realpathSync } from 'node:fs';
import { SystemFault } from '../../model/errors.ts';

interface HostMount {
  point: string;
  /** Optional fields of mountinfo: `shared:1`, `master:2`. */
  tags: string[];
}

/** Whether `path` lies on a mount that sends (or, with `receives`, at least gets) what is mounted. */
export function travels(path: string, way: 'sends' | 'receives'): boolean {
  const tags = mountOf(path).tags;
  return tags.some((tag) => tag.startsWith('shared:') || (way === 'receives' && tag.startsWith('master:')));
}

/** @throws SystemFault `path X is mounted on Y but it is not a shared mount` */
export function requireShared(path: string): void {
  if (!travels(path, 'sends'))
    throw new SystemFault(`path ${path} is mounted on ${mountOf(path).point} but it is not a shared mount`);
}

/** @throws SystemFault `path X is mounted on Y but it is not a shared or slave mount` */
export function requireSharedOrSlave(path: string): void {
  if (!travels(path, 'receives'))
    throw new SystemFault(`path ${path} is mounted on ${mountOf(path).point} but it is not a shared or slave mount`);
}

function mountOf(path: string): HostMount {
  const real = realpathSync(path);
  const holds = (point: string): boolean => point === '/' || real === point || real.startsWith(`${point}/`);
  // Of mounts on the same point the last one is on top.
  return hostMounts()
    .filter((mount) => holds(mount.point))
    .reduce((deepest, mount) => (mount.point.length >= deepest.point.length ? mount : deepest), {
      point: '',
      tags: [],
    });
}

function hostMounts(): HostMount[] {
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [before = ''] = line.split(' - ');
      const fields = before.split(' ');
      return { point: unescape(fields[4] ?? ''), tags: fields.slice(6) };
    });
}

// Bytes are escaped one by one: a path may be UTF-8.
const unescape = (field: string): string =>
  Buffer.from(
    field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8))),
    'latin1',
  ).toString('utf8');
