/** Endpoints: which addresses, MAC address and link a container gets on a network. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { EndpointRequest } from '../../model/container-config.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { AddressSpace, Network } from '../../model/network.ts';
import type { AddressAllocator } from './address-allocation.ts';
import { LINK_NAME } from './definition.ts';
import { hasDns } from './dns-policy.ts';
import { defaultRouteEndpoint, type EndpointSetup, type PortSetup, type Setup } from './driver.ts';
import { parseLink } from '../spec/links.ts';
import { dnsNames } from './plan.ts';
import type { PublishedPort } from './port-allocation.ts';
import { cidr } from './subnets.ts';

const ID_BYTES = 32;
const HOST_LINK_PREFIX = 'vh';
/** Linux allows 15 characters (IFNAMSIZ with its NUL). */
const HOST_LINK_LENGTH = 13;
const IFNAME_OPTION = 'com.docker.network.endpoint.ifname';
const SYSCTLS_OPTION = 'com.docker.network.endpoint.sysctls';
const SYSCTL = /^net\.(ipv4|ipv6|mpls)\.([a-z]+)\.(?:IFNAME|ifname)\.([a-z0-9_]+)=(.*)$/;

export const newId = (): string => randomBytes(ID_BYTES).toString('hex');

/**
 * An endpoint with addresses. The caller must store it before it awaits anything, or another container could get the
 * same addresses.
 *
 * @param usedLinks names of the links that the container has already
 * @throws Forbidden, SystemFault, InvalidParameter
 */
export function makeEndpoint(
  network: Network,
  { request }: Pick<Endpoint, 'request'>,
  container: Container,
  usedLinks: readonly string[],
  addresses: AddressAllocator,
): EndpointSetup {
  const endpointId = newId();
  const base = {
    network: network.name,
    networkId: network.id,
    type: network.driver,
    endpointId,
    address: '',
    prefix: 0,
    gateway: '',
    address6: '',
    prefix6: 0,
    gateway6: '',
    mac: '',
    internal: network.internal,
    priority: request.GwPriority ?? 0,
    names: hasDns(network) ? dnsNamesOn(container, request) : [],
    links: hasDns(network) ? dnsLinksOn(container, network, request) : {},
  };
  if (network.driver !== 'bridge') return base;
  const { ipv4, ipv6, internal, settings, bridge } = network;
  const allocate = (space: AddressSpace | undefined, requested = '') =>
    space
      ? {
          address: addresses.next(network, space, requested),
          prefix: cidr(space.subnet).prefix,
          gateway: internal ? '' : space.gateway,
        }
      : { address: '', prefix: 0, gateway: '' };
  const four = allocate(ipv4, request.IPAMConfig?.IPv4Address);
  const six = allocate(ipv6, request.IPAMConfig?.IPv6Address);
  // The MacAddress of the container's config is that of its first endpoint.
  const requestedMac = request.MacAddress || (usedLinks.length === 0 ? container.config.MacAddress : '');
  return {
    ...base,
    ...four,
    address6: six.address,
    prefix6: six.prefix,
    gateway6: six.gateway,
    mac: (requestedMac || macOf(four.address, endpointId)).toLowerCase().replaceAll('-', ':'),
    link: {
      bridge,
      host: `${HOST_LINK_PREFIX}${endpointId}`.slice(0, HOST_LINK_LENGTH),
      name: linkName(settings.linkPrefix, request, usedLinks),
      mtu: settings.mtu,
      isolated: !settings.icc,
      sysctls: sysctlsOf(request),
    },
  };
}

/** The DNS names of a container on a network. */
export function dnsNamesOn(
  { id, name, config }: Pick<Container, 'id' | 'name' | 'config'>,
  request: EndpointRequest,
): string[] {
  const names = dnsNames({ id, name, hostname: config.Hostname }, request.Aliases ?? []);
  return [...new Set(names.map((each) => each.toLowerCase()))];
}

/** The aliases of a container's links on a network, with the names that they stand for. */
function dnsLinksOn(
  { hostConfig }: Pick<Container, 'hostConfig'>,
  { name, id }: Network,
  request: EndpointRequest,
): Record<string, string> {
  // The CLI sends links twice: with the endpoint and in HostConfig.
  const ofMode = [name, id].includes(hostConfig.NetworkMode) ? (hostConfig.Links ?? []) : [];
  return Object.fromEntries(
    [...ofMode, ...(request.Links ?? [])]
      .map(parseLink)
      .map((link) => [link.alias.toLowerCase(), link.name.toLowerCase()]),
  );
}

/**
 * The MAC address is derived from the IPv4 address, so that neighbours' ARP entries stay valid when another container
 * gets the address; without one, from the endpoint's id.
 */
