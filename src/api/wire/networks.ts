/** JSON of networks. */
import type { Network } from '../../model/network.ts';
import type { Member } from '../../engine/networks/networks.ts';
import { rfc3339 } from '../../engine/time.ts';
import type { Schemas } from './schemas.ts';

export function networkInspect(n: Network, members: Member[]): Schemas['Network'] {
  return {
    Name: n.name,
    Id: n.id,
    Created: rfc3339(n.created),
    Scope: 'local',
    Driver: n.driver,
    EnableIPv4: n.enableIPv4,
    EnableIPv6: n.enableIPv6,
    IPAM: {
      Driver: n.ipam.driver,
      Options: n.ipam.options,
      Config: n.ipam.config.length > 0 || n.driver === 'bridge' ? n.ipam.config : null,
    },
    Internal: n.internal,
    Attachable: n.attachable,
    Ingress: n.ingress,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: Object.fromEntries(
      members.map((m) => [
        m.container,
        {
          Name: m.name,
          EndpointID: m.endpointId,
          MacAddress: m.macAddress,
          IPv4Address: m.ipv4Address,
          IPv6Address: m.ipv6Address,
        },
      ]),
    ),
    Options: n.damaged === undefined ? n.options : { ...n.options, 'holdfast.damaged': n.damaged },
    Labels: n.labels,
  };
}

export const networkCreated = (id: string): Schemas['NetworkCreateResponse'] => ({ Id: id, Warning: '' });

export const networksPruned = (names: string[]): Schemas['NetworkPruneResponse'] => ({
  NetworksDeleted: names.length > 0 ? names : null,
});
