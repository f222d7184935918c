/**
 * Holds answers against the contract: an answer that has a field too many, too few or of another type is a mistake
 * here.
 * Tests have the daemon do it (HOLDFAST_CHECK_ANSWERS), and do it themselves for what shims answer.
 */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import document from '../../openapi.yaml';
import type { Schema } from './go-json.ts';

/** What the log and the errors say. */
export const MISFIT = 'an answer does not fit openapi.yaml';

interface Described {
  operationId: string;
  responses: Record<string, { $ref?: string; content?: Record<string, { schema?: Schema }> }>;
}

const { paths, components } = document as unknown as {
  paths: Record<string, Record<string, Described>>;
  components: { schemas: Record<string, Schema>; responses: Described['responses'] };
};
const METHODS = ['get', 'head', 'post', 'put', 'delete'];

const described = Object.entries(paths)
  .flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => METHODS.includes(method))
      .map(([method, operation]) => ({
        ...operation,
        method: method.toUpperCase(),
        path,
        parameters: path.split('{').length - 1,
        pattern: new RegExp(`^(?:/v[0-9.]+)?${path.replace(/\{\w+\}/g, '(.+)')}$`),
      })),
  )
  .sort((a, b) => a.parameters - b.parameters);
const byId = new Map(described.map((operation) => [operation.operationId, operation]));

const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
const validators = new Map<string, ValidateFunction | undefined>();

/** The operation that such a request is; a path's query is ignored. */
export const operationOf = (method: string, path: string): string | undefined =>
  described.find((operation) => operation.method === method && operation.pattern.test(path.replace(/\?.*$/, '')))
    ?.operationId;

/**
 * What is wrong with an answer: its JSON, undefined when it has none. Undefined when it fits. `type`: of what it has
 * else, '' of nothing.
 */
export function misfit(operation: string, status: number, answer: unknown, type = ''): string | undefined {
  if (answer === undefined && contentOf(operation, status)?.[type]) return undefined;
  const key = `${operation} ${status}`;
  if (!validators.has(key)) {
    const schema = schemaOf(operation, status);
    validators.set(key, schema && ajv.compile(closed(schema)));
  }
  const validate = validators.get(key);
  if (answer === undefined) return validate && `${key}: it has no JSON, and should`;
  if (!validate) return `${key}: the contract has no JSON there`;
  if (validate(answer)) return undefined;
  return `${key}: ${(validate.errors ?? []).map((e) => `${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`).join('; ')}`;
}

const schemaOf = (operation: string, status: number): Schema | undefined =>
  contentOf(operation, status)?.['application/json']?.schema;

function contentOf(operation: string, status: number): Described['responses'][string]['content'] {
  const { responses } = byId.get(operation)!;
  const response = responses[String(status)] ?? responses.default;
  return (response?.$ref ? components.responses[nameOf(response.$ref)] : response)?.content;
}

const nameOf = ($ref: string): string => $ref.replace(/^.*\//, '');

/** The schema with its references followed, its parts joined, and no property allowed that it does not name. */
function closed(schema: Schema): Schema {
  if (schema.$ref) return closed(components.schemas[nameOf(schema.$ref)]!);
  const joined: Schema = { ...schema };
  for (const part of schema.allOf ?? []) {
    const { properties, required } = closed(part) as Schema & { required?: string[] };
    joined.type = 'object';
    joined.properties = { ...properties, ...joined.properties };
    Object.assign(joined, { required: [...(required ?? []), ...((joined as { required?: string[] }).required ?? [])] });
  }
  delete joined.allOf;
  if (joined.properties) {
    joined.properties = Object.fromEntries(
      Object.entries(joined.properties).map(([name, property]) => [name, closed(property)]),
    );
    joined.additionalProperties ??= false;
  }
  if (typeof joined.additionalProperties === 'object')
    joined.additionalProperties = closed(joined.additionalProperties);
  if (joined.items) joined.items = closed(joined.items);
  if (joined.anyOf) joined.anyOf = joined.anyOf.map(closed);
  return joined;
}
