/** A container's mounts in the form of the OCI runtime specification. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { SystemFault } from '../../model/errors.ts';
import type { HostConfig, MountSpec } from '../../model/container-config.ts';
import type { Container, MountPoint } from '../../model/container.ts';
import type { Paths } from '../paths.ts';
import type { Host } from './host.ts';
import { overlaps } from './mount-points.ts';
import { cleanPath } from './mount-target.ts';
import { joinedContainer } from '../../model/namespace-mode.ts';
import type { OciMount } from './oci.ts';
import { requireShared, requireSharedOrSlave, propagates } from './propagation.ts';
import { securityOptions } from './security-options.ts';
import { sharedShm } from './shm.ts';
import { tmpfsOptions, tmpfsText } from './tmpfs.ts';

/** Path of the `--init` binary inside the container. */
export const INIT_PATH = '/sbin/docker-init';

/** The mounts of every Docker container (moby oci/defaults.go). */
const DEFAULT_MOUNTS: readonly OciMount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777'] },
];

/** Mounts that stay writable under a read-only rootfs. */
const ALWAYS_WRITABLE = new Set(['/proc', '/dev', '/dev/pts', '/dev/shm', '/dev/mqueue']);

/** Needs mount_setattr(2) with AT_RECURSIVE: Linux 5.12. */
const RECURSIVE_READONLY_SINCE: readonly [number, number] = [5, 12];

export interface MountInput {
  container: Pick<Container, 'id' | 'config' | 'hostConfig' | 'mounts'>;
  paths: Paths;
  host: Host;
  donors?: Donors | undefined;
}

/** The containers at the ends of chains of joins (a joined container may have joined another itself). */
export interface Donors {
  /** Has the hosts, hostname and resolv.conf. */
  network: Pick<Container, 'id'>;
  /** Has the /dev/shm. */
  ipc: Pick<Container, 'id' | 'hostConfig'>;
}

export interface ContainerMounts {
  mounts: OciMount[];
  /** The propagation that the rootfs itself needs for that of its mounts; undefined = the runtime's default. */
  rootfsPropagation?: 'shared' | 'rslave';
}

/** @throws SystemFault when the host does not support a bind's propagation or recursive read-only mode */
export function containerMounts(input: MountInput): ContainerMounts {
  const { hostConfig } = input.container;
  const own = [...pointMounts(input), ...networkFiles(input), ...tmpfsMounts(hostConfig), ...shmMount(input)];
  own.sort(parentsFirst);
  const covered = new Set(own.map((mount) => mount.destination));
  const isNeeded = ({ destination }: OciMount): boolean => {
    if (covered.has(destination)) return false;
    if (covered.has('/dev') && destination.startsWith('/dev/')) return false;
    return !(destination === '/dev/shm' && hostConfig.IpcMode === 'none');
  };
  const defaults = DEFAULT_MOUNTS.filter(isNeeded).map((mount) => adaptedDefault(mount, hostConfig));
  const mounts = [...defaults, ...own];
  if (input.container.mounts.some((point) => isShared(point.propagation)))
    return { mounts, rootfsPropagation: 'shared' };
  if (own.some((mount) => mount.options.some(isSlave))) return { mounts, rootfsPropagation: 'rslave' };
  return { mounts };
}

/** The bind mount of the init binary. @throws SystemFault when the host has none */
export function initMount(path: string): OciMount {
  if (!existsSync(path))
    throw new SystemFault(
      `init binary ${path}: no such file: install tini (tini-static) or catatonit, or set init-path`,
    );
  return { destination: INIT_PATH, type: 'bind', source: path, options: ['bind', 'ro'] };
}

/**
 * Creates missing source directories of binds, as Docker does at each start; of entries in `Mounts` only if they have
 * `CreateMountpoint`.
 * @throws SystemFault `error while creating mount source path '/x': …`
 */
export function createBindSources(container: Pick<Container, 'hostConfig' | 'mounts'>): void {
  const { hostConfig } = container;
  const mustExist = new Set(
    (hostConfig.Mounts ?? [])
      .filter((mount) => mount.Type === 'bind' && !mount.BindOptions?.CreateMountpoint)
      .map((mount) => cleanPath(mount.Target)),
  );
  for (const { type, source, destination } of container.mounts) {
    if (type !== 'bind' || mustExist.has(destination) || existsSync(source)) continue;
    try {
      mkdirSync(source, { recursive: true, mode: 0o755 });
    } catch (error) {
      // A component of the path is a file: the runtime reports the mount that fails.
      if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') continue;
      throw new SystemFault(
        `error while creating mount source path '${source}': ${goReason(error as NodeJS.ErrnoException)}`,
      );
    }
  }
}

/** Go's error texts. */
const GO_REASONS: Readonly<Record<string, string>> = {
  EROFS: 'read-only file system',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  ENOSPC: 'no space left on device',
  EEXIST: 'file exists',
};

const goReason = ({ code = '', path = '', message }: NodeJS.ErrnoException): string =>
  GO_REASONS[code] ? `mkdir ${path}: ${GO_REASONS[code]}` : message;