export function macOf(address: string, endpointId: string): string {
  const octets =
    address === ''
      ? endpointId.slice(0, 8).match(/../g)!
      : address.split('.').map((octet) => Number(octet).toString(16).padStart(2, '0'));
  return ['02', '42', ...octets].join(':');
}

function linkName(prefix: string, request: EndpointRequest, used: readonly string[]): string {
  const requested = request.DriverOpts?.[IFNAME_OPTION];
  if (requested) {
    if (!LINK_NAME.test(requested) || used.includes(requested) || requested === 'lo')
      throw new InvalidParameter(`invalid interface name ${JSON.stringify(requested)}`);
    return requested;
  }
  for (let i = 0; ; i++) if (!used.includes(`${prefix}${i}`)) return `${prefix}${i}`;
}

function sysctlsOf({ DriverOpts }: EndpointRequest): Record<string, string> {
  const text = DriverOpts?.[SYSCTLS_OPTION];
  return Object.fromEntries(
    (text ? text.split(',') : []).map((entry) => {
      const match = SYSCTL.exec(entry);
      if (!match)
        throw new InvalidParameter(
          `unrecognised network interface sysctl '${entry}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`,
        );
      return [`${match[1]}/${match[2]}/IFNAME/${match[3]}`, match[4]!];
    }),
  );
}

/** The endpoint that receives the traffic of published ports; undefined when none is reachable from outside. */
export const portEndpoint = (setup: Pick<Setup, 'endpoints'>): EndpointSetup | undefined =>
  defaultRouteEndpoint(setup, 4) ?? defaultRouteEndpoint(setup, 6);

/** Sends the published ports to the endpoint that is reachable now; without one they stay reserved as idle. */
export function withPortsRedirected(setup: Setup, { rules }: { rules: boolean }): Setup {
  const all = [...setup.ports, ...setup.idlePorts];
  const target = portEndpoint(setup);
  if (!target) return { ...setup, ports: [], idlePorts: all };
  return {
    ...setup,
    ports: all.map((port) => ({
      ...port,
      address: target.address || target.address6,
      via: forwarderOf(port.hostIp, target, { rules }),
    })),
    idlePorts: [],
  };
}

/** The kernel translates IPv4 to IPv4 only, and only if we may install rules (`rules`, the daemon's --iptables). */
export const forwarderOf = (
  hostIp: string,
  target: Pick<EndpointSetup, 'address'>,
  { rules }: { rules: boolean },
): PortSetup['via'] => (rules && !hostIp.includes(':') && target.address !== '' ? 'kernel' : 'proxy');

/** The endpoints of the container's record: as planned, with what the setup added. */
export function endpointsOf(planned: Record<string, Endpoint>, setup: Setup): Record<string, Endpoint> {
  return Object.fromEntries(
    setup.endpoints
      .filter(({ changing }) => changing !== 'leaving')
      .map((endpoint): [string, Endpoint] => [
        endpoint.network,
        {
          ...planOf(planned, endpoint),
          network: endpoint.network,
          networkId: endpoint.networkId,
          endpointId: endpoint.endpointId,
          gateway: endpoint.gateway,
          ipAddress: endpoint.address,
          ipPrefixLen: endpoint.prefix,
          macAddress: endpoint.mac,
          ipv6Gateway: endpoint.gateway6,
          globalIPv6Address: endpoint.address6,
          globalIPv6PrefixLen: endpoint.prefix6,
        },
      ]),
  );
}

/** A plan made before the network existed is filed under the reference of the request: a name or an id prefix. */
function planOf(planned: Record<string, Endpoint>, { network, networkId }: EndpointSetup): Endpoint {
  const byReference = ([reference, plan]: [string, Endpoint]): boolean =>
    plan.networkId === networkId || networkId.startsWith(reference);
  return planned[network] ?? Object.entries(planned).find(byReference)![1];
}

export const publishedPorts = (setup: Setup): PublishedPort[] =>
  setup.ports.map(({ port, protocol, hostIp, hostPort, via }): PublishedPort => ({
    containerPort: port,
    protocol,
    hostIp,
    hostPort,
    ...(via === 'proxy' && { proxied: true }),
  }));

const PORT_RANGE = '/proc/sys/net/ipv4/ip_local_port_range';
const DEFAULT_PORT_RANGE = [49_153, 65_535] as const;

/** The host ports from which one is chosen when the request names none. */
export function portRange(): readonly [number, number] {
  try {
    const [first, last] = readFileSync(PORT_RANGE, 'latin1').trim().split(/\s+/).map(Number);
    return first && last ? [first, last] : DEFAULT_PORT_RANGE;
  } catch {
    return DEFAULT_PORT_RANGE;
  }
}
