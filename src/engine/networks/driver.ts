/** What sets packets moving for containers. All of it lives in the kernel (and in a proxy process of its own): none of it needs the daemon. */
import type { Protocol } from './ports.ts';

/** One place on one network, as it is made in a container's namespace. */
export interface EndpointSetup {
  network: string;
  networkId: string;
  /** Driver of the network, for events: bridge, host, null. */
  type: string;
  endpointId: string;
  /** '' without an address (host, none). */
  address: string;
  prefix: number;
  gateway: string;
  mac: string;
  /** undefined without a link of its own. */
  link?: { bridge: string; host: string; name: string; mtu: number };
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
}

/** A bridge on this host, with the address that is its containers' gateway. */
export interface Bridge {
  link: string;
  /** e.g. 10.88.0.1/16 */
  address: string;
  mtu: number;
}

export interface Driver {
  /** Why nothing can be attached to a bridge; undefined when all is well. */
  readonly unavailable: string | undefined;
  /** Brings about whatever is missing of the bridges, rules and ports of these setups, and looks after them from then on. Disturbs nothing that is there. */
  start(setups: Setup[]): Promise<void>;
  /** Brings a setup about, also when some of it is there already. On failure nothing of it is left. */
  setUp(setup: Setup): Promise<void>;
  /** Undoes a setup, also when some of it is gone already. When it returns no packet reaches the container any more: its addresses and ports may be given to others.
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
