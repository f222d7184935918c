/** What the daemon writes for the DNS server (main.ts), which reads it at its start and whenever the daemon asks. */

/** The files in the DNS server's directory. */
export const DNS_FILES = {
  tables: 'tables.json',
  /** The control socket. */
  control: 'sock',
  /** Locked by the server. */
  lock: 'lock',
  /** The processes that keep the sockets open. */
  holders: 'holders.json',
  /** What those processes wait on. */
  fifo: 'fifo',
  log: 'log',
} as const;

export interface DnsTables {
  version: 1;
  networks: DnsNetwork[];
  containers: DnsContainer[];
}

export interface DnsNetwork {
  id: string;
  name: string;
  /** Nothing is forwarded for a question that arrives here. */
  internal: boolean;
  /** The addresses to listen on. */
  resolvers: string[];
}

export interface DnsContainer {
  id: string;
  /** In the order in which a name is searched. */
  endpoints: DnsEndpoint[];
  /** Upstream servers; empty = the host's. */
  servers: string[];
  /** Whether its resolv.conf has an `ndots` that was asked for. */
  ndots: boolean;
}

export interface DnsEndpoint {
  /** Id of the network. */
  network: string;
  addresses: string[];
  /** Lower case; the first one is the container's name. */
  names: string[];
  /** Names on this network by aliases that only this container knows, lower case. */
  links: Record<string, string>;
}

/**
 * A line of JSON on the control socket. `hello`, `reload` and `retire` never change, because servers and daemons of
 * different releases meet there.
 */
export interface DnsRequest {
  op: 'reload' | 'retire';
}

/** What the server sends when a connection is opened. */
export interface DnsHello {
  op: 'hello';
  pid: number;
  /** The hash of its bundle. */
  bundle: string;
}

/** The answer to `reload`: which sockets could not be opened, and why. */
export interface DnsReloaded {
  failed: string[];
}

/** The answer to `retire`: the questions that the successor has to answer. */
export interface DnsRetired {
  unanswered: { resolver: string; address: string; port: number; packet: string }[];
}
