/**
 * What sets packets moving for containers. All of it lives in the kernel (and in a proxy process of its own): none of
 * it needs the daemon.
 */
import type { Protocol } from './port-allocation.ts';

/** One place on one network, as it is made in a container's namespace. */
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
  /** undefined without a link of its own. */
  link?: {
    bridge: string;
    host: string;
    name: string;
    mtu: number;
    /** Talks to no other container of its network. */ isolated: boolean;
    /** By path below /proc/sys/net, with IFNAME for the link. */ sysctls: Record<string, string>;
  };
  /** Nothing goes out by it. */
  internal: boolean;
  /** The highest is the container's way out. */
  priority: number;
  /** What it is called there, lower case. */
  names: string[];
  /** Half made, half taken away: undone at the next start. */
  changing?: 'joining' | 'leaving';
}

export interface PortSetup {
  protocol: Protocol;
  hostIp: string;
  hostPort: number;
  /** The container's address and port. */
  address: string;
  port: number;
  /** Who forwards it: rules of the kernel, or the proxy process (there is no NAT from IPv6 to IPv4). */
  via: 'kernel' | 'proxy';
}

/** All that is made for one container. Stored before the first step, and given back identical for its undoing. */
export interface Setup {
  version: 1;
  /** The boot in which it was made; after another one nothing of it exists. */
  boot: string;
  container: string;
  name: string;
  /** Where its network namespace is pinned; '' = it uses the host's. */
  netns: string;
  endpoints: EndpointSetup[];
  ports: PortSetup[];
  /** Published, and held for it, while it has no network by which they could lead to it. */
  idlePorts: PortSetup[];
  /** Where its names are asked for elsewhere, if not where the host asks. */
  dnsServers: string[];
}

/** A bridge on this host, with the addresses that are its containers' gateways. */
export interface Bridge {
  link: string;
  /** e.g. 10.88.0.1/16, fd00::1/64 */
  addresses: string[];
  mtu: number;
  /** Nothing goes out or comes in but from the host itself. */
  internal: boolean;
  /** Its containers may talk to each other. */
  icc: boolean;
  masquerade: boolean;
  /** Names are asked for on its own address. */
  names: boolean;
}

/** The endpoint by which a container goes out, for one family: highest priority, then first by its network's name. */
export function wayOut({ endpoints }: Pick<Setup, 'endpoints'>, family: 4 | 6): EndpointSetup | undefined {
  const gatewayOf = (endpoint: EndpointSetup): string => (family === 4 ? endpoint.gateway : endpoint.gateway6);
  return endpoints
    .filter((endpoint) => endpoint.changing !== 'leaving' && !endpoint.internal && gatewayOf(endpoint) !== '')
    .sort((a, b) => b.priority - a.priority || (a.network < b.network ? -1 : 1))[0];
}

export interface Driver {
  /** Why nothing can be attached to a bridge; undefined when all is well. */
  readonly unavailable: string | undefined;
  /**
   * Brings about whatever is missing of the bridges, rules and ports of these setups, and looks after them from then
   * on. Disturbs nothing that is there.
   */
  start(bridges: Bridge[], setups: Setup[]): Promise<void>;
  /** Makes a bridge. On failure nothing of it is left. */
  addBridge(bridge: Bridge): Promise<void>;
  /** Takes a bridge away on which nothing is left. Repeatable. */
  removeBridge(bridge: Bridge): Promise<void>;
  /** What this host has routes to, in CIDR notation. */
  routes(): string[];
  hasLink(name: string): boolean;
  /** Brings a setup about, also when some of it is there already. On failure nothing of it is left. */
  setUp(setup: Setup): Promise<void>;
  /** Brings one endpoint of a setup that is up about; `setup` holds it already. */
  join(setup: Setup, endpoint: EndpointSetup): Promise<void>;
  /** Takes one endpoint of a setup that is up away; `setup` holds it no more, or as leaving. Repeatable. */
  leave(setup: Setup, endpoint: EndpointSetup): Promise<void>;
  /** Undoes a setup, also when some of it is gone already. When it returns no packet reaches the container any more: its
   * addresses and ports may be given to others.
   *  Links go a little later (`settled`). */
  tearDown(setup: Setup): Promise<void>;
  /** Looks at once whether a firewall's reload, or anybody, has wiped rules or links, and puts them back. */
  restoreRules(): Promise<void>;
  /** Nothing is on its way out any more. */
  settled(): Promise<void>;
  /** Ends the looking after; what is set up stays. */
  stop(): void;
  /** Removes bridges and rules. Only with nothing set up. */
  dismantle(): Promise<void>;
}
