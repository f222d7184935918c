/** `docker … prune --filter`. */
import { InvalidParameter } from '../model/errors.ts';
import { hasLabel } from './events/filter.ts';
import { parseRfc3339 } from './time.ts';
import { wallClock } from '../sys/clock.ts';

/** A container, image, network or volume. */
export interface Prunable {
  /** Wall ns. */
  created: string;
  labels: Record<string, string>;
}

const ALL_KEYS = ['until', 'label', 'label!'] as const;

/**
 * Returns the test for what may be pruned: it has all of `label`, lacks at least one of `label!`, and is older than
 * `until`.
 * @throws InvalidParameter for keys other than `keys` and for bad values
 */
export function pruneMatcher(
  filters: ReadonlyMap<string, readonly string[]>,
  keys: readonly string[] = ALL_KEYS,
): (candidate: Prunable) => boolean {
  for (const key of filters.keys()) if (!keys.includes(key)) throw new InvalidParameter(`invalid filter '${key}'`);
  const wanted = filters.get('label') ?? [];
  const unwanted = filters.get('label!') ?? [];
  const moments = filters.get('until') ?? [];
  if (moments.length > 1) throw new InvalidParameter('more than one until filter specified');
  const until = moments[0] === undefined ? undefined : parseMoment(moments[0], wallClock());
  return ({ created, labels }) =>
    wanted.every((label) => hasLabel(labels, label)) &&
    !(unwanted.length > 0 && unwanted.every((label) => hasLabel(labels, label))) &&
    (until === undefined || BigInt(created) <= until);
}

const UNITS: Record<string, bigint> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};

/**
 * Parses the forms of time that Docker accepts: a duration before `now` (1h30m), seconds since the epoch, a date with
 * or without time and zone. `now` and the result are wall ns. @throws InvalidParameter
 */
function parseMoment(value: string, now: bigint): bigint {
  if (/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(value)) {
    let ago = 0n;
    for (const [, amount, unit] of value.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g))
      ago += BigInt(Math.round(Number(amount) * Number(UNITS[unit!])));
    return now - ago;
  }
  const unix = /^(\d+)(?:\.(\d+))?$/.exec(value);
  if (unix) return BigInt(unix[1]!) * 1_000_000_000n + BigInt((unix[2] ?? '').padEnd(9, '0').slice(0, 9));
  const date = /^(\d{4}-\d\d-\d\d)(?:T(\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?))?(Z|[+-]\d\d:\d\d)?$/.exec(value);
  if (!date)
    throw new InvalidParameter(
      `invalid value for "until": failed to parse value as time or duration: ${JSON.stringify(value)}`,
    );
  const [, day, time = '00', zone] = date;
  const missingFields = 3 - time.split(':').length;
  const local = `${day}T${time}${':00'.repeat(missingFields)}`;
  return parseRfc3339(`${local}${zone ?? localZone(local)}`);
}

/** The host's zone at that time, which dockerd assumes. */
function localZone(time: string): string {
  const minutes = -new Date(time.slice(0, 19)).getTimezoneOffset();
  const two = (n: number): string => String(Math.floor(Math.abs(n))).padStart(2, '0');
  return `${minutes < 0 ? '-' : '+'}${two(minutes / 60)}:${two(minutes % 60)}`;
}
