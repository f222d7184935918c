/**
 * Decodes request bodies by the schemas of openapi.yaml with the rules of Go's encoding/json: keys in any case, null
 * leaves a field unset, unknown keys are ignored, a wrong type is rejected with Go's message, which clients know.
 */
import { InvalidParameter } from '../model/errors.ts';
import { parseExactJson } from '../protocol/exact-json.ts';
import { syntaxError } from './go-json-syntax.ts';

/** The subset of JSON Schema that openapi.yaml uses. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  allOf?: Schema[];
  anyOf?: Schema[];
  minItems?: number;
  default?: unknown;
  'x-go-type'?: string;
  'x-called'?: string;
  /** An integer that no double holds is decoded as a bigint, not rounded. */
  'x-exact'?: boolean;
}

/** The position in the body in Go's terms: the innermost struct, and the path of fields to here. */
interface Place {
  struct: string;
  path: string[];
}

/** A schema with its $ref resolved. */
interface Resolved {
  schema: Schema;
  /** The type's name in Go, for error messages. */
  goType: string;
}

interface Field {
  name: string;
  schema: Schema;
}

const JSON_PREFIX = 'invalid JSON: ';
const INT64: [bigint, bigint] = [-(2n ** 63n), 2n ** 63n - 1n];
const UINT64: [number, bigint] = [0, 2n ** 64n - 1n];
/** Inclusive bounds per format. */
const LIMITS: Record<string, [number | bigint, number | bigint]> = {
  int: INT64,
  int64: INT64,
  uint: UINT64,
  uint64: UINT64,
  uint32: [0, 2 ** 32 - 1],
  uint16: [0, 2 ** 16 - 1],
};

export class GoJson {
  readonly #schemas: Record<string, Schema>;
  readonly #fields = new WeakMap<Schema, Map<string, Field>>();

  constructor(schemas: Record<string, Schema>) {
    this.#schemas = schemas;
  }

  /** @throws InvalidParameter with Go's message, wrapped as dockerd does */
  decode(text: string, schema: Schema): unknown {
    const value = parse(text);
    return this.#read(value ?? {}, schema, { struct: '', path: [] });
  }

