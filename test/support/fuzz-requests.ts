/** Arbitrary requests to the API: valid by openapi.yaml, nearly valid, and odd ones. */
import fc from 'fast-check';
import { BY_NAME, CONTAINERS, NO_REGISTRY, number, oddText, oddValue, word } from './fuzz-values.ts';
import document from '../../openapi.yaml';

interface Schema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  enum?: unknown[];
  const?: unknown;
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
}
interface Parameter {
  name: string;
  in: 'query' | 'path' | 'header';
  schema: Schema;
}
interface Operation {
  operationId: string;
  parameters?: (Parameter | { $ref: string })[];
  requestBody?: { content?: Record<string, { schema?: Schema }> };
}

export interface FuzzedRequest {
  operation: string;
  method: string;
  /** With its query. */
  path: string;
  body?: string;
  headers: Record<string, string>;
}

const api = document as unknown as {
  paths: Record<string, Record<string, Operation>>;
  components: Record<string, Record<string, unknown>>;
};

const resolve = <T>(value: T | { $ref: string }): T => {
  if (typeof value !== 'object' || value === null || !('$ref' in value) || typeof value.$ref !== 'string')
    return value as T;
  const [, , kind, name] = value.$ref.split('/');
  return resolve(api.components[kind!]![name!] as T);
};

/** Operations that need not answer soon: they wait for something, or stream. */
export const MAY_WAIT = new Set([
  ...[
    'ContainerAttach',
    'ContainerAttachWebsocket',
    'ContainerWait',
    'ContainerLogs',
    'ContainerStats',
    'SystemEvents',
  ],
  ...[
    'ContainerStop',
    'ContainerRestart',
    'ExecStart',
    'ContainerExport',
    'ImageGet',
    'ImageGetAll',
    'ContainerArchive',
  ],
]);

const MAX_DEPTH = 6;
/** Fields and parameters with which the daemon would ask Docker Hub, or anybody, for what is not at NO_REGISTRY. */
const REACHES_OUT = new Set(['fromImage', 'term', 'serveraddress']);
/** Fields that most requests of their kind need; a login without an address would go to Docker Hub. */
const ALWAYS = new Set(['Image', 'Container', 'HostConfig', 'serveraddress']);

/** Mostly what the schema allows; one value in eight is odd. */
function valueOf(given: Schema, name: string, depth: number): fc.Arbitrary<unknown> {
  const known = BY_NAME[name];
  if (known && REACHES_OUT.has(name)) return known;
  if (known) return fc.oneof({ weight: 12, arbitrary: known }, oddValue);
  const schema = resolve(given);
  const valid = validValue(schema, name, depth);
  return fc.oneof({ weight: 7, arbitrary: valid }, oddValue);
}

function validValue(schema: Schema, name: string, depth: number): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return fc.oneof(...choices.map((choice) => valueOf(choice, name, depth)));
  if (schema.allOf || schema.properties) return objectOf(schema, depth);
  const [type] = [schema.type ?? 'object'].flat();
  if (type === 'string') return word;
  if (type === 'integer' || type === 'number') return number;
  if (type === 'boolean') return fc.boolean();
  if (type === 'array' && depth < MAX_DEPTH)
    return fc.array(valueOf(schema.items ?? {}, name, depth + 1), { maxLength: 3 });
  const values = typeof schema.additionalProperties === 'object' ? schema.additionalProperties : {};
  if (type === 'object' && depth < MAX_DEPTH)
    return fc.dictionary(fc.oneof(word, fc.constantFrom('80/tcp', '/x', '80-90')), valueOf(values, '', depth + 1), {
      maxKeys: 3,
    });
  return fc.constant({});
}

function propertiesOf(schema: Schema): Record<string, Schema> {
  const parts = (schema.allOf ?? []).map((part) => propertiesOf(resolve(part)));
  return Object.assign({}, ...parts, schema.properties) as Record<string, Schema>;
}

/** A few of the object's fields, and sometimes one that it does not have. */
function objectOf(schema: Schema, depth: number): fc.Arbitrary<unknown> {
  const properties = Object.entries(propertiesOf(schema));
  if (depth >= MAX_DEPTH || properties.length === 0) return fc.constant({});
  const always = properties.filter(([name]) => ALWAYS.has(name));
  const field = fc
    .constantFrom(...properties)
    .chain(([name, value]) => valueOf(value, name, depth + 1).map((made) => [name, made] as const));
  const fixed = fc.tuple(
    ...always.map(([name, value]) => valueOf(value, name, depth + 1).map((made) => [name, made] as const)),
  );
  const unknown = fc.oneof({ weight: 9, arbitrary: fc.constant([]) }, fc.tuple(fc.tuple(oddText, oddValue)));
  return fc
    .tuple(fixed, fc.array(field, { maxLength: 5 }), unknown)
    .map((parts) => Object.fromEntries(parts.flat() as [string, unknown][]));
}