function adaptedDefault(mount: OciMount, hostConfig: HostConfig): OciMount {
  let options = [...mount.options];
  const cgroupWritable = hostConfig.Privileged || securityOptions(hostConfig.SecurityOpt).writableCgroups;
  if (mount.destination === '/dev/shm') options.push(`size=${hostConfig.ShmSize}`);
  if (mount.destination === '/sys' && hostConfig.Privileged) options = writable(options);
  if (mount.type === 'cgroup' && cgroupWritable) options = writable(options);
  const readOnly = hostConfig.ReadonlyRootfs && !hostConfig.Privileged && !ALWAYS_WRITABLE.has(mount.destination);
  if (readOnly && !options.includes('ro')) options.push('ro');
  return { ...mount, options };
}

const writable = (options: string[]): string[] => ['rw', ...options.filter((option) => option !== 'ro')];

function pointMounts(input: MountInput): OciMount[] {
  const { id, mounts, hostConfig } = input.container;
  return mounts.map((point, index) => {
    if (point.type === 'tmpfs') {
      const spec = specOf(hostConfig, 'tmpfs', point.destination);
      return tmpfsMount(point.destination, spec ? tmpfsText(spec) : '');
    }
    const source = point.subpath === undefined ? point.source : input.paths.subpath(id, index);
    return bindMount({ ...point, source }, input);
  });
}

/** The entry of `HostConfig.Mounts` that a mount point comes from. */
const specOf = (hostConfig: HostConfig, type: MountSpec['Type'], destination: string): MountSpec | undefined =>
  hostConfig.Mounts?.find((mount) => mount.Type === type && cleanPath(mount.Target) === destination);

function tmpfsMounts(hostConfig: HostConfig): OciMount[] {
  return Object.entries(hostConfig.Tmpfs ?? {}).map(([target, options]) => tmpfsMount(cleanPath(target), options));
}

const tmpfsMount = (destination: string, options: string): OciMount => ({
  destination,
  type: 'tmpfs',
  source: 'tmpfs',
  options: tmpfsOptions(options),
});

const NON_RECURSIVE = { ReadOnlyNonRecursive: true };

function bindMount(point: MountPoint, input: MountInput): OciMount {
  const options = specOf(input.container.hostConfig, 'bind', point.destination)?.BindOptions ?? {};
  const readOnly = point.rw
    ? []
    : readOnlyOptions({ ...options, ...(point.readOnlyNonRecursive && NON_RECURSIVE) }, input.host);
  const propagation = propagationOf(point, input.paths, options.Propagation !== undefined);
  return {
    destination: point.destination,
    type: 'bind',
    source: point.source,
    options: [options.NonRecursive ? 'bind' : 'rbind', ...readOnly, ...(propagation ? [propagation] : [])],
  };
}

function readOnlyOptions(options: NonNullable<MountSpec['BindOptions']>, host: Host): string[] {
  if (options.ReadOnlyNonRecursive || options.NonRecursive) return ['ro'];
  if (!atLeast(host.kernel, RECURSIVE_READONLY_SINCE)) {
    if (options.ReadOnlyForceRecursive) throw new SystemFault('rro is not supported: kernel >= 5.12 is needed');
    return ['ro'];
  }
  return ['ro', 'rro'];
}

function propagationOf(point: MountPoint, paths: Paths, explicit: boolean): string {
  if (isShared(point.propagation)) requireShared(point.source);
  if (isSlave(point.propagation)) {
    // Our own default for sources that overlap the daemon's roots (mount-points.ts), not a request: on a private mount
    // there is nothing to receive, so it must not fail.
    const isDefault = !explicit && [paths.dataRoot, paths.execRoot].some((root) => overlaps(root, point.source));
    if (isDefault && !propagates(point.source, 'receives')) return 'rprivate';
    requireSharedOrSlave(point.source);
  }
  return point.propagation || (point.type === 'volume' ? 'rprivate' : '');
}

const isShared = (propagation: string): boolean => propagation === 'shared' || propagation === 'rshared';
const isSlave = (propagation: string): boolean => propagation === 'slave' || propagation === 'rslave';

/** hosts, hostname and resolv.conf of this container, or of the one whose network it joins. */
function networkFiles(input: MountInput): OciMount[] {
  const { container, paths, donors } = input;
  const taken = new Set(container.mounts.map((point) => point.destination));
  const directory = paths.container(
    donors?.network.id ?? (joinedContainer(container.hostConfig.NetworkMode) || container.id),
  );
  const access = container.hostConfig.ReadonlyRootfs ? ['ro'] : [];
  return ['resolv.conf', 'hostname', 'hosts']
    .filter((name) => !taken.has(`/etc/${name}`) && existsSync(join(directory, name)))
    .map((name) => ({
      destination: `/etc/${name}`,
      type: 'bind',
      source: join(directory, name),
      options: ['rbind', ...access, 'rprivate'],
    }));
}

function shmMount({ container, paths, donors }: MountInput): OciMount[] {
  const source = sharedShm(container.hostConfig, container.id, paths, donors?.ipc);
  const isTaken =
    container.mounts.some((point) => point.destination === '/dev/shm') ||
    container.hostConfig.Tmpfs?.['/dev/shm'] !== undefined;
  if (source === undefined || isTaken) return [];
  return [{ destination: '/dev/shm', type: 'bind', source, options: ['rbind', 'rprivate'] }];
}

/** Parents before the mounts inside them. */
const parentsFirst = (a: OciMount, b: OciMount): number => depth(a) - depth(b);
const depth = (mount: OciMount): number => mount.destination.split('/').length;

const atLeast = (kernel: readonly [number, number], needed: readonly [number, number]): boolean =>
  kernel[0] > needed[0] || (kernel[0] === needed[0] && kernel[1] >= needed[1]);
