/**
 * Unpacks and loads generated archives: nothing outside the layer is touched, nothing hangs, and a failure leaves
 * nothing. For longer: HOLDFAST_FUZZ_SECONDS=600 HOLDFAST_FUZZ_SEED=7 ./scripts/test test/parts/fuzz-archives.test.ts
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EngineError } from '../../src/model/errors.ts';
import { damaged, hostileArchive } from '../support/fuzz-archives.ts';
import { config, image, load } from '../support/image-archives.ts';
import { useImageFixture, type ImageFixture } from '../support/image-fixture.ts';

const SECONDS = Number(process.env.HOLDFAST_FUZZ_SECONDS ?? 5);
const SEED = Number(process.env.HOLDFAST_FUZZ_SEED ?? 20_261_129);
/** In CI a fixed number, so that a faster machine does not go where none has been. */
const MAX_RUNS = process.env.HOLDFAST_FUZZ_SECONDS === undefined ? 4_000 : 1_000_000;
const options = { seed: SEED, numRuns: MAX_RUNS, plugins: [fc.interruptAfterTimeLimit(SECONDS * 1000)] };
const LIMIT_MS = SECONDS * 1000 + 120_000;

let at: ImageFixture;
useImageFixture((own) => (at = own));

/** A file beside the image store; layers are unpacked four directories below it. */
function placeCanary(): { directory: string; check: () => void } {
  const directory = join(at.root, 'outside');
  mkdirSync(directory, { recursive: true });
  const canary = join(directory, 'canary');
  writeFileSync(canary, 'alive', { mode: 0o600 });
  const { mode, ino, nlink } = lstatSync(canary);
  const beside = readdirSync(at.root).sort();
  return {
    directory,
    check() {
      expect(readdirSync(directory)).toEqual(['canary']);
      expect(readFileSync(canary, 'utf8')).toBe('alive');
      expect(lstatSync(canary)).toMatchObject({ mode, ino, nlink });
      expect(readdirSync(at.root).sort()).toEqual(beside);
    },
  };
}

const leftovers = (): string[] =>
  ['layers', 'tmp'].flatMap((name) => {
    const directory = join(at.paths.images(), name);
    return existsSync(directory) ? readdirSync(directory) : [];
  });

test(
  'an archive is unpacked below its layer, or refused and leaves nothing [fuzz-unpack]',
  async () => {
    const canary = placeCanary();
    const up = '../'.repeat(8);
    const outside = [canary.directory, join(canary.directory, 'canary'), `${up}${canary.directory}/canary`];
    let [refused, unpacked] = [0, 0];
    await fc.assert(
      fc.asyncProperty(hostileArchive(outside), async (bytes) => {
        const before = leftovers();
        try {
          await at.unpack(bytes);
          unpacked++;
        } catch (error) {
          expect(error, String(error)).toBeInstanceOf(EngineError);
          expect(leftovers()).toEqual(before);
          refused++;
        }
        canary.check();
      }),
      options,
    );
    expect(unpacked).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
  },
  LIMIT_MS,
);

test(
  'a damaged image archive is loaded or refused, and leaves nothing [fuzz-load]',
  async () => {
    const canary = placeCanary();
    const odd = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constantFrom('../../outside/canary', '', 7, null, ['x'], {}),
    );
    const manifest = fc.oneof(
      fc.constant(undefined),
      odd,
      fc.tuple(odd, odd, odd).map(([Config, RepoTags, Layers]) => [{ Config, RepoTags, Layers }]),
      odd.map((Layers) => [{ Config: 'c.json', RepoTags: ['loaded:1'], Layers }]),
      odd.map((RepoTags) => [{ Config: 'c.json', RepoTags, Layers: ['l.tar'] }]),
    );
    const changes = fc.oneof(
      fc.constant({}),
      fc.dictionary(fc.constantFrom('config', 'rootfs', 'history', 'os', 'architecture', 'created', 'author'), odd),
      fc.record({
        config: fc.dictionary(fc.constantFrom('Env', 'Cmd', 'Volumes', 'User', 'WorkingDir', 'Labels'), odd),
      }),
    );
    const whole = fc.tuple(changes, manifest).map(([change, given]) => image(config(change), given));
    await fc.assert(
      fc.asyncProperty(fc.oneof({ weight: 2, arbitrary: whole }, damaged(whole)), async (bytes) => {
        try {
          await load(at, bytes);
        } catch (error) {
          expect(error, String((error as Error).stack)).toBeInstanceOf(EngineError);
          expect(readdirSync(join(at.paths.images(), 'tmp'))).toEqual([]);
        }
        canary.check();
      }),
      options,
    );
  },
  LIMIT_MS,
);
