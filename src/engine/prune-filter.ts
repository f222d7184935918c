/** `docker … prune --filter`: what may go. */
import { InvalidParameter } from '../model/errors.ts';
import { hasLabel } from './events/filter.ts';
import { parseRfc3339 } from './time.ts';
import { wallClock } from '../sys/clock.ts';

/** What can be pruned: containers, images, networks, volumes. */
export interface Prunable {
  /** Wall ns. */
  created: string;
  labels: Record<string, string>;
}

const ALL_KEYS = ['until', 'label', 'label!'] as const;

/**
 * All labels must be there; a thing that has all of `label!` stays; `until` spares what is younger.
 * @throws InvalidParameter for other keys than `keys` and for bad values: then nothing is pruned
 */
export function pruneMatcher(
  filters: ReadonlyMap<string, readonly string[]>,
  keys: readonly string[] = ALL_KEYS,
): (thing: Prunable) => boolean {
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
 * A moment in any form that Docker takes: a duration before `now` (1h30m), seconds since the epoch, a date with or
 * without time and zone. @throws InvalidParameter
 */
export function parseMoment(value: string, now: bigint): bigint {
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
  const whole = `${day}T${time.split(':').length < 3 ? `${time}${':00'.repeat(3 - time.split(':').length)}` : time}`;
  return zone ? parseRfc3339(`${whole}${zone}`) : parseRfc3339(`${whole}${localZone(whole)}`);
}

/** The host's own zone at that time, as dockerd takes it. */
function localZone(time: string): string {
  const minutes = -new Date(time.slice(0, 19)).getTimezoneOffset();
  const two = (n: number): string => String(Math.floor(Math.abs(n))).padStart(2, '0');
  return `${minutes < 0 ? '-' : '+'}${two(minutes / 60)}:${two(minutes % 60)}`;
}
