/** What the container's shim must know of it (protocol/spec.ts), from its configuration. */
import { basename, join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { ShimSpec } from '../../protocol/spec.ts';
import { heldPorts } from '../networks/port-allocation.ts';
import { shimSettings } from '../spec/shim-settings.ts';
import { cgroupsPath } from '../spec/spec.ts';
import { cgroupDirectory, sliceDirectory } from './cgroups.ts';
import type { Container } from '../../model/container.ts';
import type { Parts } from './parts.ts';

/** `donors`: the containers whose namespaces it joins. */
export function shimSpec(
  c: Container,
  { config, paths }: Pick<Parts, 'config' | 'paths'>,
  { consoleSize, donors = [] }: { consoleSize?: [number, number] | undefined; donors?: readonly Container[] } = {},
): ShimSpec {
  const runtime = config.runtimes[c.hostConfig.Runtime] ?? config.runtimes[config.defaultRuntime]!;
  return {
    version: 1,
    id: c.id,
    name: c.name,
    runtime: {
      path: runtime.path,
      args: runtime.args,
      root: paths.runtimeRoot(basename(c.hostConfig.Runtime)),
      systemdCgroup: config.cgroupDriver === 'systemd',
    },
    bundle: paths.run(c.id),
    cgroup: cgroupsPath(c, config),
    shimCgroup: shimCgroup(c, config),
    ...shimSettings(c, logPath(c, paths)),
    ...(consoleSize && consoleSize[0] > 0 ? { consoleSize } : {}),
    autoRemove: c.hostConfig.AutoRemove,
    ports: heldPorts(c.ports),
    donors: donors.map(({ state: { pid, pidStartTime } }) => ({ pid, startTime: pidStartTime })),
    slowClientMs: config.slowClientMs,
  };
}

/** The container's json-file log. */
export const logPath = (c: Container, paths: Parts['paths']): string => join(paths.container(c.id), `${c.id}-json.log`);

/** The shim's own cgroup, in the hierarchies' file systems. */
export const shimCgroup = (c: Container, config: Pick<Config, 'cgroupParent'>): string =>
  join(shimCgroups(config), c.id.slice(0, 16));

/** Where those of all shims lie. */
export const shimCgroups = ({ cgroupParent }: Pick<Config, 'cgroupParent'>): string =>
  join(sliceDirectory(cgroupParent), 'shims');

/** Where the container's cgroup lies in the hierarchies' file systems. */
export const cgroupPath = (c: Container, config: Pick<Config, 'cgroupDriver' | 'cgroupParent'>): string =>
  cgroupDirectory(cgroupsPath(c, config));
