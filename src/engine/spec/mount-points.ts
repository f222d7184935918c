/** Turns the binds, mounts and volumes of a create request into Docker's mount points. */
import { isAbsolute } from 'node:path';
import { InvalidParameter, NotFound } from '../../model/errors.ts';
import type { ContainerConfig, HostConfig, MountSpec } from '../../model/container-config.ts';
import type { MountPoint } from '../../model/container.ts';
import { parseMode, PROPAGATIONS } from './mount-mode.ts';
import { checkMountSpec } from './mount-spec.ts';
import { checkTarget, cleanPath } from './mount-target.ts';

const DEFAULT_PROPAGATION = 'rprivate';
/** Propagations with which an unmount on the host reaches the container. */
const RECEIVING = new Set(['slave', 'rslave', 'shared', 'rshared']);
const LOCAL_DRIVER = 'local';
const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

type Requested = Pick<HostConfig, 'Binds' | 'Mounts' | 'Tmpfs' | 'VolumeDriver'>;

const BLANK: MountPoint = {
  type: 'bind',
  name: '',
  source: '',
  destination: '',
  driver: '',
  mode: '',
  rw: true,
  propagation: '',
};

/**
 * The container's own mounts, then the inherited ones, then its image's volumes; an earlier one with the same
 * destination wins. Volumes have no `source` yet, and anonymous ones no `name`: the engine adds them.
 * @param roots the daemon's directories; a bind that contains one of them gets another propagation
 * @throws InvalidParameter `Duplicate mount point: /x`, `invalid volume specification: 'x'`, `invalid mode: x` …
 */
export function mountPoints(
  requested: Requested,
  config: Pick<ContainerConfig, 'Volumes'>,
  roots: readonly string[],
  inherited: readonly MountPoint[] = [],
): MountPoint[] {
  const points: MountPoint[] = [];
  const taken = new Set(Object.keys(requested.Tmpfs ?? {}).map(cleanPath));
  const add = (point: MountPoint): void => {
    if (taken.has(point.destination)) throw new InvalidParameter(`Duplicate mount point: ${point.destination}`);
    if (point.type === 'volume') checkVolume(point);
    taken.add(point.destination);
    points.push(point);
  };
  for (const bind of requested.Binds ?? []) add(withSafePropagation(fromBind(bind, requested.VolumeDriver), roots));
  for (const mount of requested.Mounts ?? []) add(withSafePropagation(fromSpec(mount), roots));
  for (const point of inherited.filter(({ destination }) => !taken.has(destination))) add(point);
  for (const path of Object.keys(config.Volumes ?? {})) {
    const target = cleanPath(path);
    checkTarget(target);
    if (!taken.has(target))
      add({ ...BLANK, type: 'volume', destination: target, driver: requested.VolumeDriver || LOCAL_DRIVER });
  }
  return points;
}

/** `source:target[:mode]`, `target` alone for an anonymous volume. */
function fromBind(bind: string, driver: string): MountPoint {
  const parts = bind.split(':');
  const [first = '', second, mode = ''] = parts;
  const malformed = new InvalidParameter(`invalid volume specification: '${bind}'`);
  if (first === '' || parts.length > 3) throw malformed;
  // `/x:ro`: an anonymous volume has no mode.
  if (parts.length === 2 && parseMode(second!)) throw malformed;
  const options = parseMode(mode);
  if (!options) throw new InvalidParameter(`invalid mode: ${mode}`);
  const source = second === undefined ? '' : first;
  const spec: MountSpec = {
    Type: isAbsolute(source) ? 'bind' : 'volume',
    Source: source,
    Target: second ?? first,
    ReadOnly: options.includes('ro'),
  };
  const propagation = options.find((option) => PROPAGATIONS.has(option));
  if (propagation) spec.BindOptions = { Propagation: propagation };
  if (options.includes('nocopy')) spec.VolumeOptions = { NoCopy: true };
  if (driver && spec.Type === 'volume') spec.VolumeOptions = { ...spec.VolumeOptions, DriverConfig: { Name: driver } };
  try {
    checkMountSpec(spec);
  } catch (error) {
    throw new InvalidParameter(`${malformed.message}: ${(error as Error).message}`);
  }
  return { ...fromSpec(spec), mode: mode || (spec.Type === 'volume' ? 'z' : '') };
}

function fromSpec(mount: MountSpec): MountPoint {
  const point = { ...BLANK, destination: cleanPath(mount.Target), rw: !mount.ReadOnly };
  switch (mount.Type) {
    case 'bind':
      return {
        ...point,
        type: 'bind',
        source: cleanPath(mount.Source!),
        propagation: mount.BindOptions?.Propagation || DEFAULT_PROPAGATION,
      };
    case 'volume':
      // Docker sets mode `z` for volumes of the local driver, with or without SELinux.
      return {
        ...point,
        type: 'volume',
        name: mount.Source ?? '',
        driver: mount.VolumeOptions?.DriverConfig?.Name || LOCAL_DRIVER,
        mode: 'z',
        ...(mount.VolumeOptions?.Subpath ? { subpath: mount.VolumeOptions.Subpath } : {}),
      };
    default:
      return { ...point, type: 'tmpfs' };
  }
}

/** @throws NotFound for any driver but the local one, InvalidParameter for a bad name */
function checkVolume({ name, driver }: MountPoint): void {
  checkVolumeDriver(driver, name);
  if (name.length === 1)
    throw new InvalidParameter(
      `create ${name}: volume name is too short, names should be at least two alphanumeric characters`,
    );
  if (name !== '' && !VOLUME_NAME.test(name)) {
    throw new InvalidParameter(
      `create ${name}: ${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
}

function checkVolumeDriver(driver: string, name: string): void {
  if (driver === '' || driver === LOCAL_DRIVER) return;
  const prefix = name === '' ? '' : `create ${name}: `;
  throw new NotFound(`${prefix}error looking up volume plugin ${driver}: plugin ${JSON.stringify(driver)} not found`);
}

/**
 * A bind of a directory that contains the daemon's roots also mounts the rootfs of every container there; one within
 * them may do so. Without propagation these mounts would stay busy after the daemon has unmounted them.
 */
function withSafePropagation(point: MountPoint, roots: readonly string[]): MountPoint {
  if (point.type !== 'bind' || RECEIVING.has(point.propagation)) return point;
  const root = roots.find((path) => overlaps(path, point.source));
  if (root === undefined) return point;
  if (point.propagation === DEFAULT_PROPAGATION) return { ...point, propagation: 'rslave' };
  throw new InvalidParameter(
    `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: ${JSON.stringify(root)}, bind mount source: ${JSON.stringify(point.source)}, propagation: ${JSON.stringify(point.propagation)}`,
  );
}

/** Whether one of two directories is, or contains, the other. */
export const overlaps = (a: string, b: string): boolean => contains(a, b) || contains(b, a);

const contains = (directory: string, path: string): boolean =>
  directory === path || path.startsWith(directory === '/' ? '/' : `${directory}/`);
