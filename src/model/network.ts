/** A network: its definition, with the subnets, gateway and bridge that were chosen for it. */

/** What inspect shows: as requested, or as chosen when nothing was requested. */
export interface IpamConfig {
  Subnet?: string;
  IPRange?: string;
  Gateway?: string;
  AuxiliaryAddresses?: Record<string, string>;
}

/** The addresses of one IP family on a network. */
export interface AddressSpace {
  subnet: string;
  /** The bridge's own address. */
  gateway: string;
  /** '' = the whole subnet. */
  range: string;
  /** Never allocated to containers. */
  reserved: string[];
  /** The subnet was requested by the user: containers may request addresses in it. */
  static: boolean;
}

export interface Network {
  id: string;
  name: string;
  /** Wall-clock nanoseconds. */
  created: string;
  driver: 'bridge' | 'host' | 'null';
  /** Name of the bridge link; '' for host and none. */
  bridge: string;
  enableIPv4: boolean;
  enableIPv6: boolean;
  internal: boolean;
  attachable: boolean;
  ingress: boolean;
  ipam: { driver: string; options: Record<string, string> | null; config: IpamConfig[] };
  options: Record<string, string>;
  labels: Record<string, string>;
  ipv4?: AddressSpace;
  ipv6?: AddressSpace;
  /** Parsed from the options. */
  settings: BridgeSettings;
  /** Why the rest is lost: its row cannot be read. It can be listed and removed, and nothing is attached to it. */
  damaged?: string;
}

export interface BridgeSettings {
  /** Inter-container communication: containers of the network may reach each other. */
  icc: boolean;
  masquerade: boolean;
  mtu: number;
  /** Default host address of published ports; '' = all. */
  hostIp: string;
  /** Prefix of link names in containers: eth → eth0. */
  linkPrefix: string;
}

/** Unlike user-defined networks, predefined ones allow no requested addresses and have no DNS. */
export const isPredefined = (name: string): boolean => ['bridge', 'host', 'none', 'default'].includes(name);
