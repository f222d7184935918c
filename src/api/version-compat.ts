/**
 * What a create request of an older (or newer) API version does not mean, by the version that brought or took it (moby
 * postContainersCreate).
 */
import type { CreateRequest, EndpointRequest } from '../model/container-config.ts';
import { InvalidParameter } from '../model/errors.ts';
import type { Speaks } from './wire/schemas.ts';

const MAC_DEPRECATED =
  'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.';

type HostRequest = NonNullable<CreateRequest['HostConfig']>;

/** The request as its version means it, and what to warn of. @throws InvalidParameter */
export function createRequestOf(asked: CreateRequest, speaks: Speaks): { request: CreateRequest; warnings: string[] } {
  const host: HostRequest = { ...asked.HostConfig };
  // The client removed its containers itself.
  if (!speaks('1.25')) host.AutoRemove = false;
  if (!speaks('1.40')) {
    host.KernelMemoryTCP = 0;
    host.IpcMode ||= 'shareable';
  }
  if (!speaks('1.41')) host.CgroupnsMode ||= 'host';
  // KernelMemory went with 1.42, where dockerd drops it silently; here it is warned about.
  if (!speaks('1.42')) host.ConsoleSize = [0, 0];
  if (!speaks('1.43')) delete host.Annotations;
  if (host.Mounts) host.Mounts = host.Mounts.map((mount) => mountOf(mount, speaks));
  const request: CreateRequest = {
    ...asked,
    ...(asked.HostConfig || Object.keys(host).length > 0 ? { HostConfig: host } : {}),
  };
  if (asked.Healthcheck && !speaks('1.44')) request.Healthcheck = { ...asked.Healthcheck, StartInterval: 0 };
  const { endpoints, warnings } = endpointsOf(asked, speaks);
  if (Object.keys(endpoints).length > 0)
    request.NetworkingConfig = { ...asked.NetworkingConfig, EndpointsConfig: endpoints };
  return { request, warnings };
}

type MountRequest = NonNullable<HostRequest['Mounts']>[number];

function mountOf(mount: MountRequest, speaks: Speaks): MountRequest {
  const { BindOptions: bind, VolumeOptions: volume, TmpfsOptions: tmpfs } = mount;
  return {
    ...mount,
    ...(bind
      ? {
          BindOptions: {
            ...bind,
            ...(speaks('1.40') ? {} : { NonRecursive: false }),
            ...(speaks('1.42') ? {} : { CreateMountpoint: false }),
            ...(speaks('1.44')
              ? {}
              : { ReadOnlyNonRecursive: bind.NonRecursive ?? false, ReadOnlyForceRecursive: false }),
          },
        }
      : {}),
    ...(volume && !speaks('1.45') ? { VolumeOptions: { ...volume, Subpath: '' } } : {}),
    ...(tmpfs && !speaks('1.46') ? { TmpfsOptions: { ...tmpfs, Options: [] } } : {}),
  };
}

// The container's MAC address became its endpoints' in 1.44.
function endpointsOf(
  { MacAddress, HostConfig, NetworkingConfig }: CreateRequest,
  speaks: Speaks,
): { endpoints: Record<string, EndpointRequest | null>; warnings: string[] } {
  const endpoints = { ...NetworkingConfig?.EndpointsConfig };
  if (Object.keys(endpoints).length > 1 && !speaks('1.44'))
    throw new InvalidParameter(
      `Container cannot be created with multiple network endpoints: ${Object.keys(endpoints).sort().join(', ')}`,
    );
  for (const [name, endpoint] of Object.entries(endpoints)) {
    if (endpoint && !speaks('1.44')) endpoints[name] = { ...endpoint, MacAddress: '' };
    if (endpoint && !speaks('1.48')) endpoints[name] = { ...endpoints[name], GwPriority: 0 };
  }
  if (!MacAddress) return { endpoints, warnings: [] };
  const mode = HostConfig?.NetworkMode || 'default';
  // Others have no endpoint of their own; the engine refuses an address there.
  if (mode === 'host' || mode === 'none' || mode.startsWith('container:')) return { endpoints, warnings: [] };
  const name = mode in endpoints ? mode : mode === 'default' && 'bridge' in endpoints ? 'bridge' : mode;
  const own = endpoints[name]?.MacAddress;
  if (own && own !== MacAddress)
    throw new InvalidParameter(
      'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty',
    );
  endpoints[name] = { ...endpoints[name], MacAddress };
  return { endpoints, warnings: speaks('1.44') ? [MAC_DEPRECATED] : [] };
}
