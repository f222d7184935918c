/** Serializes config.json and process.json, whose numbers the OCI runtime reads as int64 and uint64. */
import { exactJson, jsonWithIntegers } from './exact-json.ts';

/**
 * Stands for RLIM_INFINITY, 2^64-1, which is no JavaScript number: the next smaller double. It survives JSON between
 * daemon and shim, and `ociJson` writes 2^64-1 in its place.
 */
export const UNLIMITED = 18446744073709549568;

const MAX_UINT64 = '18446744073709551615';
const MAX_INT64 = '9223372036854775807';
/** May be an integer that is not safe; may also be within a string. */
const LARGE = /\d{16}|\de\+/;

/**
 * JSON with all digits of large integers, and with the largest int64 and uint64 exact. JSON.stringify writes the fewest
 * digits that identify a double: the largest int64, which parses as 2^63, becomes 9223372036854776000, and the runtime
 * refuses the file.
 */
export function ociJson(value: unknown): string {
  const plain = exactJson(value);
  return LARGE.test(plain) ? jsonWithIntegers(value, digits) : plain;
}

function digits(part: unknown): string | undefined {
  if (typeof part === 'bigint') return String(part);
  if (typeof part !== 'number' || !Number.isInteger(part) || Number.isSafeInteger(part)) return undefined;
  if (part >= UNLIMITED) return MAX_UINT64;
  return part === 2 ** 63 ? MAX_INT64 : String(BigInt(part));
}
