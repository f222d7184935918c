/** IPv4 subnets of the configuration. Addresses are numbers. */
import { isIPv4 } from 'node:net';

export interface Subnet {
  address: number;
  prefix: number;
  /** First address of the subnet. */
  network: number;
  /** Last address of the subnet. */
  broadcast: number;
}

/** Parses 10.0.0.1/16; undefined when `text` is not an IPv4 CIDR. */
export function parseSubnet(text: string): Subnet | undefined {
  const [host = '', bits = '', ...more] = text.split('/');
  const prefix = Number(bits);
  if (more.length > 0 || !isIPv4(host) || !/^\d{1,2}$/.test(bits) || prefix > 32) return undefined;
  const address = host.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - prefix);
  const network = Math.floor(address / size) * size;
  return { address, prefix, network, broadcast: network + size - 1 };
}

export const overlap = (a: Subnet, b: Subnet): boolean => a.network <= b.broadcast && b.network <= a.broadcast;

export const formatAddress = (address: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
