/**
 * The daemon is killed at each fault point of a pull: what the pull stored is removed or reused, and the next pull
 * requests only the rest.
 */
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';
import { FaultyRegistry } from '../support/faulty-registry.ts';
import { archive } from '../support/tar.ts';

const noise = (bytes: number): string =>
  Array.from({ length: bytes }, () => String.fromCharCode(33 + Math.floor(Math.random() * 90))).join('');
const TARS = [archive(['low', noise(2_500_000)]), archive(['high', 'h'])];
/** In the order in which a pull passes them. */
const POINTS = [
  'pull.manifest',
  'pull.config',
  'download.file',
  'download.chunk',
  'download.chunk#3',
  'download.complete',
  'layer.intent',
  'layer.directory',
  'layer.unpacked',
  'layer.ready',
  'pull.layer',
  'layer.intent#2',
  'pull.layer#2',
  'pull.unpacked',
];
const AFTER = 'pull.adopted';

let engine: TestEngine;
let registry: FaultyRegistry;
/** The armed fault point of the running daemon: each daemon recovers from one test and is killed by the next. */
let fault = '';

beforeAll(async () => void (engine = await startEngine()));
afterAll(() => engine[Symbol.asyncDispose]());
beforeEach(async () => void (registry = await FaultyRegistry.start()));
afterEach(() => registry[Symbol.asyncDispose]());

interface Contents {
  images: string[];
  layers: string[];
  usage: number;
}
const data = (name: string): string => join(engine.root, 'data', 'images', name);
const contents = async (): Promise<Contents> => ({
  images: ((await engine.api('GET', '/images/json?all=1')).json as { Id: string }[]).map(({ Id }) => Id).sort(),
  layers: readdirSync(data('layers')).sort(),
  usage: ((await engine.api('GET', '/system/df')).json as { LayersSize: number }).LayersSize,
});
const downloads = (): string[] => (existsSync(data('downloads')) ? readdirSync(data('downloads')) : []);
const armed = (): string => join(engine.root, 'armed');
async function startWith(point: string): Promise<void> {
  await engine.startAgain({ HOLDFAST_FAULT: point, HOLDFAST_FAULT_ARMED: armed() });
  fault = point;
}
const pull = (): Promise<{ text: string }> => engine.api('POST', `/images/create?fromImage=${registry.host}/app&tag=1`);

test.each([...POINTS, AFTER].map((point, i, all) => [point, all[i + 1] ?? '']))(
  'a pull killed at %s leaves no rows, and the next pull requests only missing bytes [pull-killed]',
  async (point, next) => {
    const made = registry.image('app', '1', TARS, { compress: (tar) => tar });
    if (fault !== point) {
      await engine.stop();
      await startWith(point);
    }
    const before = await contents();
    writeFileSync(armed(), '');
    await pull().catch(() => undefined);
    await until(engine.isDead);
    rmSync(armed());

    await startWith(next);
    if (point === AFTER) {
      await until(() => downloads().length === 0);
      expect((await contents()).images).toHaveLength(before.images.length + 1);
    } else {
      // The sweep runs after the daemon has started to serve.
      await until(async () => JSON.stringify(await contents()) === JSON.stringify(before));
    }
    const downloaded = new Map(downloads().map((name) => [name, statSync(join(data('downloads'), name)).size]));
    registry.seen.length = 0;
    const { text } = await pull();
    expect(text).toContain(`Digest: ${made.digest}`);
    for (const digest of made.layers) {
      const size = downloaded.get(digest.slice(7)) ?? 0;
      const isHere = point === AFTER || size === registry.blobs.get(digest)!.length;
      const ranges = registry.seen
        .filter(({ method, url }) => method === 'GET' && url.endsWith(`/blobs/${digest}`))
        .map(({ range }) => range);
      expect(ranges).toEqual(isHere ? [] : [size > 0 ? `bytes=${size}-` : undefined]);
    }
    if (point === 'download.chunk#3') expect(registry.seen.some(({ range }) => range !== undefined)).toBe(true);
    expect(downloads()).toEqual([]);
    expect((await engine.api('DELETE', `/images/${registry.host}/app:1?force=1`)).status).toBe(200);
    expect(await contents()).toEqual(before);
  },
  120_000,
);
