/**
 * The expressions of nf_tables: the kernel executes those of a rule one after the other on registers, and leaves the
 * rule at the first comparison that fails. linux/netfilter/nf_tables.h. `nft --debug=netlink` shows those of any rule.
 */
import { attribute, nested } from './netlink.ts';

export interface Expression {
  name: string;
  attributes: Buffer[];
  /** The set it looks into, if that belongs to the rule. */
  set?: AnonymousSet;
}

/** nft's numbers of byte orders. */
const HOST_ORDER = 1;
const BIG_ENDIAN = 2;

/** nft's types of values, with the numbers by which `nft list` knows how to print the elements of a set. */
export const TYPES = {
  ipv4_addr: { number: 7, bytes: 4, order: BIG_ENDIAN },
  ipv6_addr: { number: 8, bytes: 16, order: BIG_ENDIAN },
  inet_proto: { number: 12, bytes: 1, order: BIG_ENDIAN },
  inet_service: { number: 13, bytes: 2, order: BIG_ENDIAN },
  ifname: { number: 41, bytes: 16, order: HOST_ORDER },
} as const;
export type DataType = keyof typeof TYPES;

export interface AnonymousSet {
  type: DataType;
  hasIntervals: boolean;
  /** An element that is an end is the first value behind an interval. */
  elements: { key: Buffer; isEnd: boolean }[];
}

/** A comparison: equal or not; of a set, contained or not. */
export type Operator = 'eq' | 'neq';

const DATA_VALUE = 1;
const DATA_VERDICT = 2;
const VERDICT_CODE = 1;
const META = { DREG: 1, KEY: 2 } as const;
const META_KEYS = { iifname: 6, oifname: 7, l4proto: 16 } as const;
const PAYLOAD = { DREG: 1, BASE: 2, OFFSET: 3, LEN: 4 } as const;
const BASES = { network: 1, transport: 2 } as const;
const CT = { DREG: 1, KEY: 2 } as const;
const CT_KEYS = { state: 0, status: 2 } as const;
const FIB = { DREG: 1, RESULT: 2, FLAGS: 3 } as const;
const FIB_RESULT_ADDRTYPE = 3;
const FIB_F_DADDR = 2;
const CMP = { SREG: 1, OP: 2, DATA: 3 } as const;
const CMP_OPS: Record<Operator, number> = { eq: 0, neq: 1 };
const BITWISE = { SREG: 1, DREG: 2, LEN: 3, MASK: 4, XOR: 5 } as const;
const LOOKUP = { SET: 1, SREG: 2, DREG: 3, SET_ID: 4, FLAGS: 5 } as const;
const LOOKUP_F_INV = 1;
const IMMEDIATE = { DREG: 1, DATA: 2 } as const;
const NAT = { TYPE: 1, FAMILY: 2, REG_ADDR_MIN: 3, REG_PROTO_MIN: 5 } as const;
const NAT_DNAT = 1;
const NFPROTO_IPV4 = 2;
const REG_VERDICT = 0;
const VERDICTS = { drop: 0, accept: 1, return: -5 } as const;

/** The n-th register of 4 bytes. Register 1 has 16 bytes, which are also those of the first four. */
const register = (n: number): number => (n === 0 ? 1 : 8 + n);
const FIRST = register(0);

/** An attribute with a number. nf_tables has them big-endian. */
export function numeric(type: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value | 0);
  return attribute(type, bytes);
}

/** An attribute with a value for a register or a set. */
export const dataAttribute = (type: number, bytes: Buffer): Buffer => nested(type, attribute(DATA_VALUE, bytes));

/** A number that the kernel itself has put into a register, in its own byte order. */
export function hostNumber(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Loads a property of the packet. @param to the 4-byte register, by its number */
export const meta = (key: keyof typeof META_KEYS, to = 0): Expression => ({
  name: 'meta',
  attributes: [numeric(META.KEY, META_KEYS[key]), numeric(META.DREG, register(to))],
});

/** Loads bytes of a header. */
export const payload = (base: keyof typeof BASES, offset: number, bytes: number, to = 0): Expression => ({
  name: 'payload',
  attributes: [
    numeric(PAYLOAD.DREG, register(to)),
    numeric(PAYLOAD.BASE, BASES[base]),
    numeric(PAYLOAD.OFFSET, offset),
    numeric(PAYLOAD.LEN, bytes),
  ],
});

/** Loads the state or status of the packet's connection. */
export const conntrack = (key: keyof typeof CT_KEYS): Expression => ({
  name: 'ct',
  attributes: [numeric(CT.KEY, CT_KEYS[key]), numeric(CT.DREG, FIRST)],
});

/** Loads the type of the route to the destination address. */
export const destinationType = (): Expression => ({
  name: 'fib',
  attributes: [numeric(FIB.DREG, FIRST), numeric(FIB.RESULT, FIB_RESULT_ADDRTYPE), numeric(FIB.FLAGS, FIB_F_DADDR)],
});

export const compare = (operator: Operator, bytes: Buffer): Expression => ({
  name: 'cmp',
  attributes: [numeric(CMP.SREG, FIRST), numeric(CMP.OP, CMP_OPS[operator]), dataAttribute(CMP.DATA, bytes)],
});

/** Clears the bits that are not in the mask. */
export const bitwiseAnd = (mask: Buffer): Expression => ({
  name: 'bitwise',
  attributes: [
    numeric(BITWISE.SREG, FIRST),
    numeric(BITWISE.DREG, FIRST),
    numeric(BITWISE.LEN, mask.length),
    dataAttribute(BITWISE.MASK, mask),
    dataAttribute(BITWISE.XOR, Buffer.alloc(mask.length)),
  ],
});

/** Compares with the elements of a set: one of the table by its name, or one of the rule's own. */
export const lookup = (operator: Operator, set: string | AnonymousSet): Expression => ({
  name: 'lookup',
  attributes: [
    numeric(LOOKUP.SREG, FIRST),
    ...(typeof set === 'string' ? [attribute(LOOKUP.SET, set)] : []),
    ...(operator === 'neq' ? [numeric(LOOKUP.FLAGS, LOOKUP_F_INV)] : []),
  ],
  ...(typeof set === 'string' ? {} : { set }),
});

/** The attributes by which a lookup names a set that is made in the same transaction. */
export const setReference = (name: string, id: number): Buffer[] => [
  attribute(LOOKUP.SET, name),
  numeric(LOOKUP.SET_ID, id),
];

/** Replaces the key with what the map has for it. */
export const translate = (map: string): Expression => ({
  name: 'lookup',
  attributes: [attribute(LOOKUP.SET, map), numeric(LOOKUP.SREG, FIRST), numeric(LOOKUP.DREG, FIRST)],
});

/** Changes the destination to the IPv4 address and the port in the first registers. */
export const destinationNat = (): Expression => ({
  name: 'nat',
  attributes: [
    numeric(NAT.TYPE, NAT_DNAT),
    numeric(NAT.FAMILY, NFPROTO_IPV4),
    numeric(NAT.REG_ADDR_MIN, register(0)),
    numeric(NAT.REG_PROTO_MIN, register(1)),
  ],
});

export const verdict = (name: keyof typeof VERDICTS): Expression => ({
  name: 'immediate',
  attributes: [
    numeric(IMMEDIATE.DREG, REG_VERDICT),
    nested(IMMEDIATE.DATA, nested(DATA_VERDICT, numeric(VERDICT_CODE, VERDICTS[name]))),
  ],
});
