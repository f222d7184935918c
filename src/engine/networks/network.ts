/** A network as the engine knows it. */

export interface IpamConfig {
  Subnet?: string;
  IPRange?: string;
  Gateway?: string;
  AuxiliaryAddresses?: Record<string, string>;
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
}
