/**
 * What the OCI runtime reads (config.json, process.json), as text: its numbers are Go's int64 and uint64, ours are
 * doubles.
 */

/**
 * RLIM_INFINITY is 2^64-1, which no JavaScript number holds. This is the double next below: it survives JSON between
 * daemon
 * and shim, and `ociJson` writes the true one in its place.
 */
export const UNLIMITED = 18446744073709549568;

const MAX_UINT64 = '18446744073709551615';
const MAX_INT64 = '9223372036854775807';
/** Looks like a number that is not safe; may be within a string. */
const LARGE = /\d{16}|\de\+/;

/**
 * JSON.stringify gives a large number the fewest digits that tell it from its neighbours: 2^63, which an int64's end
 * becomes
 * when it is read, is written 9223372036854776000, and the runtime refuses the file. Here all digits are written, and
 * those two
 * ends, int64's and uint64's, are what they were.
 */
export function ociJson(value: unknown): string {
  const plain = JSON.stringify(value);
  if (!LARGE.test(plain)) return plain;
  let mark = 'number ';
  while (plain.includes(`"${mark}`)) mark += '-';
  const marked = JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'number' && Number.isInteger(part) && !Number.isSafeInteger(part) ? `${mark}${digits(part)}` : part,
  );
  return marked.replaceAll(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1');
}

function digits(number: number): string {
  if (number >= UNLIMITED) return MAX_UINT64;
  return number === 2 ** 63 ? MAX_INT64 : String(BigInt(number));
}
