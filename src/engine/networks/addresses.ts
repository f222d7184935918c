/** IPv4 subnets and which address of one is given next. Pure. */

/** An IPv4 subnet, with numbers for addresses. */
export interface Subnet {
  network: number;
  prefix: number;
  broadcast: number;
}

export const toNumber = (address: string): number => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);

export const toAddress = (value: number): string => [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** @param cidr an address in the subnet and its prefix length, e.g. 10.88.0.1/16 */
export function subnetOf(cidr: string): Subnet {
  const [address, length] = cidr.split('/');
  const prefix = Number(length);
  const size = 2 ** (32 - prefix);
  const network = Math.floor(toNumber(address!) / size) * size;
  return { network, prefix, broadcast: network + size - 1 };
}

export const cidrOf = (subnet: Subnet): string => `${toAddress(subnet.network)}/${subnet.prefix}`;

export const contains = (subnet: Subnet, address: string): boolean => {
  const value = toNumber(address);
  return value >= subnet.network && value <= subnet.broadcast;
};

/**
 * The next free address behind `last` (round and round), never the subnet's own, its broadcast or one of `reserved`; undefined when all are taken.
 * Going round, rather than taking the lowest, leaves an address alone for as long as possible after its container died.
 */
export function nextAddress(subnet: Subnet, reserved: ReadonlySet<string>, last: string | undefined, isTaken: (address: string) => boolean): string | undefined {
  // A /31 has neither network nor broadcast address (RFC 3021), a /32 is one host.
  const edge = subnet.prefix < 31 ? 1 : 0;
  const lowest = subnet.network + edge;
  const count = subnet.broadcast - edge - lowest + 1;
  const start = last !== undefined && contains(subnet, last) ? toNumber(last) - lowest + 1 : 0;
  for (let i = 0; i < count; i++) {
    const address = toAddress(lowest + ((start + i + count) % count));
    if (!reserved.has(address) && !isTaken(address)) return address;
  }
  return undefined;
}

/** The hardware address that goes with an address: the same one each time, so that no neighbour holds a stale entry. */
export const macOf = (address: string): string => ['02', '42', ...address.split('.').map((part) => Number(part).toString(16).padStart(2, '0'))].join(':');
