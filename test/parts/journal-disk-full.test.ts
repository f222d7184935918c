/** The journal on a full file system. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseJournal } from '../../src/protocol/journal-format.ts';
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

describe('a full disk', () => {
  const fill = (): void => {
    try {
      for (;;) appendFileSync(join(directory, 'ballast'), Buffer.alloc(4096));
    } catch {
      return;
    }
  };
  beforeEach(() => execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', directory]));
  afterEach(() => execFileSync('umount', ['-l', directory]));

  test('the next records use reserved room; later ones are kept in memory and written once there is room', async () => {
    const journal = new Journal(path, 'boot');
    fill();
    for (let n = 0; n < 20; n++) journal.append({ type: 'exited', code: n, signal: 0, oomKilled: false });
    expect(journal.writable).toBe(true);
    for (let n = 0; n < 1000; n++) journal.append({ type: 'exited', code: n, signal: 0, oomKilled: false });
    expect(journal.writable).toBe(false);
    expect(journal.since(0, 5000).records).toHaveLength(1020);
    expect(parsed().damaged).toBe(0);
    rmSync(join(directory, 'ballast'));
    await until(() => journal.writable);
    expect(parsed().records.map((r) => r.seq)).toEqual(Array.from({ length: 1020 }, (_, i) => i + 1));
    journal.close();
  });

  test('a compaction without room is abandoned and loses nothing', async () => {
    const journal = new Journal(path, 'boot');
    const probe = { start: '1', end: '2', exitCode: 0, output: 'x'.repeat(4000) };
    for (let n = 0; n < 60; n++) journal.append({ type: 'health', status: 'healthy', streak: 0, probe });
    fill();
    // Little of it is committed, so the compacted journal would be nearly as large.
    journal.committed(1);
    for (let n = 0; n < 10; n++) journal.append({ type: 'exec-exited', exec: `e${n}`, code: n });
    await until(() => journal.writable && !existsSync(`${path}.new`));
    expect(parsed().records.map((r) => r.seq)).toEqual(Array.from({ length: 70 }, (_, i) => i + 1));
    rmSync(join(directory, 'ballast'));
    journal.committed(60);
    await until(() => parsed().snapshot !== null);
    expect(parsed().records.map((r) => r.seq)).toEqual(Array.from({ length: 10 }, (_, i) => 61 + i));
    journal.close();
  });
});
