/**
 * The journal on disk: one record per line, `crc32 json\n`; the checksum, 8 hex digits, covers the JSON's bytes.
 * After a compaction the first line is a snapshot that replaces all records up to its `seq`.
 * The shim appends to the file; the daemon reads it when no shim is running.
 */
import type { JournalRecord } from './records.ts';
import type { RunState } from './runstate.ts';

export interface Snapshot {
  /** The last record that is folded into it. */
  seq: number;
  state: RunState;
  /** For the next shim only (shim/pending-intents.ts). */
  carried: unknown;
}

export interface ParsedJournal {
  snapshot: Snapshot | null;
  records: JournalRecord[];
  /** The last sequence number in use. */
  seq: number;
  /** Size in bytes up to the end of the last valid line. What follows is a torn tail. */
  whole: number;
  /** Lines before that end with a wrong checksum. */
  damaged: number;
}

const NEWLINE = 0x0a;
const CRC_DIGITS = 8;

/** Parses a journal file; skips lines with a wrong checksum. */
export function parseJournal(file: Buffer): ParsedJournal {
  const parsed: ParsedJournal = { snapshot: null, records: [], seq: 0, whole: 0, damaged: 0 };
  let bad = 0;
  for (let at = 0; ;) {
    const end = file.indexOf(NEWLINE, at);
    if (end < 0) return parsed;
    const value = decodeLine(file.subarray(at, end));
    at = end + 1;
    if (value === undefined) {
      bad++;
      continue;
    }
    parsed.damaged += bad;
    bad = 0;
    parsed.whole = at;
    if ('snapshot' in value) {
      parsed.snapshot = value.snapshot;
      parsed.records = [];
      parsed.seq = value.snapshot.seq;
    } else {
      parsed.records.push(value);
      parsed.seq = value.seq;
    }
  }
}

export const encodeRecord = (record: JournalRecord): Buffer => encodeLine(JSON.stringify(record));
export const encodeSnapshot = (snapshot: Snapshot): Buffer => encodeLine(JSON.stringify({ snapshot }));

function encodeLine(json: string): Buffer {
  const bytes = Buffer.from(json);
  return Buffer.concat([Buffer.from(`${checksum(bytes)} `, 'latin1'), bytes, Buffer.from('\n', 'latin1')]);
}

function decodeLine(line: Buffer): JournalRecord | { snapshot: Snapshot } | undefined {
  if (line.length <= CRC_DIGITS) return undefined;
  const json = line.subarray(CRC_DIGITS + 1);
  if (line.toString('latin1', 0, CRC_DIGITS) !== checksum(json)) return undefined;
  return JSON.parse(json.toString()) as JournalRecord | { snapshot: Snapshot };
}

const checksum = (bytes: Buffer): string => crc32(bytes).toString(16).padStart(CRC_DIGITS, '0');

// The reflected polynomial of zlib and Ethernet. Not node:zlib's, so that a shim need not load that module.
const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

export function crc32(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
