import type { Healthcheck } from '../../model/container-config.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { parseDuration } from '../images/go-time.ts';
import { Flags, type FlagKind } from './flags.ts';
import { jsonArguments } from './json-arguments.ts';
import type { Statement } from './statements.ts';

/** Nanoseconds. */
const MIN_INTERVAL = 1_000_000n;
const MAX_RETRIES = 2 ** 31 - 1;
const FLAGS = {
  interval: 'value',
  timeout: 'value',
  'start-period': 'value',
  'start-interval': 'value',
  retries: 'value',
} as const satisfies Record<string, FlagKind>;
/** Flags and the fields that they set. */
const DURATIONS = [
  ['interval', 'Interval'],
  ['timeout', 'Timeout'],
  ['start-period', 'StartPeriod'],
  ['start-interval', 'StartInterval'],
] as const;

/** HEALTHCHECK. @throws InvalidParameter with BuildKit's texts */
export function parseHealthcheck({ rest, flags: written }: Statement): Healthcheck {
  const [, type = '', text = ''] = /^(\S+)\s*(.*)$/s.exec(rest) ?? [];
  if (type === '') throw new InvalidParameter('HEALTHCHECK requires at least one argument');
  if (type.toUpperCase() === 'NONE') {
    if (text !== '') throw new InvalidParameter('HEALTHCHECK NONE takes no arguments');
    return { Test: ['NONE'] };
  }
  const flags = new Flags(written, FLAGS);
  if (type.toUpperCase() !== 'CMD')
    throw new InvalidParameter(`Unknown type ${JSON.stringify(type.toUpperCase())} in HEALTHCHECK (try CMD)`);
  const words = jsonArguments(text);
  const command = words ?? (text === '' ? [] : [text]);
  if (command.length === 0) throw new InvalidParameter('Missing command after HEALTHCHECK CMD');
  const check: Healthcheck = { Test: [words ? 'CMD' : 'CMD-SHELL', ...command] };
  for (const [flag, key] of DURATIONS) {
    const duration = parseDuration(flags.value(flag) || '0');
    if (duration !== 0n && duration < MIN_INTERVAL)
      throw new InvalidParameter(`Interval "${flag}" cannot be less than 1ms`);
    if (duration !== 0n) check[key] = Number(duration);
  }
  const retries = parseRetries(flags.value('retries'));
  if (retries > 0) check.Retries = retries;
  return check;
}

function parseRetries(text: string): number {
  if (text === '') return 0;
  if (!/^[-+]?\d+$/.test(text))
    throw new InvalidParameter(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  const retries = Number(text);
  if (Math.abs(retries) > MAX_RETRIES)
    throw new InvalidParameter(`strconv.ParseInt: parsing ${JSON.stringify(text)}: value out of range`);
  if (retries < 0) throw new InvalidParameter(`--retries cannot be negative (${retries})`);
  return retries;
}
