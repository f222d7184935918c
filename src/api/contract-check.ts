/**
 * Checks responses against openapi.yaml: a missing, an extra or a mistyped field is a bug of the daemon.
 * Under HOLDFAST_CHECK_ANSWERS the daemon checks its own responses; tests call it for responses that shims write.
 */
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import document from '../../openapi.yaml';
import type { Schema } from './go-json.ts';

/** Marks a violation in the log and in errors. */
export const CONTRACT_VIOLATION = 'a response violates openapi.yaml';

interface ObjectSchema extends Schema {
  required?: string[];
}

type Responses = Record<string, { $ref?: string; content?: Record<string, { schema?: Schema }> }>;

interface OperationObject {
  operationId: string;
  responses: Responses;
}

const { paths, components } = document as unknown as {
  paths: Record<string, Record<string, OperationObject>>;
  components: { schemas: Record<string, Schema>; responses: Responses };
};
const METHODS = ['get', 'head', 'post', 'put', 'delete'];

/** Paths with fewer parameters first: /images/json is not the image `json`. */
const operations = Object.entries(paths)
  .flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => METHODS.includes(method))
      .map(([method, operation]) => ({
        ...operation,
        method: method.toUpperCase(),
        parameters: path.split('{').length - 1,
        pattern: new RegExp(`^(?:/v[0-9.]+)?${path.replace(/\{\w+\}/g, '(.+)')}$`),
      })),
  )
  .sort((a, b) => a.parameters - b.parameters);
const byId = new Map(operations.map((operation) => [operation.operationId, operation]));

const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
const validators = new Map<string, ValidateFunction | undefined>();

/** The id of the operation that a request addresses; the path's query is ignored. */
export const operationOf = (method: string, path: string): string | undefined =>
  operations.find((operation) => operation.method === method && operation.pattern.test(path.replace(/\?.*$/, '')))
    ?.operationId;

/**
 * What is wrong with a response; undefined when it conforms.
 * @param json the parsed body, undefined when the response has no JSON
 * @param contentType of a response without JSON, '' when it has no body
 */
export function contractViolation(
  operation: string,
  status: number,
  json: unknown,
  contentType = '',
): string | undefined {
  if (json === undefined && contentOf(operation, status)?.[contentType]) return undefined;
  const key = `${operation} ${status}`;
  const validate = validatorOf(key, schemaOf(operation, status));
  if (json === undefined) return validate && `${key}: the JSON body is missing`;
  if (!validate) return `${key}: the contract has no JSON body here`;
  if (validate(json)) return undefined;
  return `${key}: ${(validate.errors ?? []).map(describeError).join('; ')}`;
}

const describeError = ({ instancePath, message, params }: ErrorObject): string =>
  `${instancePath} ${message} ${JSON.stringify(params)}`;

function validatorOf(key: string, schema: Schema | undefined): ValidateFunction | undefined {
  if (!validators.has(key)) validators.set(key, schema && ajv.compile(closed(schema)));
  return validators.get(key);
}

const schemaOf = (operation: string, status: number): Schema | undefined =>
  contentOf(operation, status)?.['application/json']?.schema;

function contentOf(operation: string, status: number): Responses[string]['content'] {
  const { responses } = byId.get(operation)!;
  const response = responses[String(status)] ?? responses.default;
  return (response?.$ref ? components.responses[nameOf(response.$ref)] : response)?.content;
}

const nameOf = ($ref: string): string => $ref.replace(/^.*\//, '');

/** The schema with $ref resolved and allOf merged, and with every property forbidden that it does not name. */
function closed(schema: Schema): Schema {
  if (schema.$ref) return closed(components.schemas[nameOf(schema.$ref)]!);
  const merged: ObjectSchema = { ...schema };
  for (const part of schema.allOf ?? []) {
    const { properties, required = [] }: ObjectSchema = closed(part);
    merged.type = 'object';
    merged.properties = { ...properties, ...merged.properties };
    merged.required = [...required, ...(merged.required ?? [])];
  }
  delete merged.allOf;
  if (merged.properties) {
    merged.properties = Object.fromEntries(
      Object.entries(merged.properties).map(([name, property]) => [name, closed(property)]),
    );
    merged.additionalProperties ??= false;
  }
  if (typeof merged.additionalProperties === 'object')
    merged.additionalProperties = closed(merged.additionalProperties);
  if (merged.items) merged.items = closed(merged.items);
  if (merged.anyOf) merged.anyOf = merged.anyOf.map(closed);
  return merged;
}
