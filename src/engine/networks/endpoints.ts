/** Places on networks: which address, hardware address and link a container gets. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { EndpointRequest } from '../../model/container-config.ts';
import type { Container, Endpoint } from '../../model/container.ts';
import { Forbidden, InvalidParameter, SystemFault } from '../../model/errors.ts';
import { wayOut, type EndpointSetup, type PortSetup, type Setup } from './driver.ts';
import { hasNames } from './dns.ts';
import type { AddressSpace, Network } from '../../model/network.ts';
import { dnsNames } from './plan.ts';
import { cidr, nextAddress } from './subnets.ts';
import type { PublishedPort } from './port-allocation.ts';

const ID_BYTES = 32;
/** Linux cuts names of links at 15 characters. */
const LINK_PREFIX = 'vh';
const LINK_LENGTH = 13;
const IFNAME_OPTION = 'com.docker.network.endpoint.ifname';
const SYSCTLS_OPTION = 'com.docker.network.endpoint.sysctls';
const SYSCTL = /^net\.(ipv4|ipv6|mpls)\.([a-z]+)\.(?:IFNAME|ifname)\.([a-z0-9_]+)=(.*)$/;

export const newId = (): string => randomBytes(ID_BYTES).toString('hex');

/** Gives addresses out. What is taken is on record elsewhere; here is only where the next one is looked for. */
export class Addresses {
  readonly #last = new Map<string, string>();

  constructor(private readonly isTaken: (networkId: string, address: string) => boolean) {}

  /** Notes one that is in use already. */
  used(networkId: string, address: string): void {
    if (address !== '') this.#last.set(`${networkId} ${address.includes(':') ? 6 : 4}`, address);
  }

  /** @throws Forbidden `Address already in use`, SystemFault when none is left */
  next(network: Network, space: AddressSpace, wanted: string): string {
    const reserved = new Set([space.gateway, ...space.reserved]);
    const subnet = cidr(space.subnet);
    if (wanted !== '') {
      if (wanted === space.gateway || this.isTaken(network.id, wanted)) throw new Forbidden('Address already in use');
      return wanted;
    }
    const key = `${network.id} ${subnet.family}`;
    const address = nextAddress(
      subnet,
      space.range ? cidr(space.range) : undefined,
      reserved,
      this.#last.get(key),
      (candidate) => this.isTaken(network.id, candidate),
    );
    if (address === undefined)
      throw new SystemFault(
        `no available IPv${subnet.family} addresses on this network's address pools: ${network.name} (${network.id})`,
      );
    this.#last.set(key, address);
    return address;
  }
}

/**
 * A place on a network, with addresses; the caller puts it on record before anything is awaited. `used`: names of links
 * that the container has already.
 */
export function makeEndpoint(
  network: Network,
  { request }: Pick<Endpoint, 'request'>,
  container: Container,
  used: readonly string[],
  addresses: Addresses,
): EndpointSetup {
  const endpointId = newId();
  const none = { address: '', prefix: 0, gateway: '', address6: '', prefix6: 0, gateway6: '', mac: '' };
  const base = {
    network: network.name,
    networkId: network.id,
    type: network.driver,
    endpointId,
    ...none,
    internal: network.internal,
    priority: request.GwPriority ?? 0,
    names: hasNames(network) ? namesOf(container, request) : [],
  };
  if (network.driver !== 'bridge') return base;
  const { ipv4, ipv6, internal, settings, bridge } = network;
  const place = (space: AddressSpace | undefined, wanted: string | undefined) =>
    space
      ? {
          address: addresses.next(network, space, wanted ?? ''),
          prefix: cidr(space.subnet).prefix,
          gateway: internal ? '' : space.gateway,
        }
      : { address: '', prefix: 0, gateway: '' };
  const four = place(ipv4, request.IPAMConfig?.IPv4Address);
  const six = place(ipv6, request.IPAMConfig?.IPv6Address);
  const ofContainer = used.length === 0 ? container.config.MacAddress : '';
  const mac = (request.MacAddress || ofContainer || macOf(four.address, endpointId)).toLowerCase().replaceAll('-', ':');
  const link = {
    bridge,
    host: `${LINK_PREFIX}${endpointId}`.slice(0, LINK_LENGTH),
    name: linkName(settings.linkPrefix, request, used),
    mtu: settings.mtu,
    isolated: !settings.icc,
    sysctls: sysctlsOf(request),
  };
  return { ...base, ...four, address6: six.address, prefix6: six.prefix, gateway6: six.gateway, mac, link };
}

