/**
 * Every Config and HostConfig field of openapi.yaml has a visible effect, is refused, or is named in a warning; none
 * is dropped silently. The effects are looked for inside real containers (cases in fields.ts).
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import YAML from 'yaml';
import { removeCgroup } from '../support/cgroups.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { configFields, hostFields, type FieldCase } from './fields.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  // Docker leaves the CgroupParent of a container to its creator.
  removeCgroup('/holdfast-fields');
});

interface Schema {
  properties?: Record<string, unknown>;
  allOf?: Schema[];
  $ref?: string;
}
const document = YAML.parse(readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8')) as {
  components: { schemas: Record<string, Schema> };
};

function propertiesOf(schema: Schema): string[] {
  if (schema.$ref) return propertiesOf(document.components.schemas[schema.$ref.split('/').at(-1)!]!);
  return [...Object.keys(schema.properties ?? {}), ...(schema.allOf ?? []).flatMap(propertiesOf)];
}

interface Created {
  Id: string;
  Warnings: string[];
}

const create = (body: Record<string, unknown>) =>
  engine.api('POST', '/containers/create', { Image: 'busybox', Cmd: ['true'], ...body });

async function check({ body, probe, sees, refused, warns, inspect, acts }: FieldCase): Promise<void> {
  const created = await create({ ...(probe ? { Cmd: ['sh', '-c', probe] } : {}), ...body });
  if (refused) {
    expect({ status: created.status, message: (created.json as { message?: string }).message }).toEqual({
      status: refused.status,
      message: expect.stringMatching(refused.message) as string,
    });
    return;
  }
  expect(created.status, created.text).toBe(201);
  const { Id, Warnings } = created.json as Created;
  try {
    // A kernel without the control discards the setting; then the warning must name it.
    const warned = warns?.test(Warnings.join('\n')) ?? false;
    if (warns && !sees) expect(Warnings.join('\n')).toMatch(warns);
    if (acts) await acts(engine, Id);
    if ((sees && !warned) || inspect) {
      const started = await engine.api('POST', `/containers/${Id}/start`);
      expect(started.status, started.text).toBe(204);
    }
    if (inspect) {
      const shown = (await engine.api('GET', `/containers/${Id}/json`)).json;
      expect(
        inspect[0]
          .split('.')
          .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], shown),
      ).toEqual(inspect[1]);
    }
    if (sees && !warned) {
      await engine.api('POST', `/containers/${Id}/wait`);
      expect((await engine.docker('logs', Id).result).stdout.replaceAll('\r', '')).toMatch(sees);
    }
  } finally {
    await engine.api('DELETE', `/containers/${Id}?force=1&v=1`);
  }
}

const NESTED_SCHEMAS = new Set(['HostConfig', 'NetworkingConfig']);

describe.each([
  ['ContainerConfig', configFields],
  ['HostConfig', hostFields],
] as const)('%s', (schema, cases) => {
  test('the contract has exactly the fields that have cases [contract-fields-covered]', () => {
    const named = propertiesOf(document.components.schemas[schema]!).filter((field) => !NESTED_SCHEMAS.has(field));
    expect(named.length).toBeGreaterThan(20);
    expect(Object.keys(cases).sort()).toEqual(named.sort());
  });

  test('every case checks something', () => {
    for (const [field, { sees, refused, warns, inspect, acts }] of Object.entries(cases))
      expect([field, sees ?? refused ?? warns ?? inspect ?? acts]).not.toContain(undefined);
  });

  test.each(Object.keys(cases))(
    '%s takes effect, is refused or is named in a warning [contract-fields-effective]',
    (field) => check(cases[field]!),
  );

  // Output proves an effect only if it is absent without the field.
  test.each(
    Object.entries(cases)
      .filter(([, { probe, sees }]) => probe && sees)
      .map(([field]) => field),
  )('without %s its effect is absent', async (field) => {
    const { body, probe, sees } = cases[field]!;
    const { HostConfig = {}, ...config } = body as { HostConfig?: Record<string, unknown> };
    const without = (record: Record<string, unknown>) =>
      Object.fromEntries(Object.entries(record).filter(([key]) => key !== field));
    const created = await create({ Cmd: ['sh', '-c', probe!], ...without(config), HostConfig: without(HostConfig) });
    expect(created.status, created.text).toBe(201);
    const { Id } = created.json as Created;
    try {
      await engine.api('POST', `/containers/${Id}/start`);
      await engine.api('POST', `/containers/${Id}/wait`);
      expect((await engine.docker('logs', Id).result).stdout.replaceAll('\r', '')).not.toMatch(sees!);
    } finally {
      await engine.api('DELETE', `/containers/${Id}?force=1&v=1`);
    }
  });
});
