/** Decodes query strings as Docker does, unlike JSON Schema or Fastify (moby daemon/server/httputils/form.go). */
import { InvalidParameter } from '../model/errors.ts';
import type { Schema } from './go-json.ts';

export interface Parameter {
  name: string;
  schema: Schema;
}

/** A decoded query parameter. Only an integer that was not given is undefined; other types have a zero value. */
export type Decoded = boolean | string | string[] | number | undefined;

type Values = Map<string, string[]>;

/** Like Go's url.ParseQuery. @throws InvalidParameter */
function parseQuery(text: string): Values {
  const values: Values = new Map();
  for (const pair of text.split('&')) {
    if (pair === '') continue;
    if (pair.includes(';')) throw new InvalidParameter('invalid semicolon separator in query');
    const at = pair.indexOf('=');
    const key = unescape(at < 0 ? pair : pair.slice(0, at));
    const value = unescape(at < 0 ? '' : pair.slice(at + 1));
    const list = values.get(key);
    if (list) list.push(value);
    else values.set(key, [value]);
  }
  return values;
}

function unescape(text: string): string {
  const bad = /%(?![0-9a-fA-F]{2}).{0,2}/.exec(text);
  if (bad) throw new InvalidParameter(`invalid URL escape ${JSON.stringify(bad[0])}`);
  const plain = text.replaceAll('+', ' ');
  try {
    return decodeURIComponent(plain);
  } catch {
    // The escaped bytes are not UTF-8. Go keeps them.
    return Buffer.from(
      plain.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))),
      'latin1',
    ).toString('utf8');
  }
}

/** The operation's parameters by name; others are ignored. @throws InvalidParameter */
export function decodeQuery(parameters: Parameter[], query: string): Record<string, Decoded> {
  const values = parseQuery(query);
  return Object.fromEntries(parameters.map(({ name, schema }) => [name, decode(values.get(name), schema)]));
}

function decode(given: string[] | undefined, schema: Schema): Decoded {
  switch (schema.type) {
    case 'boolean':
      return given ? toBoolean(given[0]!) : schema.default === true;
    case 'array':
      return given ?? [];
    case 'integer':
      return toInteger(given?.[0] ?? '', schema);
    default:
      return given?.[0] ?? '';
  }
}

const FALSE = new Set(['', '0', 'no', 'false', 'none']);

export const toBoolean = (text: string): boolean => !FALSE.has(text.trim().toLowerCase());

const INTEGER = /^[+-]?\d+$/;

/** Empty counts as not given; but a parameter with `x-called` is mandatory, a uint32, and named so in errors. */
function toInteger(text: string, schema: Schema): number | undefined {
  const called = schema['x-called'];
  if (called !== undefined) return toUint32(text, called);
  if (text === '') return undefined;
  const invalid = (why: string): InvalidParameter =>
    new InvalidParameter(`strconv.Atoi: parsing ${JSON.stringify(text)}: ${why}`);
  if (!INTEGER.test(text)) throw invalid('invalid syntax');
  const value = Number(text);
  if (Math.abs(value) >= 2 ** 63) throw invalid('value out of range');
  return value;
}

function toUint32(text: string, called: string): number {
  const invalid = (why: string): InvalidParameter =>
    new InvalidParameter(`invalid ${called} ${JSON.stringify(text)}: ${why}`);
  if (!INTEGER.test(text)) throw invalid('invalid syntax');
  const value = Number(text);
  if (value < 0 || value >= 2 ** 32) throw invalid('value out of range');
  return value;
}

/** Decodes filters: `{"k":["v"]}` (docker-py, dockerode) or `{"k":{"v":true}}` (Go). @throws InvalidParameter */
export function decodeFilters(text: string): Map<string, string[]> {
  const filters = new Map<string, string[]>();
  if (text === '') return filters;
  for (const [key, values] of Object.entries(parseObject(text))) filters.set(key, filterValues(values));
  return filters;
}

function filterValues(values: unknown): string[] {
  if (values === null) return [];
  if (Array.isArray(values) && values.every((v) => typeof v === 'string')) return values;
  if (isFlags(values)) return Object.keys(values);
  throw invalidFilter();
}

const invalidFilter = (): InvalidParameter => new InvalidParameter('invalid filter');

const isFlags = (value: unknown): value is Record<string, boolean> =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  Object.values(value).every((v) => typeof v === 'boolean');

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalidFilter();
  }
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw invalidFilter();
  return value as Record<string, unknown>;
}

/** @throws InvalidParameter for a filter that is not one of `keys` */
export function checkFilterKeys(filters: Map<string, string[]>, keys: readonly string[]): void {
  for (const key of filters.keys()) if (!keys.includes(key)) throw new InvalidParameter(`invalid filter '${key}'`);
}

/** The value of a boolean filter; undefined when it was not given. @throws InvalidParameter */
export function booleanFilter(filters: Map<string, string[]>, key: string): boolean | undefined {
  const values = filters.get(key);
  if (!values || values.length === 0) return undefined;
  const isTrue = values.some((v) => v === '1' || v === 'true');
  const isFalse = values.some((v) => v === '0' || v === 'false');
  if (isTrue === isFalse) throw new InvalidParameter(`invalid filter '${key}=[${values.join(' ')}]'`);
  return isTrue;
}

const MAX_INT64 = 2n ** 63n - 1n;

/**
 * Unix time in seconds with an optional fraction → nanoseconds, clamped to 64 bits; undefined when empty. Clients
 * convert all other notations themselves.
 * @throws InvalidParameter
 */
export function toNanoseconds(name: string, text: string): bigint | undefined {
  if (text === '') return undefined;
  const [seconds = '', fraction = ''] = text.split('.', 2);
  const invalid = (part: string, why = 'invalid syntax'): InvalidParameter =>
    new InvalidParameter(
      `invalid value for ${JSON.stringify(name)}: strconv.ParseInt: parsing ${JSON.stringify(part)}: ${why}`,
    );
  if (!INTEGER.test(seconds)) throw invalid(seconds);
  if (!/^\d*$/.test(fraction)) throw invalid(fraction);
  // Digits are counted first: BigInt() of a million digits would block the event loop.
  const fitsInt64 = /^[+-]?0*\d{1,19}$/.test(seconds) && BigInt.asIntN(64, BigInt(seconds)) === BigInt(seconds);
  if (!fitsInt64) throw invalid(seconds, 'value out of range');
  return clamp(BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0')));
}

function clamp(nanoseconds: bigint): bigint {
  if (nanoseconds > MAX_INT64) return MAX_INT64;
  return nanoseconds < -MAX_INT64 ? -MAX_INT64 : nanoseconds;
}
