import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundleShim, isGone, TestContainer, until, type ContainerOptions } from './shim-harness.ts';

const bundles = mkdtempSync(join(tmpdir(), 'hb-'));
let bundle: string;
beforeAll(async () => void (bundle = await bundleShim(bundles)), 60_000);
afterAll(() => rmSync(bundles, { recursive: true, force: true }));

const container = (script: string, more: Partial<ContainerOptions> = {}): TestContainer => new TestContainer(bundle, { command: ['sh', '-c', script], ...more });

describe('one run', { timeout: 30_000 }, () => {
  test('is journalled from its creation to its end, and the shim goes', async () => {
    await using c = container('echo hello; exit 7');
    const ctl = await c.adopt();
    const { gen } = await ctl.ask<'create'>({ op: 'create', operation: 'a' });
    const { pid } = await ctl.ask<'start'>({ op: 'start', operation: 'a' });
    expect(gen).toBe(1);
    await c.until('final');
    expect(c.types).toEqual(['adopted', 'creating', 'created', 'started', 'exited', 'final']);
    expect(c.find('exited')[0]).toMatchObject({ code: 7, signal: 0, oomKilled: false, gen: 1 });
    expect(c.find('started')[0]).toMatchObject({ pid, operation: 'a' });
    expect(c.log).toBe('hello\n');
    await c.shimEnds();
  });
});
