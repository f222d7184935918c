import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 as zlibCrc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { crc32, parseJournal } from '../../src/protocol/journal-format.ts';
import type { JournalRecord, RecordBody } from '../../src/protocol/records.ts';
import { applyRecord, initialRunState, type RunState } from '../../src/protocol/runstate.ts';
import { bounded } from '../../src/shim/compaction.ts';
import { Journal } from '../../src/shim/journal.ts';
import { until } from '../support/until.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'hj-'));
  path = join(directory, 'journal');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const parsed = () => parseJournal(readFileSync(path));

describe('the journal format', () => {
  test('uses the common CRC-32', () => {
    for (const text of ['', 'a', '123456789', 'ä€𝄞'.repeat(100)])
      expect(crc32(Buffer.from(text))).toBe(zlibCrc32(text));
  });

  test('a journal cut at any byte yields its complete lines and no more', () => {
    const journal = new Journal(path, 'boot');
    for (let n = 0; n < 5; n++) journal.append({ type: 'failed', error: `größer ${n}`, code: n, operation: '' });
    journal.close();
    const whole = readFileSync(path);
    const ends = [...whole].flatMap((byte, i) => (byte === 10 ? [i + 1] : []));
    for (let length = 0; length <= whole.length; length++) {
      const cut = parseJournal(whole.subarray(0, length));
      const lines = ends.filter((end) => end <= length).length;
      expect([cut.records.length, cut.whole, cut.damaged]).toEqual([lines, lines === 0 ? 0 : ends[lines - 1], 0]);
    }
  });

  test('a flipped bit damages only its own line', () => {
    const journal = new Journal(path, 'boot');
    for (let n = 0; n < 3; n++) journal.append({ type: 'oom' });
    journal.close();
    const bytes = readFileSync(path);
    bytes[bytes.indexOf(10) + 20]! ^= 1;
    const { records, damaged } = parseJournal(bytes);
    expect([records.map((r) => r.seq), damaged]).toEqual([[1, 3], 1]);
  });
});

describe('the journal file', () => {
  test('continues where it ended, after cutting off a torn tail', () => {
    const first = new Journal(path, 'boot');
    first.append({ type: 'creating', operation: 'a' });
    first.append({ type: 'failed', error: 'x', code: 127, operation: 'a' });
    first.close();
    appendFileSync(path, '01234567 {"seq":3,"type":"fin');
    const second = new Journal(path, 'boot');
    expect(second.seq).toBe(2);
    expect(second.state).toMatchObject({ gen: 1, exitCode: 127, error: 'x' });
    second.append({ type: 'final', user: false });
    second.close();
    expect(parsed().records.map((r) => r.type)).toEqual(['creating', 'failed', 'final']);
    expect(parsed().damaged).toBe(0);
  });

  test('numbers generations on, and leaves a gap in the sequence after a reboot', () => {
    const first = new Journal(path, 'boot 1');
    first.append({ type: 'creating', operation: 'a' });
    expect(first.append({ type: 'failed', error: 'x', code: 1, operation: 'a' }).gen).toBe(1);
    first.close();
    const second = new Journal(path, 'boot 2');
    const record = second.append({ type: 'creating', operation: 'b' });
    expect(record.gen).toBe(2);
    expect(record.seq).toBeGreaterThan(100);
    second.close();
  });

  test('durable() resolves once the records are written', async () => {
    const journal = new Journal(path, 'boot');
    for (let n = 0; n < 20; n++) {
      journal.append({ type: 'final', user: false });
      await journal.durable();
    }
    expect(parsed().records).toHaveLength(20);
    journal.close();
  });

  test('since() answers alike from memory and from the file', () => {
    const journal = new Journal(path, 'boot');
    for (let n = 0; n < 1000; n++) journal.append({ type: 'resized', height: n, width: 1 });
    for (const [seq, limit] of [
      [0, 10],
      [499, 3],
      [995, 100],
      [1000, 5],
      [744, 2],
      [0, 2000],
    ] as const) {
      const { records, last } = journal.since(seq, limit);
      expect(last).toBe(1000);
      expect(records.map((r) => r.seq)).toEqual(
        Array.from({ length: Math.min(limit, 1000 - seq) }, (_, i) => seq + 1 + i),
      );
    }
    journal.close();
  });

  test('compacts what is committed, keeping everything that still matters', async () => {
    const journal = new Journal(path, 'boot');
    journal.append({ type: 'updated', restart: { name: 'always', maximumRetryCount: 0 } });
    journal.append({ type: 'creating', operation: 'a' });
    journal.append({ type: 'started', pid: 77, startTime: '9', operation: 'a' });
    for (let n = 0; n < 1500; n++)
      journal.append({ type: 'exec-started', exec: `e${n % 3}`, pid: n, startTime: String(n) });
    journal.append({ type: 'stopping', operation: 's', signal: 15, deadlineMs: 10_000, restart: false });
    const before = { state: journal.state, pending: journal.pending, seq: journal.seq };
    journal.committed(1200);
    for (let n = 0; n < 50; n++) journal.append({ type: 'attached' });
    await until(() => parsed().snapshot !== null);
    for (let n = 0; n < 50; n++) journal.append({ type: 'detached' });
    journal.close();
    expect(statSync(path).size).toBeLessThan(150_000);
    expect(parsed().snapshot!.seq).toBe(1200);
    expect(parsed().records.map((r) => r.seq)).toEqual(
      Array.from({ length: before.seq + 100 - 1200 }, (_, i) => 1201 + i),
    );
    expect(parsed().records.reduce(applyRecord, parsed().snapshot!.state)).toEqual(before.state);
    const next = new Journal(path, 'boot');
    expect(next.state).toEqual(before.state);
    expect(next.pending).toEqual(before.pending);
    expect(next.seq).toBe(before.seq + 100);
    next.close();
  });

  test('drops old probes but keeps those that changed the status', () => {
    const statuses = [
      'starting',
      'healthy',
      'healthy',
      'unhealthy',
      'unhealthy',
      'unhealthy',
      'healthy',
      'healthy',
    ] as const;
    const records = statuses.map(
      (status, i) => ({ seq: i + 1, type: 'health', status, streak: 0 }) as unknown as JournalRecord,
    );
    expect(bounded(records, 1).map((r) => r.seq)).toEqual([1, 2, 4, 7, 8]);
    expect(bounded(records, 10)).toBe(records);
  });
});

