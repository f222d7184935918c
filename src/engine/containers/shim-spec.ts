/** What the container's shim must know of it (protocol/spec.ts), from its configuration. */
import { basename, join } from 'node:path';
import type { ShimSpec } from '../../protocol/spec.ts';
import { heldPorts } from '../networks/ports.ts';
import { shimSpecParts } from '../spec/shim-parts.ts';
import type { Container } from './container.ts';
import type { Parts } from './parts.ts';

export function shimSpec(c: Container, { config, paths }: Pick<Parts, 'config' | 'paths'>, consoleSize?: [number, number]): ShimSpec {
  const runtime = config.runtimes[c.hostConfig.Runtime] ?? config.runtimes[config.defaultRuntime]!;
  const parts = shimSpecParts(c, config, logPath(c, paths));
  return {
    version: 1,
    id: c.id,
    name: c.name,
    runtime: {
      path: runtime.path, args: runtime.args, root: paths.runtimeRoot(basename(c.hostConfig.Runtime)), systemdCgroup: config.cgroupDriver === 'systemd',
    },
    bundle: paths.run(c.id),
    cgroup: cgroupPath(c, config.cgroupParent),
    shimCgroup: `${config.cgroupParent}/shims/${c.id.slice(0, 16)}`,
    ...parts,
    ...(consoleSize && consoleSize[0] > 0 ? { consoleSize } : {}),
    autoRemove: c.hostConfig.AutoRemove,
    ports: heldPorts(c.ports),
    slowClientMs: config.slowClientMs,
  };
}

/** The container's json-file log. */
export const logPath = (c: Container, paths: Parts['paths']): string => join(paths.container(c.id), `${c.id}-json.log`);

/** The container's cgroup, as named to the runtime. */
export const cgroupPath = (c: Container, parent: string): string => `${c.hostConfig.CgroupParent || parent}/${c.id}`;
