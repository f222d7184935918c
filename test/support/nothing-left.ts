/** After a test file its engines have left nothing on the host; with HOLDFAST_ALONE=1, nobody has. Issue 3 §4. */
import { afterAll, beforeAll } from 'vitest';
import { owners, remains, snapshot } from './host-snapshot.ts';

/** What ends by itself (a proxy with nothing to forward, a shim whose container is gone) has ended by then. */
const PATIENCE_MS = 8_000;
const POLL_MS = 100;

const alone = process.env.HOLDFAST_ALONE === '1';
const now = (): string[] => snapshot(alone ? 'machine' : owners);
let before: string[] = [];

beforeAll(() => {
  before = now();
});

// The first of the setup's hooks, so the last to run: the file's own have disposed of everything.
afterAll(async () => {
  for (const deadline = Date.now() + PATIENCE_MS; ; await new Promise((resolve) => setTimeout(resolve, POLL_MS))) {
    const left = remains(before, now());
    if (left.length === 0) return;
    if (Date.now() > deadline) throw new Error(`${left.length} things remained of this file:\n${left.join('\n')}`);
  }
});