  #read(value: unknown, schema: Schema, place: Place): unknown {
    const resolved = this.#resolve(schema);
    const types = typesOf(resolved.schema);
    if (types.includes('object')) {
      if (value === null || typeof value !== 'object' || Array.isArray(value)) reject(value, resolved.goType, place);
      return this.#readObject(value as Record<string, unknown>, resolved, place);
    }
    if (types.includes('array')) {
      if (Array.isArray(value)) return this.#readArray(value, resolved, place);
      // strslice.StrSlice: a string is a list of one.
      if (types.includes('string')) return typeof value === 'string' ? [value] : reject(value, 'string', place);
      return reject(value, resolved.goType, place);
    }
    if (types.includes('string')) return typeof value === 'string' ? value : reject(value, resolved.goType, place);
    if (types.includes('boolean')) return typeof value === 'boolean' ? value : reject(value, resolved.goType, place);
    if (types.includes('integer')) return readInteger(value, resolved, place);
    return value;
  }

  #readObject(value: Record<string, unknown>, resolved: Resolved, place: Place): unknown {
    const { additionalProperties } = resolved.schema;
    if (typeof additionalProperties === 'object') {
      // fromEntries, unlike assignment, treats a key `__proto__` like any other.
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [
          key,
          item === null ? this.#zero(additionalProperties) : this.#read(item, additionalProperties, place),
        ]),
      );
    }
    const fields = this.#fieldsOf(resolved.schema);
    const struct = resolved.goType.replace(/^.*\./, '');
    const read: Record<string, unknown> = {};
    for (const [key, item] of Object.entries(value)) {
      const field = fields.get(key.toLowerCase());
      if (!field || item === null) continue;
      read[field.name] = this.#read(item, field.schema, { struct, path: [...place.path, field.name] });
    }
    return read;
  }

  #readArray(value: unknown[], resolved: Resolved, place: Place): unknown[] {
    const { items = {}, minItems } = resolved.schema;
    const read = value.map((item) => (item === null ? this.#zero(items) : this.#read(item, items, place)));
    // minItems stands for a Go array of fixed length: extra items are dropped, missing ones are zero.
    return minItems === undefined ? read : Array.from({ length: minItems }, (_, i) => read[i] ?? this.#zero(items));
  }

  /** The value of a null item in a list or a map, where it cannot be left out. */
  #zero(schema: Schema): unknown {
    if (schema.anyOf || typesOf(schema).includes('null')) return null;
    const [type] = typesOf(this.#resolve(schema).schema);
    return { string: '', integer: 0, boolean: false, object: {} }[type ?? ''] ?? null;
  }

  #resolve(schema: Schema): Resolved {
    const named = schema.anyOf?.find((s) => s.$ref) ?? schema;
    if (!named.$ref) return { schema, goType: goTypeOf(schema) };
    const name = named.$ref.replace(/^.*\//, '');
    const found = this.#schemas[name];
    if (!found) throw new Error(`openapi.yaml has no schema ${name}`);
    return { schema: found, goType: found['x-go-type'] ?? `container.${name}` };
  }

  /** The fields of a struct and of its embedded structs, by lower-case name. */
  #fieldsOf(schema: Schema): Map<string, Field> {
    const cached = this.#fields.get(schema);
    if (cached) return cached;
    const fields = new Map<string, Field>();
    for (const part of schema.allOf ?? [])
      for (const [key, field] of this.#fieldsOf(this.#resolve(part).schema)) fields.set(key, field);
    for (const [name, property] of Object.entries(schema.properties ?? {}))
      fields.set(name.toLowerCase(), { name, schema: property });
    this.#fields.set(schema, fields);
    return fields;
  }
}

function parse(text: string): unknown {
  try {
    return parseExactJson(text);
  } catch {
    throw new InvalidParameter(syntaxError(text, JSON_PREFIX));
  }
}

const typesOf = (schema: Schema): string[] => (schema.allOf ? ['object'] : [schema.type ?? []].flat());

function goTypeOf(schema: Schema): string {
  if (schema['x-go-type']) return schema['x-go-type'];
  const [type] = typesOf(schema);
  switch (type) {
    case 'boolean':
      return 'bool';
    case 'integer':
      return schema.format ?? 'int64';
    case 'array':
      return `[]${goTypeOf(schema.items ?? {})}`;
    case 'object':
      return typeof schema.additionalProperties === 'object'
        ? `map[string]${goTypeOf(schema.additionalProperties)}`
        : 'struct {}';
    default:
      return type ?? 'interface {}';
  }
}

function readInteger(value: unknown, { schema, goType }: Resolved, place: Place): number | bigint {
  if (typeof value !== 'number' && typeof value !== 'bigint') return reject(value, goType, place);
  const [least, most] = LIMITS[schema.format ?? 'int64'] ?? INT64;
  const isInteger = typeof value === 'bigint' || Number.isInteger(value);
  if (!isInteger || value < least || value > most) return reject(value, goType, place, `number ${value}`);
  if (typeof value === 'number' || schema['x-exact']) return value;
  // The largest integers round up to 2^63 (or 2^64), which no longer fits into 64 bits.
  const rounded = Number(value);
  return rounded > most ? rounded - rounded / 2 ** 53 : rounded;
}

function reject(value: unknown, goType: string, { struct, path }: Place, what = kindOf(value)): never {
  const where = path.length > 0 ? `Go struct field ${struct}.${path.join('.')}` : 'Go value';
  throw new InvalidParameter(`${JSON_PREFIX}json: cannot unmarshal ${what} into ${where} of type ${goType}`);
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'boolean') return 'bool';
  return typeof value === 'bigint' ? 'number' : typeof value;
}
