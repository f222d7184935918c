/** Conversions between wall-clock nanoseconds (decimal strings) and Go's RFC 3339 with nanoseconds. */
import { formatLogTime } from '../protocol/log-format.ts';
import { InvalidParameter } from '../model/errors.ts';

const NS = 1_000_000_000n;
const NS_PER_MS = 1_000_000n;

/** Go's zero time, which Docker uses for "never". */
export const ZERO_TIME = '0001-01-01T00:00:00Z';

/** Go's RFC3339Nano in UTC: without trailing zeros. '' (never) becomes Go's zero time. */
export const rfc3339 = (ns: string | bigint): string => (ns === '' ? ZERO_TIME : formatLogTime(BigInt(ns)));

/** The same with all nine digits. */
export function rfc3339Fixed(ns: string | bigint): string {
  const { seconds, fraction } = split(BigInt(ns));
  return `${isoSeconds(seconds)}.${fraction}Z`;
}

/** Wall ns of an RFC 3339 time, whatever its zone and number of digits. @throws InvalidParameter */
export function parseRfc3339(text: string): bigint {
  const found = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$/.exec(text);
  const ms = found ? Date.parse(`${found[1]}T${found[2]}${found[4]!.toUpperCase()}`) : NaN;
  if (!found || Number.isNaN(ms)) throw new InvalidParameter(`invalid time: ${text}`);
  return BigInt(ms) * NS_PER_MS + BigInt((found[3] ?? '').padEnd(9, '0').slice(0, 9));
}

/** Whole seconds since the epoch. */
export const unixSeconds = (ns: string | bigint): number => Number(split(BigInt(ns || 0)).seconds);

function split(ns: bigint): { seconds: bigint; fraction: string } {
  const rest = ((ns % NS) + NS) % NS;
  return { seconds: (ns - rest) / NS, fraction: String(rest).padStart(9, '0') };
}

const isoSeconds = (seconds: bigint): string => new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
