/** A network as the engine knows it. */
import type { Bridge } from '../engine/networks/driver.ts';
import { cidr } from '../engine/networks/subnets.ts';

/** As asked for, or as chosen where nothing was: what inspect shows. */
export interface IpamConfig {
  Subnet?: string;
  IPRange?: string;
  Gateway?: string;
  AuxiliaryAddresses?: Record<string, string>;
}

/** Where a network's addresses of one family come from. */
export interface AddressSpace {
  subnet: string;
  /** The bridge's own address. */
  gateway: string;
  /** '' = the whole subnet. */
  range: string;
  /** Never given to containers. */
  reserved: string[];
  /** The subnet was asked for: containers may ask for addresses in it. */
  static: boolean;
}

export interface Network {
  id: string;
  name: string;
  /** Wall ns. */
  created: string;
  driver: 'bridge' | 'host' | 'null';
  /** Link of the bridge; '' for host and none. */
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
  /** What the options come to. */
  settings: BridgeSettings;
}

export interface BridgeSettings {
  /** Containers of the network may talk to each other. */
  icc: boolean;
  masquerade: boolean;
  mtu: number;
  /** Default host address of published ports; '' = all. */
  hostIp: string;
  /** Names of links in containers: eth → eth0. */
  linkPrefix: string;
}

/** Predefined ones behave otherwise than what users make: no addresses of one's choice, no names. */
export const isPredefined = (name: string): boolean => ['bridge', 'host', 'none', 'default'].includes(name);

/** The bridge that carries a network. */
export function bridgeOf({ name, bridge, ipv4, ipv6, internal, settings }: Network): Bridge {
  const addresses = [ipv4, ipv6].flatMap((space) => (space ? [`${space.gateway}/${cidr(space.subnet).prefix}`] : []));
  return {
    link: bridge,
    addresses,
    mtu: settings.mtu,
    internal,
    icc: settings.icc,
    masquerade: settings.masquerade,
    names: !isPredefined(name),
  };
}
