/**
 * Who may ask for which DNS name. A container is known by its names on each user-defined network that it is on, and
 * only to the containers of that network; the aliases of its links are known to itself only. The DNS server (dns/)
 * recognises the asking container by its address.
 *
 * On an internal network DNS must not be a way out: nothing is forwarded that arrives there. Only the addresses in
 * `dnsClientsOf` may reach the network's resolver at all (firewall.ts).
 */
import { isPredefined, type Network } from '../../model/network.ts';
import type { EndpointSetup, Setup } from './driver.ts';
import type { DnsContainer, DnsTables } from './dns/tables.ts';

/** Whether container names are resolved on this network. */
export const hasDns = (network: Pick<Network, 'name' | 'driver'>): boolean =>
  network.driver === 'bridge' && !isPredefined(network.name);

/** The addresses on a network that the DNS server listens on, in the order in which a container should ask them. */
export const resolversOf = ({ ipv4, ipv6 }: Pick<Network, 'ipv4' | 'ipv6'>): string[] =>
  [ipv4, ipv6].flatMap((space) => (space ? [space.gateway] : []));

/** What the DNS server answers. Networks on which no container has a name are left out. */
export function dnsTables(networks: readonly Network[], setups: readonly Setup[]): DnsTables {
  const resolved = new Map(networks.filter(hasDns).map((network) => [network.id, network]));
  const containers = setups
    .map((setup) => containerEntry(setup, resolved))
    .filter(({ endpoints }) => endpoints.length > 0);
  const used = new Set(containers.flatMap(({ endpoints }) => endpoints.map(({ network }) => network)));
  return {
    version: 1,
    networks: [...resolved.values()]
      .filter(({ id }) => used.has(id))
      .map(({ id, name, internal, ...spaces }) => ({ id, name, internal, resolvers: resolversOf(spaces) })),
    containers,
  };
}

function containerEntry(setup: Setup, networks: ReadonlyMap<string, Network>): DnsContainer {
  return {
    id: setup.container,
    endpoints: setup.endpoints
      .filter(({ networkId, changing, names }) => networks.has(networkId) && !changing && names.length > 0)
      .sort(bySearchOrder)
      .map(({ networkId, address, address6, names, links = {} }) => ({
        network: networkId,
        addresses: [address, address6].filter(Boolean),
        names,
        links,
      })),
    servers: setup.dnsServers,
    ndots: setup.ndots ?? false,
  };
}

// As in dockerd: internal networks last, then by priority and name.
const bySearchOrder = (a: EndpointSetup, b: EndpointSetup): number =>
  Number(a.internal) - Number(b.internal) || b.priority - a.priority || (a.network < b.network ? -1 : 1);

/** The addresses from which an endpoint may reach the resolver of its internal network; other networks need no list. */
export const dnsClientsOf = ({ internal, names, address, address6 }: EndpointSetup): string[] =>
  internal && names.length > 0 ? [address, address6].filter(Boolean) : [];

/** Those of all endpoints of a container that are not about to leave. */
export const allDnsClientsOf = ({ endpoints }: Setup): string[] =>
  endpoints.filter(({ changing }) => changing !== 'leaving').flatMap(dnsClientsOf);
