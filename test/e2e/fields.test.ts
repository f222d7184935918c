/** Every Config and HostConfig field of openapi.yaml has a visible effect, is refused, or is named in a warning. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import YAML from 'yaml';
import { startEngine, type TestEngine } from './engine.ts';
import { configFields, hostFields, type FieldCase } from './fields.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

interface Schema { properties?: Record<string, unknown>; allOf?: Schema[]; $ref?: string }
const document = YAML.parse(readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8')) as { components: { schemas: Record<string, Schema> } };

function propertiesOf(schema: Schema): string[] {
  if (schema.$ref) return propertiesOf(document.components.schemas[schema.$ref.split('/').at(-1)!]!);
  return [...Object.keys(schema.properties ?? {}), ...(schema.allOf ?? []).flatMap(propertiesOf)];
}

async function check({ body, probe, sees, refused, warns, inspect }: FieldCase): Promise<void> {
  const created = await engine.api('POST', '/containers/create', { Image: 'busybox', Cmd: ['sh', '-c', probe ?? 'true'], ...body });
  if (refused) {
    expect(created.status).toBe(refused.status);
    expect((created.json as { message: string }).message).toMatch(refused.message);
    return;
  }
  expect(created.text).toMatch(/"Id"/);
  const { Id, Warnings } = created.json as { Id: string; Warnings: string[] };
  try {
    if (warns) expect(Warnings.join('\n')).toMatch(warns);
    if (sees || inspect) {
      const started = await engine.api('POST', `/containers/${Id}/start`);
      expect(started.status, started.text).toBe(204);
    }
    if (inspect) {
      const shown = (await engine.api('GET', `/containers/${Id}/json`)).json;
      expect(inspect[0].split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], shown)).toEqual(inspect[1]);
    }
    if (sees) {
      await engine.api('POST', `/containers/${Id}/wait`);
      expect((await engine.docker('logs', Id).result).stdout.replaceAll('\r', '')).toMatch(sees);
    }
  } finally {
    await engine.api('DELETE', `/containers/${Id}?force=1&v=1`);
  }
}

const TOP_LEVEL_ONLY = new Set(['HostConfig', 'NetworkingConfig']);

describe.each([['ContainerConfig', configFields], ['HostConfig', hostFields]] as const)('%s', (schema, cases) => {
  test('every field of the contract has a case', () => {
    const named = propertiesOf(document.components.schemas[schema]!).filter((field) => !TOP_LEVEL_ONLY.has(field));
    expect(named.length).toBeGreaterThan(20);
    expect(named.filter((field) => !(field in cases))).toEqual([]);
  });

  test.each(Object.keys(cases))('%s', (field) => check(cases[field]!));
});
