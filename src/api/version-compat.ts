/**
 * Adapts a create request to its API version: a field that the version does not have, or gives another meaning, is set
 * to what that version means (moby postContainersCreate).
 */
import { joinsContainer } from '../model/namespace-mode.ts';
import type { CreateRequest, EndpointRequest, HostConfig } from '../model/container-config.ts';
import { InvalidParameter } from '../model/errors.ts';
import type { Supports } from './wire/schemas.ts';

const MAC_DEPRECATED =
  'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.';

type HostRequest = NonNullable<CreateRequest['HostConfig']>;
type MountRequest = NonNullable<HostRequest['Mounts']>[number];
type BindOptions = NonNullable<MountRequest['BindOptions']>;
type Endpoints = Record<string, EndpointRequest | null>;

/** The adapted request, and the warnings for the client. @throws InvalidParameter */
export function adaptCreateRequest(
  original: CreateRequest,
  supports: Supports,
): { request: CreateRequest; warnings: string[] } {
  const request = { ...original };
  const host = adaptHostConfig({ ...original.HostConfig }, supports);
  if (original.HostConfig || Object.keys(host).length > 0) request.HostConfig = host;
  if (original.Healthcheck && !supports('1.44')) request.Healthcheck = { ...original.Healthcheck, StartInterval: 0 };
  const { endpoints, warnings } = moveMacAddress(original, adaptEndpoints(original, supports), supports);
  if (Object.keys(endpoints).length > 0)
    request.NetworkingConfig = { ...original.NetworkingConfig, EndpointsConfig: endpoints };
  return { request, warnings };
}

function adaptHostConfig(host: HostRequest, supports: Supports): HostRequest {
  // Older clients remove their containers themselves.
  if (!supports('1.25')) host.AutoRemove = false;
  if (!supports('1.40')) {
    host.KernelMemoryTCP = 0;
    host.IpcMode ||= 'shareable';
  }
  if (!supports('1.41')) host.CgroupnsMode ||= 'host';
  // 1.42 dropped KernelMemory too. dockerd ignores it silently; the engine warns.
  if (!supports('1.42')) host.ConsoleSize = [0, 0];
  if (!supports('1.43')) delete host.Annotations;
  if (host.Mounts) host.Mounts = host.Mounts.map((mount) => adaptMount(mount, supports));
  return host;
}

function adaptMount(original: MountRequest, supports: Supports): MountRequest {
  const mount = { ...original };
  if (mount.BindOptions) mount.BindOptions = adaptBindOptions(mount.BindOptions, supports);
  // Older daemons ignored options of other types.
  if (!supports('1.42') && mount.Type !== 'volume') delete mount.VolumeOptions;
  if (!supports('1.42') && mount.Type !== 'tmpfs') delete mount.TmpfsOptions;
  if (mount.VolumeOptions?.Subpath && !supports('1.45'))
    throw new InvalidParameter('VolumeOptions.Subpath needs API v1.45 or newer');
  if (mount.TmpfsOptions && !supports('1.46')) mount.TmpfsOptions = { ...mount.TmpfsOptions, Options: [] };
  return mount;
}

function adaptBindOptions(original: BindOptions, supports: Supports): BindOptions {
  const bind = { ...original };
  if (!supports('1.40')) bind.NonRecursive = false;
  if (!supports('1.42')) bind.CreateMountpoint = false;
  // Ignored, it would leave writable what the client wants read-only.
  if (bind.ReadOnlyForceRecursive && !supports('1.44'))
    throw new InvalidParameter('BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer');
  return bind;
}

/** Adapts an update request likewise (moby postContainerUpdate). */
export function adaptUpdateRequest(original: Partial<HostConfig>, supports: Supports): Partial<HostConfig> {
  const request = { ...original };
  if (!supports('1.40')) delete request.PidsLimit;
  return request;
}

function adaptEndpoints({ NetworkingConfig }: CreateRequest, supports: Supports): Endpoints {
  const endpoints = { ...NetworkingConfig?.EndpointsConfig };
  const names = Object.keys(endpoints);
  if (names.length > 1 && !supports('1.44'))
    throw new InvalidParameter(
      `Container cannot be created with multiple network endpoints: ${names.sort().join(', ')}`,
    );
  for (const [name, endpoint] of Object.entries(endpoints)) {
    if (endpoint && !supports('1.44')) endpoints[name] = { ...endpoint, MacAddress: '' };
    if (endpoint && !supports('1.48')) endpoints[name] = { ...endpoints[name], GwPriority: 0 };
  }
  return endpoints;
}

/** Moves the container-wide MAC address, deprecated by 1.44, to the endpoint on the container's main network. */
function moveMacAddress(
  { MacAddress, HostConfig }: CreateRequest,
  endpoints: Endpoints,
  supports: Supports,
): { endpoints: Endpoints; warnings: string[] } {
  const mode = HostConfig?.NetworkMode || 'default';
  // Without an endpoint of its own, a container cannot have the address; the engine rejects it.
  const hasEndpoint = mode !== 'host' && mode !== 'none' && !joinsContainer(mode);
  if (!MacAddress || !hasEndpoint) return { endpoints, warnings: [] };
  const name = mainNetwork(mode, endpoints);
  const own = endpoints[name]?.MacAddress;
  if (own && own !== MacAddress)
    throw new InvalidParameter(
      'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty',
    );
  return {
    endpoints: { ...endpoints, [name]: { ...endpoints[name], MacAddress } },
    warnings: supports('1.44') ? [MAC_DEPRECATED] : [],
  };
}

/** The network that a network mode names: `default` is the network `bridge`, if the request calls it that. */
function mainNetwork(mode: string, endpoints: Endpoints): string {
  const isBridge = mode === 'default' && !('default' in endpoints) && 'bridge' in endpoints;
  return isBridge ? 'bridge' : mode;
}
