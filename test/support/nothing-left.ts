/**
 * Fails a test file whose engines leave something on the host. With HOLDFAST_ALONE=1, leftovers of any engine count.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll } from 'vitest';
import { owners, remains, snapshot } from './host-snapshot.ts';

/** Time for what ends by itself: a proxy with nothing to forward, a shim whose container is gone. */
const PATIENCE_MS = 8_000;
const POLL_MS = 100;

const alone = process.env.HOLDFAST_ALONE === '1';
const now = (): string[] => snapshot(alone ? 'machine' : owners);
let before: string[] = [];

beforeAll(() => {
  before = now();
});

// Registered first, so it runs last, after the file's own hooks have disposed of its engines.
afterAll(async () => {
  const deadline = Date.now() + PATIENCE_MS;
  let left = remains(before, now());
  while (left.length > 0 && Date.now() < deadline) {
    await sleep(POLL_MS);
    left = remains(before, now());
  }
  if (left.length > 0) throw new Error(`${left.length} things were left by this file:\n${left.join('\n')}`);
});
