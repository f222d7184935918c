/** The words of nft(8) in which rules are written, and the expressions that they become. */
import { addressBytes } from './inet.ts';
import {
  bitwiseAnd,
  compare,
  conntrack,
  destinationNat,
  destinationType,
  hostNumber,
  lookup,
  meta,
  payload,
  translate,
  TYPES,
  verdict,
  type AnonymousSet,
  type DataType,
  type Expression,
  type Operator,
} from './nft-expressions.ts';

/** A part of a rule: a condition, or what happens to the packet. */
export interface Term {
  /** As nft(8) reads it. */
  text: string;
  expressions: Expression[];
}
export type Rule = Term;

export const rule = (...terms: Term[]): Rule => ({
  text: terms.map(({ text }) => text).join(' '),
  expressions: terms.flatMap(({ expressions }) => expressions),
});

/** A value to compare with, or all values that begin with the same bits. */
interface Operand {
  text: string;
  bytes: Buffer;
  bits: number;
}

/** A property of packets. */
class Field<Value extends string | number> {
  /**
   * @param load puts the first bytes of the property into a 4-byte register and those behind it
   * @param operand encodes a value
   */
  constructor(
    readonly text: string,
    readonly type: DataType,
    readonly load: (bytes: number, register: number) => Expression,
    private readonly operand: (value: Value) => Operand,
  ) {}

