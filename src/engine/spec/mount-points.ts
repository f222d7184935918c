/**
 * Where a create request mounts what: binds, mounts and the image's volumes become Docker's mount points. Touches
 * nothing.
 */
import { existsSync } from 'node:fs';
import { isAbsolute, posix } from 'node:path';
import { InvalidParameter, NotFound } from '../../model/errors.ts';
import type { ContainerConfig, HostConfig, MountSpec } from '../../model/container-config.ts';
import type { MountPoint } from '../../model/container.ts';
import { tmpfsOptions, tmpfsText } from './tmpfs.ts';

const PROPAGATIONS = new Set(['private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared']);
const DEFAULT_PROPAGATION = 'rprivate';
const LOCAL_DRIVER = 'local';

/** Words of a bind's third part by kind; at most one of each kind may be given. */
const MODE_WORDS: Readonly<Record<string, string>> = {
  ro: 'access',
  rw: 'access',
  z: 'label',
  Z: 'label',
  nocopy: 'copy',
  consistent: 'consistency',
  cached: 'consistency',
  delegated: 'consistency',
  ...Object.fromEntries([...PROPAGATIONS].map((name) => [name, 'propagation'])),
};

type Wanted = Pick<HostConfig, 'Binds' | 'Mounts' | 'Tmpfs' | 'VolumeDriver'>;

/** A container's own mounts, then those it inherits, then its image's volumes: of one destination the first has it. Of
 * volumes the
 *  engine fills in `source`, and `name` where it is '' (anonymous).
 *  @throws InvalidParameter `Duplicate mount point: /x`, `invalid volume specification: 'x'`, `invalid mode: x` … */
export function mountPoints(
  wanted: Wanted,
  config: Pick<ContainerConfig, 'Volumes'>,
  roots: readonly string[],
  inherited: readonly MountPoint[] = [],
): MountPoint[] {
  const points: MountPoint[] = [];
  const taken = new Set(Object.keys(wanted.Tmpfs ?? {}).map(cleaned));
  const add = (point: MountPoint): void => {
    if (taken.has(point.destination)) throw new InvalidParameter(`Duplicate mount point: ${point.destination}`);
    if (point.type === 'volume') checkVolume(point);
    taken.add(point.destination);
    points.push(point);
  };
  for (const bind of wanted.Binds ?? []) add(withinRoots(fromBind(bind, wanted.VolumeDriver), roots));
  for (const mount of wanted.Mounts ?? []) add(withinRoots(fromSpec(mount), roots));
  for (const point of inherited.filter(({ destination }) => !taken.has(destination))) add(point);
  for (const path of Object.keys(config.Volumes ?? {})) {
    const target = cleaned(path);
    checkTarget(target);
    if (!taken.has(target))
      add({ ...blank, type: 'volume', destination: target, driver: wanted.VolumeDriver || LOCAL_DRIVER });
  }
  return points;
}

/**
 * What `HostConfig.Mounts` must hold to be taken. @throws InvalidParameter `invalid mount config for type "bind": …`
 */
export function checkMounts(mounts: readonly MountSpec[]): void {
  for (const mount of mounts) {
    checkSpec(mount);
    const create = mount.BindOptions?.CreateMountpoint ?? false;
    if (mount.Type === 'bind' && !create && !existsSync(mount.Source!))
      refuse(mount, `bind source path does not exist: ${mount.Source}`);
  }
}

/** @throws NotFound for any driver but the local one */
function checkVolumeDriver(driver: string, name = ''): void {
  const what = name === '' ? '' : `create ${name}: `;
  if (driver !== '' && driver !== LOCAL_DRIVER)
    throw new NotFound(`${what}error looking up volume plugin ${driver}: plugin ${JSON.stringify(driver)} not found`);
}

/** `HostConfig.Tmpfs`: destinations and options. */
export function checkTmpfs(tmpfs: Readonly<Record<string, string>>): void {
  for (const [target, options] of Object.entries(tmpfs)) {
    checkTarget(target);
    tmpfsOptions(options);
  }
}

