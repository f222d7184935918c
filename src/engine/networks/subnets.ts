/** Arithmetic on IPv4 and IPv6 addresses and subnets. Pure functions. */
import { isIPv4, isIPv6 } from 'node:net';

export type IpFamily = 4 | 6;

/** An address with a prefix length, and the range of the subnet it lies in. */
export interface Cidr {
  family: IpFamily;
  /** As written, possibly with host bits. */
  address: bigint;
  prefix: number;
  first: bigint;
  last: bigint;
}

const BITS = { 4: 32, 6: 128 } as const;

export function familyOf(address: string): IpFamily | undefined {
  if (isIPv4(address)) return 4;
  return isIPv6(address) ? 6 : undefined;
}

/** An address as a number. */
export function valueOf(address: string): bigint {
  if (isIPv4(address)) return address.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const text = address.replace(/%.*$/, '').replace(/\d+\.\d+\.\d+\.\d+$/, (v4) => {
    const value = valueOf(v4);
    return `${(value >> 16n).toString(16)}:${(value & 0xffffn).toString(16)}`;
  });
  const [head = '', tail] = text.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const all =
    tail === undefined ? before : [...before, ...Array<string>(8 - before.length - after.length).fill('0'), ...after];
  return all.reduce((sum, group) => sum * 65536n + BigInt(`0x${group}`), 0n);
}

/** The address of a number; IPv6 in its shortest form (RFC 5952). */
export function textOf(value: bigint, family: IpFamily): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((value >> BigInt(16 * (7 - i))) & 0xffffn).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/** undefined when the text is not in CIDR notation. */
export function parseCidr(text: string): Cidr | undefined {
  const [, address = '', bits = ''] = /^([^/%]*)\/(\d{1,3})$/.exec(text) ?? [];
  const family = familyOf(address);
  const prefix = Number(bits);
  if (family === undefined || prefix > BITS[family]) return undefined;
  const value = valueOf(address);
  const host = BigInt(BITS[family] - prefix);
  const first = (value >> host) << host;
  return { family, address: value, prefix, first, last: first + (1n << host) - 1n };
}

/** As parseCidr(), for text that is known to be valid. @throws TypeError otherwise */
export function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new TypeError(`${text} is no CIDR`);
  return parsed;
}

/** The subnet in canonical form, without host bits. */
export const masked = ({ family, first, prefix }: Cidr): string => `${textOf(first, family)}/${prefix}`;

export const overlap = (a: Cidr, b: Cidr): boolean => a.family === b.family && a.first <= b.last && b.first <= a.last;

export function contains(subnet: Cidr, address: string): boolean {
  if (familyOf(address) !== subnet.family) return false;
  const value = valueOf(address);
  return value >= subnet.first && value <= subnet.last;
}

/**
 * The addresses that hosts may have: all but the network address and, in IPv4, the broadcast address. In a /31 both are
 * usable (RFC 3021).
 */
export function hostAddresses(subnet: Cidr): { lowest: bigint; highest: bigint } {
  const small = subnet.last - subnet.first < 2n;
  return {
    lowest: small ? subnet.first : subnet.first + 1n,
    highest: small || subnet.family === 6 ? subnet.last : subnet.last - 1n,
  };
}

/** The host addresses within `range`, or all of them. */
export function rangeOf(subnet: Cidr, range: Cidr | undefined): { lowest: bigint; highest: bigint } {
  const hosts = hostAddresses(subnet);
  return {
    lowest: range && range.first > hosts.lowest ? range.first : hosts.lowest,
    highest: range && range.last < hosts.highest ? range.last : hosts.highest,
  };
}

/**
 * The next free address after `last`, wrapping around; undefined when all are taken. Round-robin, rather than the
 * lowest free one, keeps an address unused for as long as possible after its container has died.
 */
export function nextAddress(
  subnet: Cidr,
  range: Cidr | undefined,
  reserved: ReadonlySet<string>,
  last: string | undefined,
  isTaken: (address: string) => boolean,
): string | undefined {
  const { lowest, highest } = rangeOf(subnet, range);
  const count = highest - lowest + 1n;
  const previous = last !== undefined && familyOf(last) === subnet.family ? valueOf(last) : lowest - 1n;
  const start = previous >= lowest && previous <= highest ? previous - lowest + 1n : 0n;
  for (let i = 0n; i < count; i++) {
    const address = textOf(lowest + ((start + i) % count), subnet.family);
    if (!reserved.has(address) && !isTaken(address)) return address;
  }
  return undefined;
}

/** The first subnet in the pools, each split into subnets of its `size`, that overlaps none in `taken`. */
export function freeSubnet(
  pools: readonly { base: string; size: number }[],
  taken: readonly Cidr[],
): string | undefined {
  for (const { base, size } of pools) {
    const pool = cidr(base);
    const step = 1n << BigInt(BITS[pool.family] - size);
    for (let first = pool.first; first <= pool.last;) {
      const candidate: Cidr = { family: pool.family, address: first, prefix: size, first, last: first + step - 1n };
      const hit = taken.find((other) => overlap(candidate, other));
      if (!hit) return masked(candidate);
      // Skip to the first candidate behind the overlapping subnet, which may be larger than a step.
      const steps = (hit.last - first) / step + 1n;
      first += steps * step;
    }
  }
  return undefined;
}