  /** Matches these values. */
  is = (...values: Value[]): Term => this.#match('eq', values);
  /** Matches all but these values. */
  isNot = (...values: Value[]): Term => this.#match('neq', values);
  /** Matches all values that are not in a set of the table. */
  isNotIn = (set: string): Term => ({
    text: `${this.text} != @${set}`,
    expressions: [this.#loadAll(), lookup('neq', set)],
  });

  #match(operator: Operator, values: Value[]): Term {
    const operands = values.map(this.operand);
    const texts = operands.map(({ text }) => text);
    const isOne = operands.length === 1;
    return {
      text: `${this.text} ${operator === 'neq' ? '!= ' : ''}${isOne ? texts[0] : `{ ${texts.join(', ')} }`}`,
      expressions: isOne
        ? this.#compareWith(operands[0]!, operator)
        : [this.#loadAll(), lookup(operator, setOf(this.type, operands))],
    };
  }

  #compareWith({ bytes, bits }: Operand, operator: Operator): Expression[] {
    if (bits % 8 === 0 && bits > 0) return [this.load(bits / 8, 0), compare(operator, bytes.subarray(0, bits / 8))];
    const { first, width } = rangeOf({ bytes, bits });
    const mask = bytesOf((1n << BigInt(8 * bytes.length)) - width, bytes.length);
    return [this.#loadAll(), bitwiseAnd(mask), compare(operator, bytesOf(first, bytes.length))];
  }

  #loadAll = (): Expression => this.load(TYPES[this.type].bytes, 0);
}

function setOf(type: DataType, operands: Operand[]): AnonymousSet {
  const hasIntervals = operands.some(({ bytes, bits }) => bits < 8 * bytes.length);
  const elements = hasIntervals ? bounds(operands) : operands.map(({ bytes }) => ({ key: bytes, isEnd: false }));
  return { type, hasIntervals, elements };
}

/** The bounds of the ranges in order; those that touch are one. What is below the first ends with a bound too. */
function bounds(operands: Operand[]): AnonymousSet['elements'] {
  const length = operands[0]!.bytes.length;
  const merged: { first: bigint; end: bigint }[] = [];
  const ranges = operands.map(rangeOf).sort((a, b) => (a.first < b.first ? -1 : 1));
  for (const { first, width } of ranges) {
    const last = merged.at(-1);
    const end = first + width;
    if (last && first <= last.end) last.end = end > last.end ? end : last.end;
    else merged.push({ first, end });
  }
  const list = merged.flatMap(({ first, end }) => [
    { at: first, isEnd: false },
    { at: end, isEnd: true },
  ]);
  if (list[0]!.at > 0n) list.unshift({ at: 0n, isEnd: true });
  return list
    .filter(({ at }) => at < 1n << BigInt(8 * length))
    .map(({ at, isEnd }) => ({ key: bytesOf(at, length), isEnd }));
}

function rangeOf({ bytes, bits }: Pick<Operand, 'bytes' | 'bits'>): { first: bigint; width: bigint } {
  const free = BigInt(8 * bytes.length - bits);
  return { first: (BigInt(`0x${bytes.toString('hex')}`) >> free) << free, width: 1n << free };
}

const bytesOf = (value: bigint, length: number): Buffer =>
  Buffer.from(value.toString(16).padStart(2 * length, '0'), 'hex');

const whole = (text: string, bytes: Buffer): Operand => ({ text, bytes, bits: 8 * bytes.length });

function linkName(name: string): Operand {
  const bytes = Buffer.alloc(TYPES.ifname.bytes);
  bytes.write(name);
  return whole(`"${name}"`, bytes);
}

/** An address, or a subnet in CIDR notation. */
function address(text: string): Operand {
  const [host, prefix] = text.split('/') as [string, string?];
  const all = whole(text, addressBytes(host));
  return prefix === undefined ? all : { ...all, bits: Number(prefix) };
}

const PROTOCOLS = { tcp: 6, udp: 17 } as const;

export const iifname = new Field('iifname', 'ifname', (_, to) => meta('iifname', to), linkName);
export const oifname = new Field('oifname', 'ifname', (_, to) => meta('oifname', to), linkName);
export const l4proto = new Field(
  'meta l4proto',
  'inet_proto',
  (_, to) => meta('l4proto', to),
  (name: keyof typeof PROTOCOLS) => whole(name, Buffer.from([PROTOCOLS[name]])),
);

const header = (text: string, type: 'ipv4_addr' | 'ipv6_addr', offset: number): Field<string> =>
  new Field(text, type, (bytes, to) => payload('network', offset, bytes, to), address);
export const ip = { saddr: header('ip saddr', 'ipv4_addr', 12), daddr: header('ip daddr', 'ipv4_addr', 16) };
export const ip6 = { saddr: header('ip6 saddr', 'ipv6_addr', 8), daddr: header('ip6 daddr', 'ipv6_addr', 24) };
export const dport = new Field(
  'th dport',
  'inet_service',
  (bytes, to) => payload('transport', 2, bytes, to),
  (port: number) => whole(String(port), Buffer.from([port >> 8, port & 0xff])),
);

/** linux/netfilter/nf_conntrack_common.h */
const STATES = { established: 2, related: 4 } as const;
const STATUSES = { dnat: 0x20 } as const;

export const ctState = (...states: (keyof typeof STATES)[]): Term => ({
  text: `ct state ${states.join(',')}`,
  expressions: [conntrack('state'), ...anyBit(states.map((state) => STATES[state]))],
});
export const ctStatus = (status: keyof typeof STATUSES): Term => ({
  text: `ct status ${status}`,
  expressions: [conntrack('status'), ...anyBit([STATUSES[status]])],
});

const anyBit = (bits: number[]): Expression[] => [
  bitwiseAnd(hostNumber(bits.reduce((all, bit) => all | bit, 0))),
  compare('neq', hostNumber(0)),
];

/** linux/rtnetlink.h */
const RTN_LOCAL = 2;

/** Matches what is sent to an address of this host. */
export const toThisHost: Term = {
  text: 'fib daddr type local',
  expressions: [destinationType(), compare('eq', hostNumber(RTN_LOCAL))],
};

/** The number and the length of a concatenated type; its parts are padded to 4 bytes. */
export function concatenation(types: readonly DataType[]): { number: number; bytes: number } {
  const bytes = types.reduce((sum, type) => sum + 4 * wordsOf(type), 0);
  return { number: types.reduce((all, type) => (all << 6) | TYPES[type].number, 0), bytes };
}
const wordsOf = (type: DataType): number => Math.ceil(TYPES[type].bytes / 4);

/** Redirects a packet to the address and port that a map of the table has for these fields, if it has them. */
export function dnatBy(map: string, ...key: Pick<Field<never>, 'text' | 'type' | 'load'>[]): Term {
  let register = 0;
  const loads = key.map(({ type, load }) => {
    const expression = load(TYPES[type].bytes, register);
    register += wordsOf(type);
    return expression;
  });
  return {
    text: `dnat ip to ${key.map(({ text }) => text).join(' . ')} map @${map}`,
    expressions: [...loads, translate(map), destinationNat()],
  };
}

export const masquerade: Term = { text: 'masquerade', expressions: [{ name: 'masq', attributes: [] }] };
export const drop: Term = { text: 'drop', expressions: [verdict('drop')] };
export const accept: Term = { text: 'accept', expressions: [verdict('accept')] };
/** Leaves the chain. */
export const leave: Term = { text: 'return', expressions: [verdict('return')] };
