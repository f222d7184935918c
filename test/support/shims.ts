/** The shim of one container, as the kernel knows it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseJournal } from '../../src/protocol/journal-format.ts';
import type { JournalRecord } from '../../src/protocol/records.ts';
import type { TestEngine } from './engine.ts';

export const journalOf = (engine: TestEngine, id: string): string =>
  join(engine.root, 'data', 'containers', id, 'journal');

export const recordsOf = (engine: TestEngine, id: string): JournalRecord[] =>
  parseJournal(readFileSync(journalOf(engine, id))).records;

/** Its pid: who has adopted the container last. */
export function shimOf(engine: TestEngine, id: string): number {
  const adopted = recordsOf(engine, id).findLast((r) => r.type === 'adopted');
  if (adopted?.type !== 'adopted') throw new Error(`no shim has adopted ${id}`);
  return adopted.shimPid;
}

/** `T` is stopped, `Z` a zombie; '' when there is no such process. */
export function processState(pid: number): string {
  try {
    return /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1] ?? '';
  } catch {
    return '';
  }
}

export const isDead = (pid: number): boolean => ['', 'Z', 'X'].includes(processState(pid));
