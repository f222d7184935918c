/** The state of a container while the disk refuses its row: told as the journal has it, and stored later. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { JournalFollower } from '../../src/engine/containers/handle/journal-follower.ts';
import { Paths } from '../../src/engine/paths.ts';
import type { Container } from '../../src/model/container.ts';
import { encodeRecord } from '../../src/protocol/journal-format.ts';
import type { RecordBody } from '../../src/protocol/records.ts';
import { initialRunState, type RunState } from '../../src/protocol/runstate.ts';

const life: RecordBody[] = [
  { type: 'adopted', shimPid: 5, bundle: 'b' },
  { type: 'creating', operation: 'a' },
  { type: 'created', pid: 9, startTime: '1' },
  { type: 'started', pid: 9, startTime: '1', operation: 'a' },
  { type: 'exited', code: 3, signal: 0, oomKilled: false },
  { type: 'final', user: false },
];

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'follower-'));
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(root, { recursive: true });
});

test('a refused row: state and waiters follow the journal, cursor and `final` wait for the disk', async () => {
  const paths = new Paths(root, root);
  const container = {
    id: 'c',
    name: 'c',
    config: { Image: 'busybox', Labels: {} },
    state: initialRunState(),
    cursor: 0,
  } as unknown as Container;
  const stored: { state: RunState; cursor: number }[] = [];
  let isFull = true;
  const events: string[] = [];
  const deps = {
    paths,
    log: { warn: () => undefined },
    execs: { apply: () => undefined, commandOf: () => undefined },
    events: { record: (...all: { action: string }[]) => events.push(...all.map(({ action }) => action)) },
    rows: {
      relaxed: (work: () => void) => {
        if (isFull) throw new Error('database or disk is full');
        work();
      },
      setState: (_: string, state: RunState, cursor: number) => stored.push({ state, cursor }),
    },
  } as unknown as ConstructorParameters<typeof JournalFollower>[1];
  const onFinal = vi.fn();
  const follower = new JournalFollower(container, deps, onFinal);
  const path = join(paths.container('c'), 'journal');
  mkdirSync(dirname(path), { recursive: true });
  const write = (count: number): void => {
    const records = life.slice(0, count).map((body, i) => {
      const gen = i === 0 ? 0 : 1;
      return encodeRecord({ seq: i + 1, gen, boot: 'b', wall: '1', mono: '1', ...body });
    });
    writeFileSync(path, Buffer.concat(records));
  };

  const ended = follower.until(({ final }) => final);
  write(4);
  follower.readFile();
  expect([container.state.status, container.cursor]).toEqual(['running', 0]);
  write(6);
  follower.readFile();
  await ended;
  expect([container.state.status, container.state.exitCode, container.cursor]).toEqual(['exited', 3, 0]);
  expect(() => follower.store()).toThrow('cannot be stored');
  expect([stored, onFinal.mock.calls.length]).toEqual([[], 0]);

  isFull = false;
  vi.advanceTimersByTime(1_000);
  expect([container.state.status, container.cursor]).toEqual(['exited', 6]);
  expect(stored).toMatchObject([{ state: { status: 'exited', exitCode: 3, final: true }, cursor: 6 }]);
  expect(events).toEqual(['start', 'die']);
  expect(onFinal).toHaveBeenCalledOnce();
  expect(() => follower.store()).not.toThrow();
  follower.close();
});