/** A body's text: mostly the JSON, else something else. */
const bodyText = (json: string): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 16, arbitrary: fc.constant(json) },
    fc.constantFrom(
      json.slice(0, -1),
      `${json} x`,
      `[${json}]`,
      '',
      'null',
      'NaN',
      '['.repeat(20_000),
      '{"a":'.repeat(20_000),
      json.replace(/\d+/, '1e999'),
      json.replace(/\d+/, '9'.repeat(400)),
      json.replace('{', '{"Image":"busybox","image":7,'),
      `\ufeff${json}`,
      'x'.repeat(1 << 20),
    ),
  );

const HEADERS: Record<string, string>[] = [
  { 'Content-Type': 'application/json' },
  { 'Content-Type': 'application/json; charset=utf-8' },
  { 'Content-Type': 'text/plain' },
  { 'Content-Type': '' },
  { 'Content-Type': 'application/json', 'X-Registry-Auth': 'bm90IGpzb24' },
  { 'Content-Type': 'application/json', 'X-Registry-Auth': '***' },
  { 'Content-Type': 'application/json', 'X-Registry-Config': 'e30=' },
  { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' },
  { 'Content-Type': 'application/json', Range: 'bytes=5-1', 'If-None-Match': '*' },
];
const VERSIONS = [
  '',
  '',
  '/v1.51',
  '/v1.51',
  '/v1.44',
  '/v1.41',
  '/v1.24',
  '/v1.23',
  '/v1.99',
  '/v9',
  '/vx',
  '/v1.',
  '/v01.41',
];

const encode = (text: string): string => encodeURIComponent(Buffer.from(text).toString());

function requestOf(method: string, path: string, operation: Operation): fc.Arbitrary<FuzzedRequest> {
  const parameters = (operation.parameters ?? []).map((parameter) => resolve<Parameter>(parameter));
  const reachesRegistry = operation.operationId === 'DistributionInspect' || operation.operationId === 'ImagePush';
  const anything = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...CONTAINERS, 'busybox', 'net', 'vol', 'none') },
    oddText.map((text) => text || 'empty'),
  );
  const target = reachesRegistry ? fc.constant(NO_REGISTRY) : anything;
  const filled = fc.array(target, { minLength: 2, maxLength: 2 }).map((values) => {
    let index = 0;
    return path.replace(/\{\w+\}/g, () => encode(values[index++]!));
  });
  const query = fc
    .tuple(
      ...parameters
        .filter((parameter) => parameter.in === 'query')
        .map(({ name, schema }) =>
          fc
            .option(valueOf(schema, name, MAX_DEPTH - 1), { freq: 2, nil: undefined })
            .map((value) => [name, value] as const),
        ),
    )
    .map((pairs) =>
      pairs
        .filter(([, value]) => value !== undefined)
        .flatMap(([name, value]) =>
          [value]
            .flat()
            .map((each) => `${name}=${encode(typeof each === 'string' ? each : (JSON.stringify(each) ?? ''))}`),
        )
        .join('&'),
    );
  const schema = operation.requestBody?.content?.['application/json']?.schema;
  const body = schema
    ? validValue(resolve(schema), '', 0).chain((value) =>
        operation.operationId === 'SystemAuth' ? fc.constant(JSON.stringify(value)) : bodyText(JSON.stringify(value)),
      )
    : operation.requestBody
      ? fc.option(oddText)
      : fc.option(fc.constant('{}'), { freq: 9 });
  return fc
    .tuple(
      fc.constantFrom(...VERSIONS),
      filled,
      query,
      body,
      fc.oneof({ weight: 8, arbitrary: fc.constant(HEADERS[0]!) }, fc.constantFrom(...HEADERS)),
    )
    .map(([version, to, search, text, headers]) => ({
      operation: operation.operationId,
      method: method.toUpperCase(),
      path: `${version}${to}${search === '' ? '' : `?${search}`}`,
      ...(text !== null && method !== 'get' && method !== 'head' && { body: text }),
      headers,
    }));
}

const METHODS = ['get', 'head', 'post', 'put', 'delete'];

/** Bodies have most of the ways to be wrong. */
const BODY_WEIGHT = 8;

/** One request to any operation of the contract. */
export const fuzzedRequest: fc.Arbitrary<FuzzedRequest> = fc.oneof(
  ...Object.entries(api.paths).flatMap(([path, operations]) =>
    Object.entries(operations)
      .filter(([method]) => METHODS.includes(method))
      .map(([method, operation]) => ({
        weight: operation.requestBody?.content?.['application/json'] ? BODY_WEIGHT : 1,
        arbitrary: requestOf(method, path, operation),
      })),
  ),
);
