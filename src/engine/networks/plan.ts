/** Which networks a container will be on. Planned at create: nothing is set up or allocated. */
import { isIPv4, isIPv6 } from 'node:net';
import type { EndpointRequest } from '../../model/container-config.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { listed } from './definition.ts';
import { networkOfMode } from '../../model/namespace-mode.ts';
import { isPredefined, type AddressSpace, type Network } from '../../model/network.ts';
import { shortId } from '../../model/short-id.ts';
import { cidr, contains } from './subnets.ts';

export interface Planned {
  id: string;
  name: string;
  hostname: string;
}

const MAC = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;

/**
 * Endpoints without addresses. As in Docker, a network that does not exist fails the start, not the create.
 * @throws InvalidParameter with Docker's texts
 */
export function planEndpoints(
  mode: string,
  requests: Record<string, EndpointRequest | null>,
  container: Planned,
  find: (reference: string) => Network | undefined = () => undefined,
): Record<string, Endpoint> {
  const faults = Object.entries(requests).flatMap(([name, request]) => {
    const fault = request === null ? 'EndpointsConfig is nil' : endpointFault(name, request, find(name));
    return fault === undefined ? [] : [`invalid config for network ${name}: ${fault}`];
  });
  if (faults.length > 0) throw new InvalidParameter(listed(faults));
  const network = networkOfMode(mode);
  if (network === undefined) return {};
  const names = Object.keys(requests);
  const nameOf = (reference: string): string =>
    find(reference)?.name ?? (reference === 'default' ? 'bridge' : reference);
  const wanted =
    names.length > 0 ? names.map((name) => [nameOf(name), requests[name]!] as const) : [[nameOf(network), {}] as const];
  // The network of the mode becomes eth0.
  wanted.sort(([a], [b]) => Number(b === nameOf(network)) - Number(a === nameOf(network)));
  return Object.fromEntries(wanted.map(([name, request]) => [name, planEndpoint(name, request, container)]));
}

/** An endpoint without addresses. */
export function planEndpoint(network: string, request: EndpointRequest, container: Planned): Endpoint {
  return {
    network,
    networkId: request.NetworkID ?? '',
    request,
    endpointId: '',
    gateway: '',
    ipAddress: '',
    ipPrefixLen: 0,
    ipv6Gateway: '',
    globalIPv6Address: '',
    globalIPv6PrefixLen: 0,
    // As in dockerd, the requested one is shown until the container has run.
    macAddress: request.MacAddress ?? '',
    dnsNames: isPredefined(network) ? [] : dnsNames(container, request.Aliases ?? []),
  };
}

/** The DNS names of a container on a user-defined network, in Docker's order. */
export const dnsNames = ({ id, name, hostname }: Planned, aliases: readonly string[]): string[] => [
  ...new Set([name, ...aliases, shortId(id), hostname].filter(Boolean)),
];

/**
 * Checks that a container may join `network` in addition to those it is on.
 * @throws InvalidParameter with Docker's texts
 */
export function checkCombination(
  container: Pick<Container, 'hostConfig' | 'endpoints'>,
  network: Network,
  find: (reference: string) => Network | undefined,
): void {
  if (container.hostConfig.NetworkMode !== 'host' && network.driver === 'host')
    throw new InvalidParameter(
      'cannot connect container to host network - container must be created in host network mode',
    );
  for (const [key, { networkId }] of Object.entries(container.endpoints)) {
    const other = find(networkId || key);
    if (!other || other === network) continue;
    if (other.driver === 'host')
      throw new InvalidParameter(
        'container sharing network namespace with another container or host cannot be connected to any other network',
      );
    if (other.name === 'none' || network.name === 'none')
      throw new InvalidParameter(
        'container cannot be connected to multiple networks with one of the networks in private (none) mode',
      );
  }
}

/** What is wrong with a requested endpoint; undefined when it is valid. */
export function endpointFault(
  network: string,
  { IPAMConfig, Aliases, MacAddress }: EndpointRequest,
  known: Network | undefined,
): string | undefined {
  const faults: string[] = [];
  const ipv4 = IPAMConfig?.IPv4Address ?? '';
  const ipv6 = IPAMConfig?.IPv6Address ?? '';
  if (isPredefined(network)) {
    if (ipv4 !== '' || ipv6 !== '') faults.push('user-specified IP address is supported on user-defined networks only');
    if ((Aliases ?? []).length > 0) faults.push('network-scoped aliases are only supported for user-defined networks');
  }
  const bad4 = ipv4 !== '' && (!isIPv4(ipv4) || ipv4 === '0.0.0.0');
  const bad6 = ipv6 !== '' && (!isIPv6(ipv6) || ipv6 === '::');
  if (bad4) faults.push(`invalid IPv4 address: ${ipv4}`);
  if (bad6) faults.push(`invalid IPv6 address: ${ipv6}`);
  for (const address of IPAMConfig?.LinkLocalIPs ?? [])
    if (!isIPv4(address) && !isIPv6(address)) faults.push(`invalid link-local IP address: ${address}`);
  if (known && !isPredefined(network)) {
    if (ipv4 !== '' && !bad4) faults.push(...outside(ipv4, known.ipv4));
    if (ipv6 !== '' && !bad6) faults.push(...outside(ipv6, known.ipv6));
  }
  if (MacAddress && !MAC.test(MacAddress)) return `invalid MAC address ${MacAddress}`;
  return faults.length > 0 ? `invalid endpoint settings:\n${listed(faults)}` : undefined;
}

function outside(address: string, space: AddressSpace | undefined): string[] {
  if (!space?.static)
    return ['user-specified IP address is supported only when connecting to networks with user-configured subnets'];
  return contains(cidr(space.subnet), address) ? [] : [`no configured subnet contains IP address ${address}`];
}
