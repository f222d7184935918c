/**
 * Query strings by Docker's rules, which are neither JSON Schema's nor Fastify's (moby
 * daemon/server/httputils/form.go).
 */
import { InvalidParameter } from '../model/errors.ts';
import type { Schema } from './go-json.ts';

export interface Parameter {
  name: string;
  schema: Schema;
}

/** What a query parameter becomes: nothing is left out but an integer that was not given. */
export type Decoded = boolean | string | string[] | number | undefined;

type Values = Map<string, string[]>;

/** As Go's url.ParseQuery. @throws InvalidParameter */
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
    // Escaped bytes that are no UTF-8: Go keeps them as they are.
    return Buffer.from(
      plain.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))),
      'latin1',
    ).toString('utf8');
  }
}

/** The parameters that an operation has, from a query and, before it, a form. @throws InvalidParameter */
export function decodeQuery(parameters: Parameter[], query: string, form = ''): Record<string, Decoded> {
  const values = parseQuery(form === '' ? query : `${form}&${query}`);
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

/** Empty means not given, but for a parameter that has a name in refusals: that one is needed. */
function toInteger(text: string, schema: Schema): number | undefined {
  const called = schema['x-called'];
  if (called !== undefined) {
    const refuse = (why: string): never => {
      throw new InvalidParameter(`invalid ${called} ${JSON.stringify(text)}: ${why}`);
    };
    if (!/^[+-]?\d+$/.test(text)) return refuse('invalid syntax');
    const value = Number(text);
    return value >= 0 && value < 2 ** 32 ? value : refuse('value out of range');
  }
  if (text === '') return undefined;
  if (!/^[+-]?\d+$/.test(text))
    throw new InvalidParameter(`strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  const value = Number(text);
  if (Math.abs(value) >= 2 ** 63)
    throw new InvalidParameter(`strconv.Atoi: parsing ${JSON.stringify(text)}: value out of range`);
  return value;
}

/** Docker's filters: `{"k":["v"]}` (docker-py, dockerode) or `{"k":{"v":true}}` (Go). @throws InvalidParameter */
export function decodeFilters(text: string): Map<string, string[]> {
  const filters = new Map<string, string[]>();
  if (text === '') return filters;
  const decoded = parseObject(text);
  for (const [key, values] of Object.entries(decoded)) {
    if (Array.isArray(values) && values.every((v) => typeof v === 'string')) filters.set(key, values);
    else if (isFlags(values)) filters.set(key, Object.keys(values));
    else if (values !== null) throw invalidFilter();
    else filters.set(key, []);
  }
  return filters;
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

/** @throws InvalidParameter for a key that is none of these */
export function checkFilterKeys(filters: Map<string, string[]>, keys: readonly string[]): void {
  for (const key of filters.keys()) if (!keys.includes(key)) throw new InvalidParameter(`invalid filter '${key}'`);
}

/** A filter that is a boolean. @throws InvalidParameter */
export function booleanFilter(filters: Map<string, string[]>, key: string): boolean | undefined {
  const values = filters.get(key);
  if (!values || values.length === 0) return undefined;
  const isTrue = values.some((v) => v === '1' || v === 'true');
  const isFalse = values.some((v) => v === '0' || v === 'false');
  if (isTrue === isFalse) throw new InvalidParameter(`invalid filter '${key}=[${values.join(' ')}]'`);
  return isTrue;
}

/**
 * Unix seconds with an optional fraction, as nanoseconds; undefined when empty. The client converts everything else.
 * @throws InvalidParameter
 */
export function toNanoseconds(name: string, text: string): bigint | undefined {
  if (text === '') return undefined;
  const [seconds = '', fraction = ''] = text.split('.', 2);
  const refuse = (part: string, why = 'invalid syntax'): InvalidParameter =>
    new InvalidParameter(
      `invalid value for ${JSON.stringify(name)}: strconv.ParseInt: parsing ${JSON.stringify(part)}: ${why}`,
    );
  if (!/^[+-]?\d+$/.test(seconds)) throw refuse(seconds);
  if (!/^\d*$/.test(fraction)) throw refuse(fraction);
  // Before it becomes a number: of a million digits that takes its time.
  if (!/^[+-]?0*\d{1,19}$/.test(seconds) || BigInt.asIntN(64, BigInt(seconds)) !== BigInt(seconds))
    throw refuse(seconds, 'value out of range');
  const moment = BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0'));
  // Nothing here is older or younger than 64 bits of nanoseconds can tell.
  return moment < -MAX_MOMENT ? -MAX_MOMENT : moment > MAX_MOMENT ? MAX_MOMENT : moment;
}

const MAX_MOMENT = 2n ** 63n - 1n;
