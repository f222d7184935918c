/** Names of cgroups, as the runtime takes them and as systemd lays them out. */
import { join } from 'node:path';

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