describe('a damaged journal', () => {
  interface Life {
    name: string;
    bodies: RecordBody[];
    end: Partial<RunState>;
  }
  const startRecords = (pid: number): RecordBody[] => [
    { type: 'creating', operation: 'a' },
    { type: 'created', pid, startTime: '9' },
    { type: 'started', pid, startTime: '9', operation: 'a' },
  ];
  const endRecords: RecordBody[] = [
    { type: 'exited', code: 3, signal: 0, oomKilled: false },
    { type: 'final', user: false },
  ];
  const lives: Life[] = [
    { name: 'runs', bodies: startRecords(7), end: { status: 'running', pid: 7, gen: 1, final: false, boot: 'boot' } },
    {
      name: 'has ended',
      bodies: [...startRecords(7), ...endRecords],
      end: { status: 'exited', pid: 0, gen: 1, final: true },
    },
    {
      name: 'runs again',
      bodies: [...startRecords(7), ...endRecords, ...startRecords(8)],
      end: { status: 'running', pid: 8, gen: 2, final: false, boot: 'boot' },
    },
    {
      name: 'has been restarted',
      bodies: [
        ...startRecords(7),
        endRecords[0]!,
        { type: 'restarting', count: 1, at: '5' },
        ...startRecords(8).map((r) => ({ ...r, operation: '' }) as RecordBody),
      ],
      end: { status: 'running', pid: 8, gen: 2, final: false },
    },
    {
      name: 'could not start',
      bodies: [startRecords(7)[0]!, { type: 'failed', error: 'no', code: 127, operation: 'a' }, endRecords[1]!],
      end: { pid: 0, gen: 1, final: true },
    },
  ];

  test.each(lives)(
    'of a container that $name: the final state is right whichever record is lost',
    ({ bodies, end }) => {
      const journal = new Journal(path, 'boot');
      for (const body of bodies) journal.append(body);
      journal.close();
      const { records } = parsed();
      for (const lost of records.slice(0, -1)) {
        const state = records.filter((r) => r !== lost).reduce(applyRecord, initialRunState());
        expect(state, `without ${lost.type} ${lost.seq}`).toMatchObject(end);
        if (end.final) expect(['exited', 'created']).toContain(state.status);
      }
    },
  );
});
