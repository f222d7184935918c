/** The contract: openapi.yaml's operations, with what each needs to read a request. */
import document from '../../openapi.yaml';
import { GoJson, type Schema } from './go-json.ts';
import type { Parameter } from './query.ts';
import { MIN_API_VERSION } from '../version.ts';

export interface Operation {
  id: string;
  method: string;
  /** As Fastify writes it: /containers/:id/json. */
  url: string;
  /** As the contract writes it. */
  path: string;
  /** The oldest API version that has it. */
  since: string;
  query: Parameter[];
  /** Schema of a JSON body; undefined where none is read. */
  body: Schema | undefined;
  /** An empty body is refused. */
  needsBody: boolean;
}

interface Described {
  operationId: string;
  parameters?: (Parameter & { in: string; $ref?: string })[];
  'x-since'?: string;
  requestBody?: { required?: boolean; content?: Record<string, { schema?: Schema }> };
}

const { paths, components } = document as {
  paths: Record<string, Record<string, Described>>;
  components: { schemas: Record<string, Schema>; parameters?: Record<string, Parameter & { in: string }> };
};
const METHODS = new Set(['get', 'head', 'post', 'put', 'delete']);

/** Reads JSON bodies by the contract's schemas. */
export const bodies = new GoJson(components.schemas);

export const operations: Operation[] = Object.entries(paths).flatMap(([path, methods]) => {
  const shared = ((methods as Record<string, unknown>).parameters ?? []) as NonNullable<Described['parameters']>;
  return Object.entries(methods)
    .filter(([method]) => METHODS.has(method))
    .map(([method, described]) => ({
      id: described.operationId,
      method: method.toUpperCase(),
      path,
      since: described['x-since'] ?? MIN_API_VERSION,
      url: path.replace(/\{(\w+)\}/g, ':$1'),
      query: [...shared, ...(described.parameters ?? [])]
        .map((p) => (p.$ref ? components.parameters![p.$ref.split('/').at(-1)!]! : p))
        .filter((p) => p.in === 'query'),
      body: described.requestBody?.content?.['application/json']?.schema,
      needsBody: described.requestBody?.required === true,
    }));
});
