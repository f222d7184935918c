/** One sample of a container's resources, in Docker's JSON shape, from cgroup v1, v2 or hybrid. */
import type { Container } from './container.ts';

export function readStats(_container: Container, _cgroupDriver: 'cgroupfs' | 'systemd', _cgroupPath: string): Record<string, unknown> { throw new Error('unwritten'); }
