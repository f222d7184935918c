/** Set-up of the tests of images: the jailed programs bundled once a file, an images part of its own for each test. */
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { place, type Place } from './image-fixture.ts';
import { bundles, type Bundles } from './bundles.ts';

/** `use` gets what the next test has; it is taken away after it. */
export function eachInItsPlace(use: (at: Place, built: Bundles) => void): void {
  let built: Bundles;
  let at: Place;
  beforeAll(async () => void (built = await bundles()));
  afterAll(() => built[Symbol.dispose]());
  beforeEach(() => use((at = place(built)), built));
  afterEach(() => at[Symbol.dispose]());
}
