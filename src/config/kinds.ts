/** The kinds of option values: their JSON schema in daemon.json, and how the values of their flags are parsed. */

interface KindRules {
  schema: object;
  /** One value; other kinds may be given several times. */
  single: boolean;
  /** The JSON value from the flag's values, of which there is at least one. @throws Error for a malformed value */
  parse: (values: string[]) => unknown;
}

export type Kind = keyof typeof kinds;

const last = (values: string[]): string => values.at(-1) ?? '';
const strings = { type: 'array', items: { type: 'string' } };
const mapOf = (schema: object) => ({ type: 'object', additionalProperties: schema });
const closedObject = (properties: Record<string, object>) => ({
  type: 'object',
  additionalProperties: false,
  properties,
});

export const kinds = {
  string: { schema: { type: 'string' }, single: true, parse: last },
  boolean: { schema: { type: 'boolean' }, single: true, parse: (values) => parseBoolean(last(values)) },
  integer: { schema: { type: 'integer' }, single: true, parse: (values) => parseInteger(last(values)) },
  bytes: { schema: { type: ['string', 'integer'] }, single: true, parse: last },
  list: { schema: strings, single: false, parse: (values) => values },
  map: {
    schema: mapOf({ type: 'string' }),
    single: false,
    parse: (values) => Object.fromEntries(values.map(parsePair)),
  },
  switches: {
    schema: mapOf({ type: 'boolean' }),
    single: false,
    parse: (values) => Object.fromEntries(values.map(parseSwitch)),
  },
  ulimits: {
    schema: mapOf({
      ...closedObject({ Name: { type: 'string' }, Hard: { type: 'integer' }, Soft: { type: 'integer' } }),
      required: ['Hard', 'Soft'],
    }),
    single: false,
    parse: (values) => Object.fromEntries(values.map(parseUlimit)),
  },
  pools: {
    schema: {
      type: 'array',
      items: {
        ...closedObject({ base: { type: 'string' }, size: { type: 'integer' } }),
        required: ['base', 'size'],
      },
    },
    single: false,
    parse: (values) => values.map(parsePool),
  },
  runtimes: {
    schema: mapOf(
      closedObject({
        path: { type: 'string' },
        runtimeArgs: strings,
        runtimeType: { type: 'string' },
        options: { type: 'object' },
      }),
    ),
    single: false,
    parse: (values) => Object.fromEntries(values.map(parsePair).map(([name, path]) => [name, { path }])),
  },
  anything: { schema: {}, single: false, parse: last },
} satisfies Record<string, KindRules>;

/** Go's strconv.ParseBool, which dockerd's flags use. */
const booleans = new Map([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((text) => [text, false] as const),
]);

function parseBoolean(text: string): boolean {
  const value = booleans.get(text);
  if (value === undefined) throw new Error(`${JSON.stringify(text)} is neither true nor false`);
  return value;
}

function parseInteger(text: string): number {
  if (!/^[+-]?\d+$/.test(text)) throw new Error(`${JSON.stringify(text)} is not a whole number`);
  return Number(text);
}

function parsePair(text: string): [name: string, value: string] {
  const at = text.indexOf('=');
  if (at < 1) throw new Error(`${JSON.stringify(text)} must be formatted name=value`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** `name` or `name=BOOL`. */
function parseSwitch(text: string): [name: string, on: boolean] {
  const [name, value] = parsePair(text.includes('=') ? text : `${text}=true`);
  return [name, parseBoolean(value)];
}

/** `nofile=1024:2048`, like docker run --ulimit. */
function parseUlimit(text: string): [name: string, limit: { Name: string; Soft: number; Hard: number }] {
  const [name, limits] = parsePair(text);
  const [soft, hard = soft] = limits.split(':').map(parseInteger);
  return [name, { Name: name, Soft: soft!, Hard: hard! }];
}

/** `base=10.0.0.0/8,size=24`. */
function parsePool(text: string): { base: string; size: number } {
  const { base, size, ...others } = Object.fromEntries(text.split(',').map(parsePair));
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) throw new Error(`unknown field ${JSON.stringify(unknown)}: a pool is base=CIDR,size=BITS`);
  if (base === undefined || size === undefined)
    throw new Error(`${JSON.stringify(text)} must be formatted base=CIDR,size=BITS`);
  return { base, size: parseInteger(size) };
}
