/** Names of cgroups, as the runtime takes them and as systemd lays them out. */
import { join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { Container } from '../../model/container.ts';
import { cgroupsPath } from '../spec/spec.ts';

/** The container's cgroup, as a path below the hierarchies' mount points. */
export const cgroupPath = (c: Container, config: Pick<Config, 'cgroupDriver' | 'cgroupParent'>): string =>
  cgroupDirectory(cgroupsPath(c, config));

/** A cgroup in the runtime's notation (slice:prefix:name under systemd, else a path) as a path in the hierarchies. */
export function cgroupDirectory(named: string): string {
  const [slice = '', prefix, name] = named.split(':');
  return name === undefined ? named : join(sliceDirectory(slice), `${prefix ? `${prefix}-` : ''}${name}.scope`);
}

/** The path of a systemd slice: a-b.slice lies in a.slice, -.slice is the root (systemd.slice(5)). Other paths stay. */
export function sliceDirectory(slice: string): string {
  if (!slice.endsWith('.slice') || slice.includes('/')) return join('/', slice);
  const parts = slice
    .slice(0, -'.slice'.length)
    .split('-')
    .filter((part) => part !== '');
  return join('/', ...parts.map((_, i) => `${parts.slice(0, i + 1).join('-')}.slice`));
}