/** What it is called on a network; what would break the tables' lines cannot be asked for. */
export const namesOf = (
  { id, name, config }: Pick<Container, 'id' | 'name' | 'config'>,
  request: EndpointRequest,
): string[] =>
  [
    ...new Set(
      dnsNames({ id, name, hostname: config.Hostname }, request.Aliases ?? []).map((each) => each.toLowerCase()),
    ),
  ].filter((each) => /^[^\s,]+$/.test(each));

/** The hardware address that goes with an address: the same one each time, so that no neighbour holds a stale entry. */
export const macOf = (address: string, endpointId: string): string =>
  [
    '02',
    '42',
    ...(address === ''
      ? endpointId.slice(0, 8).match(/../g)!
      : address.split('.').map((part) => Number(part).toString(16).padStart(2, '0'))),
  ].join(':');

function linkName(prefix: string, request: EndpointRequest, used: readonly string[]): string {
  const asked = request.DriverOpts?.[IFNAME_OPTION];
  if (asked) {
    if (!/^(?!\.\.?$)[^\s/:]{1,15}$/.test(asked) || used.includes(asked) || asked === 'lo')
      throw new InvalidParameter(`invalid interface name ${JSON.stringify(asked)}`);
    return asked;
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

/** The endpoint that published ports lead to; undefined when nothing from outside gets to the container. */
export const portsEnd = (setup: Pick<Setup, 'endpoints'>): EndpointSetup | undefined =>
  wayOut(setup, 4) ?? wayOut(setup, 6);

/** The same with its published ports led to where the container is reached now; held idle where it is not. */
export function aimed(setup: Setup, { rules }: { rules: boolean }): Setup {
  const all = [...setup.ports, ...setup.idlePorts];
  const end = portsEnd(setup);
  if (!end) return { ...setup, ports: [], idlePorts: all };
  return {
    ...setup,
    ports: all.map((port) => ({
      ...port,
      address: end.address || end.address6,
      via: viaOf(port.hostIp, end, { rules }),
    })),
    idlePorts: [],
  };
}

/** Who forwards: the kernel translates within IPv4 only, and only where rules are ours to make. */
export const viaOf = (
  hostIp: string,
  end: Pick<EndpointSetup, 'address'>,
  { rules }: { rules: boolean },
): PortSetup['via'] => (rules && !hostIp.includes(':') && end.address !== '' ? 'kernel' : 'proxy');

/** What a setup means for the container's record. */
export function endpointsOf(planned: Record<string, Endpoint>, setup: Setup): Record<string, Endpoint> {
  return Object.fromEntries(
    setup.endpoints
      .filter(({ changing }) => changing !== 'leaving')
      .map((made): [string, Endpoint] => {
        const plan =
          planned[made.network] ??
          Object.entries(planned).find(
            ([key, { networkId }]) => networkId === made.networkId || made.networkId.startsWith(key),
          )![1];
        return [
          made.network,
          {
            ...plan,
            network: made.network,
            networkId: made.networkId,
            endpointId: made.endpointId,
            gateway: made.gateway,
            ipAddress: made.address,
            ipPrefixLen: made.prefix,
            macAddress: made.mac,
            ipv6Gateway: made.gateway6,
            globalIPv6Address: made.address6,
            globalIPv6PrefixLen: made.prefix6,
          },
        ];
      }),
  );
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

/** Host ports given where none was named. */
export function portRange(): readonly [number, number] {
  try {
    const [first, last] = readFileSync(PORT_RANGE, 'latin1').trim().split(/\s+/).map(Number);
    return first && last ? [first, last] : DEFAULT_PORT_RANGE;
  } catch {
    return DEFAULT_PORT_RANGE;
  }
}
