/**
 * Every Config and HostConfig field of openapi.yaml has a visible effect, is refused, or is named in a warning: none is
 * dropped silently.
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
  // What CgroupParent named is nobody's to remove but whoever named it.
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
    // A kernel that lacks it: then it must have been said.
    const told = warns?.test(Warnings.join('\n')) ?? false;
    if (warns && !sees) expect(Warnings.join('\n')).toMatch(warns);
    if (acts) await acts(engine, Id);
    if ((sees && !told) || inspect) {
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
    if (sees && !told) {
      await engine.api('POST', `/containers/${Id}/wait`);
      expect((await engine.docker('logs', Id).result).stdout.replaceAll('\r', '')).toMatch(sees);
    }
  } finally {
    await engine.api('DELETE', `/containers/${Id}?force=1&v=1`);
  }
}

const NO_FIELDS_OF_THEIR_OWN = new Set(['HostConfig', 'NetworkingConfig']);

describe.each([
  ['ContainerConfig', configFields],
  ['HostConfig', hostFields],
] as const)('%s', (schema, cases) => {
  test('the contract has these fields and no others', () => {
    const named = propertiesOf(document.components.schemas[schema]!).filter(
      (field) => !NO_FIELDS_OF_THEIR_OWN.has(field),
    );
    expect(named.length).toBeGreaterThan(20);
    expect(Object.keys(cases).sort()).toEqual(named.sort());
  });

  test('every case shows something', () => {
    for (const [field, { sees, refused, warns, inspect, acts }] of Object.entries(cases))
      expect([field, sees ?? refused ?? warns ?? inspect ?? acts]).not.toContain(undefined);
  });

  test.each(Object.keys(cases))('%s', (field) => check(cases[field]!));

  // What "sees" is no effect unless it is absent without the field.
  test.each(
    Object.entries(cases)
      .filter(([, { probe, sees }]) => probe && sees)
      .map(([field]) => field),
  )('%s: not so without it', async (field) => {
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
