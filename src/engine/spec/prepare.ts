/** Turns a create request into a container's definition. */
import { InvalidParameter } from '../../model/errors.ts';
import type { ContainerConfig, CreateRequest, HostConfig } from '../../model/container-config.ts';
import type { MountPoint } from '../../model/container.ts';
import { shortId } from '../../model/short-id.ts';
import type { Config } from '../../config/config.ts';
import type { Image } from '../images/image.ts';
import type { Paths } from '../paths.ts';
import { profileOf } from './apparmor.ts';
import { complete, withHostDefaults } from './defaults.ts';
import { thisHost, type Host } from './host.ts';
import { checkLogOptions, withDefaultLog } from './log-options.ts';
import { mergeWithImage } from './merge.ts';
import { mountPoints } from './mount-points.ts';
import { inheritedMounts } from './volumes-from.ts';
import { parseSignal } from './signals.ts';
import { checkPresence, checkRequest } from './validate.ts';

/** The part of a container's definition that follows from its request. */
export interface Prepared {
  config: ContainerConfig;
  hostConfig: HostConfig;
  path: string;
  args: string[];
  /** Volumes have no source yet, and anonymous ones no name: the engine creates them. */
  mounts: MountPoint[];
  warnings: string[];
  appArmorProfile: string;
}

/** What a definition depends on besides the request, the image and the host. */
export interface PrepareDeps {
  config: Config;
  paths: Paths;
  /** The mounts of a container named by `VolumesFrom`. @throws NotFound */
  mountsOf: (reference: string) => readonly MountPoint[];
}

/**
 * Validates a create request, merges it with its image and fills in Docker's defaults. Changes nothing on the host.
 * @throws InvalidParameter with Docker's texts, NotFound for a container named by `VolumesFrom`
 */
export function prepare(id: string, request: CreateRequest, image: Image, deps: PrepareDeps): Prepared {
  return prepareOn(thisHost(), id, request, image, deps);
}

export function prepareOn(
  host: Host,
  id: string,
  request: CreateRequest,
  image: Image,
  { config: daemon, paths, mountsOf }: PrepareDeps,
): Prepared {
  checkPresence(request);
  const asked = complete(request);
  const checked = checkRequest(asked, daemon, host);
  const imageWarnings = checkImage(image, host);
  const config = named(mergeWithImage(checked.config, image.config), checked.hostConfig, id, host);
  if (config.StopSignal) parseSignal(config.StopSignal);
  const hostConfig = withHostDefaults(withoutNetwork(config, checked.hostConfig), daemon, host);
  hostConfig.LogConfig = withDefaultLog(hostConfig.LogConfig, daemon);
  const logWarnings = checkLogOptions(hostConfig.LogConfig);
  const inherited = inheritedMounts(hostConfig.VolumesFrom ?? [], mountsOf);
  const mounts = mountPoints(hostConfig, config, [paths.dataRoot, paths.execRoot], inherited);
  const [path = '', ...args] = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  return {
    config,
    hostConfig,
    path,
    args,
    mounts,
    warnings: [...checked.warnings, ...imageWarnings, ...logWarnings],
    appArmorProfile: profileOf(hostConfig),
  };
}

/** `NetworkDisabled` implies the network mode `none`. */
function withoutNetwork(config: ContainerConfig, hostConfig: HostConfig): HostConfig {
  return config.NetworkDisabled ? { ...hostConfig, NetworkMode: 'none' } : hostConfig;
}

function named(config: ContainerConfig, hostConfig: HostConfig, id: string, host: Host): ContainerConfig {
  return {
    ...config,
    Hostname: config.Hostname || (hostConfig.NetworkMode === 'host' ? host.hostname : shortId(id)),
  };
}

function checkImage({ config: image }: Image, host: Host): string[] {
  if (image.os && image.os !== 'linux')
    throw new InvalidParameter(`image operating system ${JSON.stringify(image.os)} cannot be used on this platform`);
  if (!image.architecture || image.architecture === host.architecture) return [];
  const platform = ['linux', image.architecture, image.variant].filter(Boolean).join('/');
  return [
    `The requested image's platform (${platform}) does not match the detected host platform (linux/${host.architecture}) and no specific platform was requested`,
  ];
}
