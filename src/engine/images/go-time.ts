/** Times and durations in Go's formats (package time). */
import { InvalidParameter } from '../../model/errors.ts';

const UNITS: Record<string, bigint> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  μs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};
const MAX_DURATION = (1n << 63n) - 1n;

/** time.ParseDuration: nanoseconds of `1h30m`, `1.5s`, `-2ms`. @throws InvalidParameter with Go's texts */
export function parseDuration(text: string): bigint {
  const invalid = (): never => {
    throw new InvalidParameter(`time: invalid duration ${JSON.stringify(text)}`);
  };
  const [, sign = '', rest = ''] = /^([-+]?)(.*)$/s.exec(text) ?? [];
  if (rest === '0') return 0n;
  if (rest === '') return invalid();
  let total = 0n;
  for (let at = 0; at < rest.length;) {
    const match = /^(\d*)(?:\.(\d*))?/.exec(rest.slice(at))!;
    const [number, whole = '', fraction = ''] = match;
    if (whole === '' && fraction === '') return invalid();
    at += number.length;
    const unit = /^[^.\d]+/.exec(rest.slice(at))?.[0];
    if (unit === undefined) throw new InvalidParameter(`time: missing unit in duration ${JSON.stringify(text)}`);
    const factor = UNITS[unit];
    if (factor === undefined)
      throw new InvalidParameter(`time: unknown unit ${JSON.stringify(unit)} in duration ${JSON.stringify(text)}`);
    at += unit.length;
    total +=
      BigInt(whole || '0') * factor +
      (BigInt(fraction.slice(0, 18) || '0') * factor) / 10n ** BigInt(Math.min(fraction.length, 18));
    if (total > MAX_DURATION) return invalid();
  }
  return sign === '-' ? -total : total;
}

/** Duration.String: `1h30m0s`, `1.5s`, `200ms`, `0s`. */
export function formatDuration(ns: bigint): string {
  if (ns < 0n) return `-${formatDuration(-ns)}`;
  if (ns === 0n) return '0s';
  for (const unit of ['ns', 'µs', 'ms']) if (ns < UNITS[unit]! * 1000n) return decimal(ns, UNITS[unit]!) + unit;
  const seconds = `${decimal(ns % UNITS.m!, UNITS.s!)}s`;
  const minutes = ns / UNITS.m!;
  if (minutes === 0n) return seconds;
  return minutes < 60n ? `${minutes}m${seconds}` : `${minutes / 60n}h${minutes % 60n}m${seconds}`;
}

/** `ns / unit`, without zeros at the end. */
function decimal(ns: bigint, unit: bigint): string {
  const digits = (unit + (ns % unit)).toString().slice(1).replace(/0+$/, '');
  return `${ns / unit}${digits === '' ? '' : `.${digits}`}`;
}

/** Wall ns of an RFC 3339 time; undefined if it is malformed. */
export function parseRfc3339(text: string): bigint | undefined {
  const match = /^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$/.exec(text);
  if (!match) return undefined;
  const ms = Date.parse(`${match[1]}${match[3]}`);
  return Number.isNaN(ms) ? undefined : BigInt(ms) * 1_000_000n + BigInt((match[2] ?? '').slice(0, 9).padEnd(9, '0'));
}

/** time.RFC3339Nano: RFC 3339 in UTC, the fraction without trailing zeros. */
export function formatRfc3339(ns: bigint): string {
  const fraction = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const seconds = new Date(Number((ns - fraction) / 1_000_000n)).toISOString().slice(0, 19);
  const digits = String(fraction).padStart(9, '0').replace(/0+$/, '');
  return `${seconds}${digits ? `.${digits}` : ''}Z`;
}

/**
 * Wall ns of a time in a filter: a duration before `now`, RFC 3339 or a prefix of it (in the daemon's time zone), or
 * seconds since the epoch.
 * @throws InvalidParameter
 */
export function parseMoment(text: string, now: bigint): bigint {
  if (text !== '0') {
    try {
      return now - parseDuration(text);
    } catch {
      // Not a duration.
    }
  }
  const seconds = /^(-?\d+)(?:\.(\d*))?$/.exec(text);
  if (seconds) return BigInt(seconds[1]!) * 1_000_000_000n + BigInt((seconds[2] ?? '').slice(0, 9).padEnd(9, '0'));
  const date = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d))?(?::(\d\d)(\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?$/.exec(text);
  if (date) {
    const [, day, hour = '00', minute = '00', second = '00', fraction = '', zone] = date;
    const ms = Date.parse(`${day}T${hour}:${minute}:${second}${zone ?? ''}`);
    if (!Number.isNaN(ms)) return BigInt(ms) * 1_000_000n + BigInt(fraction.slice(1, 10).padEnd(9, '0'));
  }
  throw new InvalidParameter(`failed to parse value as time or duration: ${JSON.stringify(text)}`);
}
