/**
 * The interface of the network driver, and the records it works from. What it sets up lives in the kernel and in the
 * port proxy's process, so traffic flows without the daemon.
 */
import { isPredefined, type Network } from '../../model/network.ts';
import type { Protocol } from './port-allocation.ts';
import { cidr } from './subnets.ts';

/** One endpoint as it is set up in a container's network namespace. Stored as JSON. */
export interface EndpointSetup {
  network: string;
  networkId: string;
  /** Driver of the network, for events: bridge, host, null. */
  type: string;
  endpointId: string;
  /** '' without an address of that family (host, none). */
  address: string;
  prefix: number;
  gateway: string;
  address6: string;
  prefix6: number;
  gateway6: string;
  mac: string;
  /** The veth pair; undefined for host and none. */
  link?: VethSetup;
  /** The network is internal: no route leads out. */
  internal: boolean;
  /** The endpoint with the highest priority has the default route. */
  priority: number;
  /** DNS names of the container on this network, lower case. */
  names: string[];
  /** Names on this network by aliases that only this container knows, lower case; missing in older records. */
  links?: Record<string, string>;
  /** Half joined or half left: undone at the next start of the daemon. */
  changing?: 'joining' | 'leaving';
}

export interface VethSetup {
  bridge: string;
  /** Name of the end on the host. */
  host: string;
  /** Name of the end in the container. */
  name: string;
  mtu: number;
  /** Cannot reach other containers of its network (icc=false). */
  isolated: boolean;
  /** By path below /proc/sys/net, with IFNAME in place of the link's name. */
  sysctls: Record<string, string>;
}

export interface PortSetup {
  protocol: Protocol;
  hostIp: string;
  hostPort: number;
  /** The container's address and port. */
  address: string;
  port: number;
  /** What forwards it: nftables rules, or the port proxy (the kernel has no NAT from IPv6 to IPv4). */
  via: 'kernel' | 'proxy';
}

/** Everything set up for one container. Stored as JSON before the first step, and read back to undo it. */
export interface Setup {
  version: 1;
  /** Boot id of the kernel it was made under: after a reboot nothing of it exists. */
  boot: string;
  container: string;
  name: string;
  /** Where its network namespace is pinned; '' = it uses the host's. */
  netns: string;
  endpoints: EndpointSetup[];
  ports: PortSetup[];
  /** Published ports that stay reserved while no endpoint could receive their traffic. */
  idlePorts: PortSetup[];
  /** Upstream DNS servers of this container; empty = the host's. */
  dnsServers: string[];
  /** Whether its resolv.conf has an `ndots` that was asked for; missing in older records. */
  ndots?: boolean;
}

/** A bridge on this host, with the addresses that are its containers' gateways. */
export interface Bridge {
  link: string;
  /** e.g. 10.88.0.1/16, fd00::1/64 */
  addresses: string[];
  mtu: number;
  /** Its containers reach the host only, and only the host reaches them. */
  internal: boolean;
  /** Its containers may reach each other. */
  icc: boolean;
  masquerade: boolean;
  /** A DNS server listens on its addresses. */
  dns: boolean;
}

/** The bridge of a network. */
export function bridgeOf({ name, bridge, ipv4, ipv6, internal, settings }: Network): Bridge {
  const addresses = [ipv4, ipv6].flatMap((space) => (space ? [`${space.gateway}/${cidr(space.subnet).prefix}`] : []));
  return {
    link: bridge,
    addresses,
    mtu: settings.mtu,
    internal,
    icc: settings.icc,
    masquerade: settings.masquerade,
    dns: !isPredefined(name),
  };
}

export const carriesIPv6 = ({ addresses }: Bridge): boolean => addresses.some((address) => address.includes(':'));

/** The endpoint with the default route of one IP family: highest priority, then first by its network's name. */
export function defaultRouteEndpoint(
  { endpoints }: Pick<Setup, 'endpoints'>,
  family: 4 | 6,
): EndpointSetup | undefined {
  const gatewayOf = (endpoint: EndpointSetup): string => (family === 4 ? endpoint.gateway : endpoint.gateway6);
  return endpoints
    .filter((endpoint) => endpoint.changing !== 'leaving' && !endpoint.internal && gatewayOf(endpoint) !== '')
    .sort((a, b) => b.priority - a.priority || (a.network < b.network ? -1 : 1))[0];
}

export interface Driver {
  /** Why no container can be attached to a bridge; undefined when the driver works. */
  readonly unavailable: string | undefined;
  /**
   * Creates what is missing of these bridges, rules and ports, and keeps restoring them from then on. Leaves alone what
   * is in place.
   */
  start(bridges: Bridge[], setups: Setup[]): Promise<void>;
  /** Creates a bridge; on failure nothing of it is left. */
  addBridge(bridge: Bridge): Promise<void>;
  /** Deletes a bridge without endpoints. Repeatable. */
  removeBridge(bridge: Bridge): Promise<void>;
  /** The destinations in this host's routing tables, in CIDR notation. */
  routes(): string[];
  hasLink(name: string): boolean;
  /** Applies a setup, also when part of it exists already. On failure nothing of it is left. */
  setUp(setup: Setup): Promise<void>;
  /** Adds one endpoint to a setup that is up; `setup` contains it already. */
  join(setup: Setup, endpoint: EndpointSetup): Promise<void>;
  /** Removes one endpoint from a setup that is up; `setup` no longer contains it, or as leaving. Repeatable. */
  leave(setup: Setup, endpoint: EndpointSetup): Promise<void>;
  /**
   * Undoes a setup, also when part of it is gone already. When it resolves no packet reaches the container, so its
   * addresses and ports can be reused; links are deleted a little later (`settled`).
   */
  tearDown(setup: Setup): Promise<void>;
  /** Restores rules and links at once if, say, a firewall's reload has deleted them. */
  restoreRules(): Promise<void>;
  /** Resolves when the links of all removed endpoints are deleted. */
  settled(): Promise<void>;
  /** Stops watching; what is set up stays. */
  close(): void;
  /** Deletes bridges and rules, and closes. Only when no container is set up. Never rejects: failures are logged. */
  dismantle(): Promise<void>;
}
