/**
 * Who may ask for which DNS name. A container is known by its names on each user-defined network that it is on, and
 * only to the containers of that network: aardvark-dns answers by the address that asks, from one table per network.
 *
 * On an internal network DNS must not be a way out. Its containers' tables name a forwarder of our own that refuses
 * every question (`refuserAddress`), and only the addresses in `dnsClientsOf` may reach the network's resolver at all
 * (firewall.ts): aardvark-dns would answer an unknown address by asking the host's servers.
 */
import { createHash } from 'node:crypto';
import { isPredefined, type Network } from '../../model/network.ts';
import type { EndpointSetup, Setup } from './driver.ts';

/** Whether container names are resolved on this network. */
export const hasDns = (network: Pick<Network, 'name' | 'driver'>): boolean =>
  network.driver === 'bridge' && !isPredefined(network.name);

/** The addresses on a network that aardvark-dns listens on, in the order in which a container should ask them. */
export const resolversOf = ({ ipv4, ipv6 }: Pick<Network, 'ipv4' | 'ipv6'>): string[] =>
  [ipv4, ipv6].flatMap((space) => (space ? [space.gateway] : []));

/**
 * The loopback address, derived from the default bridge's name and so this daemon's own, on which the port proxy
 * refuses DNS questions. aardvark-dns picks the forwarder by the source address, so a container that is on other
 * networks too still resolves external names from its addresses there. Nothing may listen on 0.0.0.0:53 instead:
 * aardvark-dns could not bind its own addresses then.
 */
export function refuserAddress(bridge: string): string {
  const [a = 0, b = 0, c = 0] = createHash('sha256').update(bridge).digest();
  return `127.${64 + (a % 128)}.${b}.${1 + (c % 254)}`;
}

/**
 * The configuration of aardvark-dns: network id → file content. The first line lists the addresses to listen on, each
 * further line is a container: id, IPv4 address, IPv6 address, names and, optionally, its own upstream servers.
 */
export function aardvarkTables(
  networks: readonly Network[],
  setups: readonly Setup[],
  refuser: string,
): Map<string, string> {
  const tables = new Map<string, string>();
  for (const network of networks.filter(hasDns)) {
    const lines = setups.flatMap((setup) => tableLines(network, setup, refuser));
    if (lines.length > 0) tables.set(network.id, `${[resolversOf(network).join(','), ...lines].join('\n')}\n`);
  }
  return tables;
}

function tableLines(network: Network, { container, endpoints, dnsServers }: Setup, refuser: string): string[] {
  const upstream = network.internal ? [refuser] : dnsServers;
  return endpoints
    .filter(({ networkId, changing, names }) => networkId === network.id && changing === undefined && names.length > 0)
    .map(({ address, address6, names }) => {
      const fields = [container, address, address6, names.join(',')];
      if (upstream.length > 0) fields.push(upstream.join(','));
      return fields.join(' ');
    });
}

/** The addresses from which an endpoint may reach the resolver of its internal network; other networks need no list. */
export const dnsClientsOf = ({ internal, names, address, address6 }: EndpointSetup): string[] =>
  internal && names.length > 0 ? [address, address6].filter(Boolean) : [];

/** Those of all endpoints of a container that are not about to leave. */
export const allDnsClientsOf = ({ endpoints }: Setup): string[] =>
  endpoints.filter(({ changing }) => changing !== 'leaving').flatMap(dnsClientsOf);

/** Whether the refuser must run for this container. */
export const needsRefuser = (setup: Setup | undefined): boolean =>
  setup !== undefined && allDnsClientsOf(setup).length > 0;
