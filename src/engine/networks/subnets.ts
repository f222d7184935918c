/** IPv4 and IPv6 subnets as numbers, and which address of one is given next. Pure. */
import { isIPv4, isIPv6 } from 'node:net';

export type IpFamily = 4 | 6;

/** A subnet, or the part of one that is written in CIDR notation. */
export interface Cidr {
  family: IpFamily;
  /** As written: may have host bits. */
  address: bigint;
  prefix: number;
  first: bigint;
  last: bigint;
}

const BITS = { 4: 32, 6: 128 } as const;

export const familyOf = (address: string): IpFamily | undefined =>
  isIPv4(address) ? 4 : isIPv6(address) ? 6 : undefined;

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

/** A number as an address; IPv6 in its shortest form (RFC 5952). */
export function textOf(value: bigint, family: IpFamily): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((value >> BigInt(16 * (7 - i))) & 0xffffn).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/** undefined when the text is no CIDR. */
export function parseCidr(text: string): Cidr | undefined {
  const [address = '', bits = '', ...more] = text.split('/');
  const family = familyOf(address);
  if (
    family === undefined ||
    more.length > 0 ||
    !/^\d{1,3}$/.test(bits) ||
    Number(bits) > BITS[family] ||
    address.includes('%')
  )
    return undefined;
  const prefix = Number(bits);
  const value = valueOf(address);
  const host = BigInt(BITS[family] - prefix);
  const first = (value >> host) << host;
  return { family, address: value, prefix, first, last: first + (1n << host) - 1n };
}

/** The same of what is known to be one. */
export function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new TypeError(`${text} is no CIDR`);
  return parsed;
}

/** In its canonical form, without host bits. */
export const masked = ({ family, first, prefix }: Cidr): string => `${textOf(first, family)}/${prefix}`;

export const overlap = (a: Cidr, b: Cidr): boolean => a.family === b.family && a.first <= b.last && b.first <= a.last;

export function contains(subnet: Cidr, address: string): boolean {
  if (familyOf(address) !== subnet.family) return false;
  const value = valueOf(address);
  return value >= subnet.first && value <= subnet.last;
}

/**
 * The addresses of a subnet that hosts may have: not its own, and in IPv4 not its broadcast (but of a /31 both, RFC
 * 3021).
 */
export function hostAddresses(subnet: Cidr): { lowest: bigint; highest: bigint } {
  const small = subnet.last - subnet.first < 2n;
  return {
    lowest: small ? subnet.first : subnet.first + 1n,
    highest: small || subnet.family === 6 ? subnet.last : subnet.last - 1n,
  };
}

/** What of them lies in a range. */
export function rangeOf(subnet: Cidr, range: Cidr | undefined): { lowest: bigint; highest: bigint } {
  const hosts = hostAddresses(subnet);
  return {
    lowest: range && range.first > hosts.lowest ? range.first : hosts.lowest,
    highest: range && range.last < hosts.highest ? range.last : hosts.highest,
  };
}

/**
 * The next free address of a subnet (of `range`, if one is given) behind `last`, round and round; never one of
 * `reserved`; undefined when all are taken.
 * Going round, rather than taking the lowest, leaves an address alone for as long as possible after its container died.
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

/**
 * The first subnet of the pools (each cut into pieces of its size) that overlaps with nothing that is taken; undefined
 * when all do.
 */
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
      // Behind what is in the way, however large it is.
      const behind = hit.last + 1n;
      first = behind > first + step ? first + ((behind - first + step - 1n) / step) * step : first + step;
    }
  }
  return undefined;
}
