/** Whether mounts propagate between the host and containers. mount_namespaces(7) */
import { realpathSync } from 'node:fs';
import { mountContaining, type Mount } from '../../sys/mountinfo.ts';
import { SystemFault } from '../../model/errors.ts';

/** Whether `path` is on a shared mount, which sends mount events, or for `receives` on a shared or slave mount. */
export function propagates(path: string, way: 'sends' | 'receives'): boolean {
  const { shared, master } = mountOf(path)?.propagation ?? {};
  return shared !== undefined || (way === 'receives' && master !== undefined);
}

/** @throws SystemFault `path X is mounted on Y but it is not a shared mount` */
export function requireShared(path: string): void {
  if (!propagates(path, 'sends'))
    throw new SystemFault(`path ${path} is mounted on ${mountOf(path)?.point ?? ''} but it is not a shared mount`);
}

/** @throws SystemFault `path X is mounted on Y but it is not a shared or slave mount` */
export function requireSharedOrSlave(path: string): void {
  if (!propagates(path, 'receives'))
    throw new SystemFault(
      `path ${path} is mounted on ${mountOf(path)?.point ?? ''} but it is not a shared or slave mount`,
    );
}

const mountOf = (path: string): Mount | undefined => mountContaining(realpathSync(path));
