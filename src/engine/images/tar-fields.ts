/** Parsing of ustar header fields, and of numbers in pax records, for tar-reader.ts. */
import { FIELDS, quote, TarError } from './tar.ts';

const POSIX_MAGIC = 'ustar\0';
const STAR_MAGIC = 'tar\0';
const STAR_PREFIX_LENGTH = 131;
/** Of a value in an error message. */
const MAX_SHOWN_CHARS = 100;

type Field = keyof typeof FIELDS;

/** The bytes before the first NUL. */
export function untilNul(bytes: Buffer): Buffer {
  const nul = bytes.indexOf(0);
  return nul < 0 ? bytes : bytes.subarray(0, nul);
}

/** A field's bytes. */
export const field = (block: Buffer, name: Field): Buffer =>
  block.subarray(FIELDS[name][0], FIELDS[name][0] + FIELDS[name][1]);

// Latin1 text up to a NUL.
function text(block: Buffer, name: Field, length: number = FIELDS[name][1]): string {
  const [start] = FIELDS[name];
  let end = start;
  while (end < start + length && block[end] !== 0) end++;
  return block.toString('latin1', start, end);
}

/**
 * The path in a ustar header, in latin1. Only POSIX headers have a prefix: GNU stores times there, and star a shorter
 * prefix followed by fields of its own.
 */
export function headerPath(block: Buffer): string {
  const name = text(block, 'name');
  const hasPrefix = block[FIELDS.prefix[0]] !== 0 && isPosix(block);
  if (!hasPrefix) return name;
  const isStar = block.toString('latin1', 508, 512) === STAR_MAGIC;
  return `${text(block, 'prefix', isStar ? STAR_PREFIX_LENGTH : FIELDS.prefix[1])}/${name}`;
}

const isPosix = (block: Buffer): boolean =>
  block.toString('latin1', FIELDS.magic[0], FIELDS.magic[0] + POSIX_MAGIC.length) === POSIX_MAGIC;

/** A numeric field: octal text, or GNU's big-endian two's complement marked by the first bit. @throws TarError */
export function numeric(block: Buffer, name: Field): number {
  const [start, length] = FIELDS[name];
  const first = block[start]!;
  if (!(first & 0x80)) return octal(block, name);
  const negative = (first & 0x40) !== 0;
  let value = BigInt(negative ? first - 0x100 : first & 0x7f);
  for (const byte of block.subarray(start + 1, start + length)) value = (value << 8n) | BigInt(byte);
  return toSafeNumber(value, name);
}

/** A field of octal text. @throws TarError */
export function octal(block: Buffer, name: Field): number {
  const [start, length] = FIELDS[name];
  // The fast path for nearly all fields: digits up to a NUL or a space.
  let value = 0;
  for (let i = start; i < start + length; i++) {
    const digit = block[i]! - 0x30;
    if (digit >= 0 && digit < 8) value = value * 8 + digit;
    else if (i > start && (digit === -0x30 || digit === -0x10)) return value;
    else break;
  }
  const digits = block
    .toString('latin1', start, start + length)
    .replace(/^[ \0]+/, '')
    .replace(/[ \0].*$/s, '');
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits))
    throw new TarError(`invalid tar header: ${name} ${JSON.stringify(digits)} is no octal number`);
  return parseInt(digits, 8);
}

/** A decimal number in a pax record. @throws TarError */
export function paxInteger(value: string | undefined, key: string): number | undefined {
  if (value === undefined) return undefined;
  if (!/^-?\d{1,40}$/.test(value))
    throw new TarError(`invalid pax header: ${key}=${JSON.stringify(value.slice(0, MAX_SHOWN_CHARS))} is no number`);
  return toSafeNumber(BigInt(value), key);
}

function toSafeNumber(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER))
    throw new TarError(`invalid tar header: a ${what} of ${value}`);
  return Number(value);
}

/** Checks a user or group ID; chown(2) takes the largest 32-bit number as "do not change". @throws TarError */
export function checkOwner(value: number, path: string): number {
  if (value < 0 || value >= 0xffffffff) throw new TarError(`${quote(path)}: owner ${value} is out of range`);
  return value;
}

/** Nanoseconds of a pax time: seconds with an optional fraction, truncated after nine digits. @throws TarError */
export function paxTime(value: string | undefined): bigint | undefined {
  if (value === undefined) return undefined;
  const match = /^(-?)(\d{1,18})(?:\.(\d*))?$/.exec(value);
  if (!match) throw new TarError(`invalid pax header: time ${JSON.stringify(value.slice(0, MAX_SHOWN_CHARS))}`);
  const magnitude = BigInt(match[2]!) * 1_000_000_000n + BigInt((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  return match[1] ? -magnitude : magnitude;
}
