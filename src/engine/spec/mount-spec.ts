/** Checks the entries of `HostConfig.Mounts` and `HostConfig.Tmpfs`. */
import { existsSync } from 'node:fs';
import { isAbsolute, posix } from 'node:path';
import { InvalidParameter } from '../../model/errors.ts';
import type { MountSpec } from '../../model/container-config.ts';
import { PROPAGATIONS } from './mount-mode.ts';
import { checkTarget } from './mount-target.ts';
import { tmpfsOptions, tmpfsText } from './tmpfs.ts';

const OPTION_FIELDS = ['BindOptions', 'VolumeOptions', 'ImageOptions', 'TmpfsOptions'] as const;
type OptionField = (typeof OPTION_FIELDS)[number];

/** The options that each supported type may have. */
const OWN_OPTIONS: ReadonlyMap<string, OptionField> = new Map([
  ['bind', 'BindOptions'],
  ['volume', 'VolumeOptions'],
  ['tmpfs', 'TmpfsOptions'],
]);

/** @throws InvalidParameter `invalid mount config for type "bind": …` */
export function checkMounts(mounts: readonly MountSpec[]): void {
  for (const mount of mounts) {
    checkMountSpec(mount);
    const createSource = mount.BindOptions?.CreateMountpoint ?? false;
    if (mount.Type === 'bind' && !createSource && !existsSync(mount.Source!))
      refuse(mount, `bind source path does not exist: ${mount.Source}`);
  }
}

/** `HostConfig.Tmpfs`: options by destination. @throws InvalidParameter */
export function checkTmpfs(tmpfs: Readonly<Record<string, string>>): void {
  for (const [target, options] of Object.entries(tmpfs)) {
    checkTarget(target);
    tmpfsOptions(options);
  }
}

/** Checks all but the existence of a bind's source. @throws InvalidParameter `invalid mount config for type …` */
export function checkMountSpec(mount: MountSpec): void {
  if (!mount.Target) refuse(mount, 'field Target must not be empty');
  refuseIfThrows(mount, () => checkTarget(mount.Target));
  if (mount.Type === 'image') refuse(mount, 'mounts of images are not supported');
  if (mount.Type === 'cluster') refuse(mount, 'cluster volumes need a swarm, which is not supported');
  const own = OWN_OPTIONS.get(mount.Type) ?? refuse(mount, 'mount type unknown');
  if (mount.Type === 'bind' && !mount.Source) refuse(mount, 'field Source must not be empty');
  if (mount.Type === 'tmpfs' && mount.Source) refuse(mount, 'field Source must not be specified');
  for (const field of OPTION_FIELDS) {
    if (field !== own && mount[field]) refuse(mount, `field ${field} must not be specified`);
  }
  if (mount.Type === 'bind') checkBind(mount);
  checkSubpath(mount);
  if (mount.Type === 'tmpfs') refuseIfThrows(mount, () => tmpfsText(mount));
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

function checkSubpath(mount: MountSpec): void {
  const subpath = mount.VolumeOptions?.Subpath;
  if (!subpath) return;
  if (!mount.Source) refuse(mount, 'must not set Subpath when using anonymous volumes');
  if (!isLocal(subpath)) refuse(mount, 'subpath must be a relative path within the volume');
}

/** Go's filepath.IsLocal: relative, and never above its start. */
const isLocal = (path: string): boolean => !isAbsolute(path) && posix.normalize(path).split('/')[0] !== '..';

function refuse(mount: MountSpec, reason: string): never {
  throw new InvalidParameter(`invalid mount config for type ${JSON.stringify(mount.Type)}: ${reason}`);
}

function refuseIfThrows(mount: MountSpec, check: () => void): void {
  try {
    check();
  } catch (error) {
    refuse(mount, (error as Error).message);
  }
}
