/** A pull from a shim that ends during it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { JournalFollower } from '../../src/engine/containers/handle/journal-follower.ts';
import { Paths } from '../../src/engine/paths.ts';
import { ShimUnresponsive, type ShimLink } from '../../src/engine/shims/link.ts';
import type { Container } from '../../src/model/container.ts';
import { Unavailable } from '../../src/model/errors.ts';
import { encodeRecord } from '../../src/protocol/journal-format.ts';
import type { Hello } from '../../src/protocol/messages.ts';
import type { RecordBody } from '../../src/protocol/records.ts';
import { initialRunState } from '../../src/protocol/runstate.ts';

const life: RecordBody[] = [
  { type: 'creating', operation: 'a' },
  { type: 'started', pid: 9, startTime: '1', operation: 'a' },
  { type: 'exited', code: 3, signal: 0, oomKilled: false },
  { type: 'final', user: false },
];

let root: string;
beforeEach(() => void (root = mkdtempSync(join(tmpdir(), 'pull-'))));
afterEach(() => rmSync(root, { recursive: true }));

/** A follower of a journal with a whole life, and a link to its shim, which ends with `error` when it is asked. */
function following(error: Error): { container: Container; follower: JournalFollower } {
  const paths = new Paths(root, root);
  const config = { Image: 'busybox', Labels: {} };
  const container = { id: 'c', name: 'c', config, state: initialRunState(), cursor: 0 } as unknown as Container;
  const path = join(paths.container('c'), 'journal');
  mkdirSync(dirname(path), { recursive: true });
  const lines = life.map((body, i) => encodeRecord({ seq: i + 1, gen: 1, boot: 'b', wall: '1', mono: '1', ...body }));
  writeFileSync(path, Buffer.concat(lines));
  const deps = {
    paths,
    log: { warn: () => undefined },
    execs: { apply: () => undefined, commandOf: () => undefined },
    events: { record: () => undefined },
    rows: { relaxed: (work: () => void) => work(), setState: () => undefined },
  } as unknown as ConstructorParameters<typeof JournalFollower>[1];
  const follower = new JournalFollower(container, deps, () => undefined);
  const link = {
    closed: false,
    request() {
      this.closed = true;
      return Promise.reject(error);
    },
  };
  follower.follow(link as unknown as ShimLink, { seq: 4 } as unknown as Hello);
  return { container, follower };
}

test('a shim that ends before it answers has written all to its journal [pull-from-ending-shim]', async () => {
  const { container, follower } = following(new Unavailable('the shim ended the connection'));
  await follower.pull();
  expect(container).toMatchObject({ cursor: 4, state: { exitCode: 3, final: true } });
  follower.close();
});

test('a shim that does not answer fails the pull [pull-from-frozen-shim]', async () => {
  const { container, follower } = following(new ShimUnresponsive('the shim does not answer'));
  await expect(follower.pull()).rejects.toThrow('does not answer');
  expect(container.cursor).toBe(0);
  follower.close();
});
