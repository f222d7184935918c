/** The shim's spec file (protocol/spec.ts), made from the container's record and the daemon's configuration. */
import { basename, join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { ShimSpec } from '../../protocol/spec.ts';
import { heldPorts } from '../networks/port-allocation.ts';
import { shimSettings } from '../spec/shim-settings.ts';
import { cgroupsPath } from '../spec/spec.ts';
import { cgroupPath, sliceDirectory } from './cgroups.ts';
import type { Container } from '../../model/container.ts';
import type { ContainerDeps } from './deps.ts';

interface ShimSpecExtra {
  /** Height and width of the terminal. */
  consoleSize?: [number, number] | undefined;
  /** The containers whose namespaces it joins. */
  joined?: readonly Container[];
}

export function shimSpec(
  c: Container,
  { config, paths }: Pick<ContainerDeps, 'config' | 'paths'>,
  { consoleSize, joined = [] }: ShimSpecExtra = {},
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
    cgroupPath: cgroupPath(c, config),
    shimCgroup: shimCgroup(c, config),
    ...shimSettings(c, logPath(c, paths)),
    ...(consoleSize && consoleSize[0] > 0 ? { consoleSize } : {}),
    autoRemove: c.hostConfig.AutoRemove,
    ports: heldPorts(c.ports),
    donors: joined.map(({ state: { pid, pidStartTime } }) => ({ pid, startTime: pidStartTime })),
    slowClientMs: config.slowClientMs,
  };
}

/** The container's json-file log. */
export const logPath = (c: Container, paths: ContainerDeps['paths']): string =>
  join(paths.container(c.id), `${c.id}-json.log`);

/** The shim's own cgroup, as a path below the hierarchies' mount points. */
export const shimCgroup = (c: Container, config: Pick<Config, 'cgroupParent'>): string =>
  join(shimCgroups(config), c.id.slice(0, 16));

/** The parent of all shims' cgroups. */
export const shimCgroups = ({ cgroupParent }: Pick<Config, 'cgroupParent'>): string =>
  join(sliceDirectory(cgroupParent), 'shims');
