/** One container's journal, and the shim that its journal names. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseJournal } from '../../src/protocol/journal-format.ts';
import type { JournalRecord } from '../../src/protocol/records.ts';
import type { TestEngine } from './engine.ts';

export const journalOf = (engine: TestEngine, id: string): string =>
  join(engine.root, 'data', 'containers', id, 'journal');

export const recordsOf = (engine: TestEngine, id: string): JournalRecord[] =>
  parseJournal(readFileSync(journalOf(engine, id))).records;

/** Pid of the shim that adopted the container last. @throws when none has */
export function shimOf(engine: TestEngine, id: string): number {
  const adopted = recordsOf(engine, id).findLast((r) => r.type === 'adopted');
  if (adopted?.type !== 'adopted') throw new Error(`no shim has adopted ${id}`);
  return adopted.shimPid;
}
