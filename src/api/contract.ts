/** The operations of openapi.yaml, each with what is needed to route and decode its requests. */
import document from '../../openapi.yaml';
import { GoJson, type Schema } from './go-json.ts';
import type { Parameter } from './query.ts';
import { MIN_API_VERSION } from '../version.ts';

export interface Operation {
  id: string;
  method: string;
  /** The path in Fastify's syntax: /containers/:id/json. */
  url: string;
  /** The path as in openapi.yaml: /containers/{id}/json. */
  path: string;
  /** The oldest API version that has the operation. */
  since: string;
  query: Parameter[];
  /** Schema of the JSON body; undefined when the operation takes none. */
  body: Schema | undefined;
  /** An empty body is rejected. */
  needsBody: boolean;
}

interface ParameterObject extends Parameter {
  in: string;
  $ref?: string;
}

interface OperationObject {
  operationId: string;
  parameters?: ParameterObject[];
  'x-since'?: string;
  requestBody?: { required?: boolean; content?: Record<string, { schema?: Schema }> };
}

/** The methods of one path; `parameters` are those that all of them share. */
type PathItem = Record<string, OperationObject> & { parameters?: ParameterObject[] };

const { paths, components } = document as {
  paths: Record<string, PathItem>;
  components: { schemas: Record<string, Schema>; parameters: Record<string, ParameterObject> };
};
const METHODS = new Set(['get', 'head', 'post', 'put', 'delete']);

/** Decodes JSON bodies by the schemas of openapi.yaml. */
export const bodies = new GoJson(components.schemas);

export const operations: Operation[] = Object.entries(paths).flatMap(
  ([path, { parameters: shared = [], ...methods }]) =>
    Object.entries(methods)
      .filter(([method]) => METHODS.has(method))
      .map(([method, { operationId, parameters = [], requestBody, ...operation }]) => ({
        id: operationId,
        method: method.toUpperCase(),
        path,
        since: operation['x-since'] ?? MIN_API_VERSION,
        url: path.replace(/\{(\w+)\}/g, ':$1'),
        query: [...shared, ...parameters].map(resolved).filter((parameter) => parameter.in === 'query'),
        body: requestBody?.content?.['application/json']?.schema,
        needsBody: requestBody?.required === true,
      })),
);

function resolved(parameter: ParameterObject): ParameterObject {
  const name = parameter.$ref?.split('/').at(-1);
  return name === undefined ? parameter : components.parameters[name]!;
}