/** `container[:mode]` of `VolumesFrom`. @throws InvalidParameter */
export function parseVolumesFrom(text: string): { donor: string; readOnly: boolean } {
  if (text === '') throw new InvalidParameter('volumes-from specification cannot be an empty string');
  const [donor = '', ...rest] = text.split(':');
  const mode = rest.join(':');
  const words = mode.split(',');
  const kinds = words.map((word) => MODE_WORDS[word]);
  if (!isMode(mode) || kinds.includes('propagation') || kinds.includes('copy'))
    throw new InvalidParameter(`invalid mode: ${mode}`);
  return { donor, readOnly: words.includes('ro') };
}

/** What `VolumesFrom` brings, as the donors have it; of several donors with the same destination the last counts. */
export function inheritedMounts(
  volumesFrom: readonly string[],
  mountsOf: (donor: string) => readonly MountPoint[],
): MountPoint[] {
  const points = new Map<string, MountPoint>();
  for (const { donor, readOnly } of volumesFrom.map(parseVolumesFrom)) {
    for (const point of mountsOf(donor))
      points.set(point.destination, { ...point, rw: point.rw && !readOnly, mode: '' });
  }
  return [...points.values()];
}

/**
 * Whether a read-only bind leaves what is mounted below its source writable, and whether that is taken along at all.
 */
export function bindOptions(
  hostConfig: Pick<HostConfig, 'Mounts'>,
  destination: string,
): NonNullable<MountSpec['BindOptions']> {
  return (
    hostConfig.Mounts?.find((mount) => mount.Type === 'bind' && cleaned(mount.Target) === destination)?.BindOptions ??
    {}
  );
}

