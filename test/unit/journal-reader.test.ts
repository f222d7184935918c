/** The daemon reads a journal while its shim appends to it and compacts it. */
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { JournalReader } from '../../src/engine/containers/handle/journal-reader.ts';
import { encodeRecord, encodeSnapshot } from '../../src/protocol/journal-format.ts';
import { initialRunState } from '../../src/protocol/runstate.ts';

let directory: string;
let path: string;
let reader: JournalReader;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'reader-'));
  path = join(directory, 'journal');
  reader = new JournalReader(path);
});
afterEach(() => rmSync(directory, { recursive: true }));

const record = (seq: number): Buffer =>
  encodeRecord({ seq, gen: 1, boot: 'b', wall: '1', mono: '1', type: 'attached' });
const seqs = (): number[] => reader.read().records.map(({ seq }) => seq);

test('each record is read once, a torn one when it is whole', () => {
  expect(seqs()).toEqual([]);
  writeFileSync(path, Buffer.concat([record(1), record(2), record(3).subarray(0, 20)]));
  expect(seqs()).toEqual([1, 2]);
  appendFileSync(path, record(3).subarray(20));
  expect(seqs()).toEqual([3]);
  expect(seqs()).toEqual([]);
});

test('a compacted journal is read from its beginning', () => {
  writeFileSync(path, Buffer.concat([record(1), record(2)]));
  expect(seqs()).toEqual([1, 2]);
  const snapshot = encodeSnapshot({ seq: 2, state: initialRunState(), carried: null });
  writeFileSync(`${path}.new`, Buffer.concat([snapshot, record(3)]));
  renameSync(`${path}.new`, path);
  const { snapshot: read, records } = reader.read();
  expect([read?.seq, records.map(({ seq }) => seq)]).toEqual([2, [3]]);
});

test('what could not be kept is read again, and a change is told once', () => {
  writeFileSync(path, record(1));
  expect([reader.hasChanged(), reader.hasChanged()]).toEqual([true, false]);
  expect(seqs()).toEqual([1]);
  reader.rewind();
  expect(reader.hasChanged()).toBe(true);
  expect(seqs()).toEqual([1]);
});

test('a journal that cannot be read is empty', () => {
  rmSync(directory, { recursive: true });
  expect([seqs(), reader.size(), reader.hasChanged()]).toEqual([[], 0, false]);
  writeFileSync(directory, '');
});