/** The destination as it is compared and mounted. */
export function cleaned(path: string): string {
  const normal = posix.normalize(path);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

const blank: MountPoint = {
  type: 'bind',
  name: '',
  source: '',
  destination: '',
  driver: '',
  mode: '',
  rw: true,
  propagation: '',
};

function fromBind(bind: string, driver: string): MountPoint {
  const parts = bind.split(':');
  const [first = '', second, mode = ''] = parts;
  const malformed = new InvalidParameter(`invalid volume specification: '${bind}'`);
  if (first === '' || parts.length > 3) throw malformed;
  // `/x:ro`: an anonymous volume has no mode.
  if (parts.length === 2 && isMode(second!)) throw malformed;
  if (!isMode(mode)) throw new InvalidParameter(`invalid mode: ${mode}`);
  const words = mode === '' ? [] : mode.split(',');
  const source = second === undefined ? '' : first;
  const propagation = words.find((word) => PROPAGATIONS.has(word));
  const spec: MountSpec = {
    Type: isAbsolute(source) ? 'bind' : 'volume',
    Source: source,
    Target: second ?? first,
    ReadOnly: words.includes('ro'),
    ...(propagation ? { BindOptions: { Propagation: propagation } } : {}),
    ...(words.includes('nocopy') ? { VolumeOptions: { NoCopy: true } } : {}),
  };
  if (driver && spec.Type === 'volume') spec.VolumeOptions = { ...spec.VolumeOptions, DriverConfig: { Name: driver } };
  try {
    checkSpec(spec);
  } catch (error) {
    throw new InvalidParameter(`${malformed.message}: ${(error as Error).message}`);
  }
  return { ...fromSpec(spec), mode: mode || (spec.Type === 'volume' ? 'z' : '') };
}

function fromSpec(mount: MountSpec): MountPoint {
  const point = { ...blank, destination: cleaned(mount.Target), rw: !mount.ReadOnly };
  switch (mount.Type) {
    case 'bind':
      return {
        ...point,
        type: 'bind',
        source: cleaned(mount.Source!),
        propagation: mount.BindOptions?.Propagation || DEFAULT_PROPAGATION,
      };
    case 'volume':
      // Docker marks volumes of the local driver so, whether or not the host has SELinux.
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

type Options = 'BindOptions' | 'VolumeOptions' | 'TmpfsOptions' | 'ImageOptions';
const OWN_OPTIONS: Readonly<Record<string, Options>> = {
  bind: 'BindOptions',
  volume: 'VolumeOptions',
  tmpfs: 'TmpfsOptions',
};

function checkSpec(mount: MountSpec): void {
  if (!mount.Target) refuse(mount, 'field Target must not be empty');
  try {
    checkTarget(mount.Target);
  } catch (error) {
    refuse(mount, (error as Error).message);
  }
  if (mount.Type === 'image') refuse(mount, 'mounts of images are not supported');
  if (mount.Type === 'cluster') refuse(mount, 'cluster volumes need a swarm, which is not supported');
  const own = OWN_OPTIONS[mount.Type] ?? refuse(mount, 'mount type unknown');
  if (mount.Type === 'bind' && !mount.Source) refuse(mount, 'field Source must not be empty');
  if (mount.Type === 'tmpfs' && mount.Source) refuse(mount, 'field Source must not be specified');
  for (const name of ['BindOptions', 'VolumeOptions', 'ImageOptions', 'TmpfsOptions'] as const) {
    if (name !== own && mount[name]) refuse(mount, `field ${name} must not be specified`);
  }
  if (mount.Type === 'bind') checkBind(mount);
  const subpath = mount.VolumeOptions?.Subpath;
  if (subpath && !mount.Source) refuse(mount, 'must not set Subpath when using anonymous volumes');
  if (subpath && !isLocal(subpath)) refuse(mount, 'subpath must be a relative path within the volume');
  if (mount.Type === 'tmpfs') {
    try {
      tmpfsText(mount);
    } catch (error) {
      refuse(mount, (error as Error).message);
    }
  }
}

function checkBind(mount: MountSpec): void {
  const options = mount.BindOptions ?? {};
  if (options.Propagation && !PROPAGATIONS.has(options.Propagation))
    refuse(mount, `invalid propagation mode: ${options.Propagation}`);
  if (!isAbsolute(mount.Source!)) refuse(mount, `invalid mount path: '${mount.Source}' mount path must be absolute`);
  if (options.ReadOnlyForceRecursive && options.ReadOnlyNonRecursive)
    refuse(mount, 'mount options conflict: "ReadOnlyNonRecursive" && "ReadOnlyForceRecursive"');
  if (options.ReadOnlyForceRecursive && options.NonRecursive)
    refuse(mount, 'mount options conflict: "ReadOnlyForceRecursive" && "NonRecursive"');
  if (options.ReadOnlyForceRecursive && !mount.ReadOnly) refuse(mount, 'option ReadOnlyForceRecursive needs ReadOnly');
}

/** Relative, and never above where it begins (Go's filepath.IsLocal). */
const isLocal = (path: string): boolean => !isAbsolute(path) && posix.normalize(path).split('/')[0] !== '..';

const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

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

function checkTarget(target: string): void {
  if (cleaned(target) === '/') throw new InvalidParameter("invalid specification: destination can't be '/'");
  if (!isAbsolute(target)) throw new InvalidParameter(`invalid mount path: '${target}' mount path must be absolute`);
}

/**
 * A bind of a directory that holds our own roots would keep every container's mounts busy unless unmounting reaches
 * into it.
 */
function withinRoots(point: MountPoint, roots: readonly string[]): MountPoint {
  const root = roots.find(
    (path) => path === point.source || point.source === '/' || path.startsWith(`${point.source}/`),
  );
  if (point.type !== 'bind' || root === undefined) return point;
  if (point.propagation === DEFAULT_PROPAGATION) return { ...point, propagation: 'rslave' };
  if (['slave', 'rslave', 'shared', 'rshared'].includes(point.propagation)) return point;
  throw new InvalidParameter(
    `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: ${JSON.stringify(root)}, bind mount source: ${JSON.stringify(point.source)}, propagation: ${JSON.stringify(point.propagation)}`,
  );
}

function isMode(mode: string): boolean {
  if (mode === '') return true;
  const kinds = mode.split(',').map((word) => MODE_WORDS[word]);
  return !kinds.includes(undefined) && new Set(kinds).size === kinds.length;
}

const refuse = (mount: MountSpec, reason: string): never => {
  throw new InvalidParameter(`invalid mount config for type ${JSON.stringify(mount.Type)}: ${reason}`);
};
