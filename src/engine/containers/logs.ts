/** Reads a container's json-file log: tail, since, until, follow, through rotations. */
import type { Container } from './container.ts';

export interface LogQuery {
  stdout: boolean;
  stderr: boolean;
  /** Wall ns; undefined = none. */
  since?: bigint;
  until?: bigint;
  /** Entries from the end; undefined = all. */
  tail?: number;
  follow: boolean;
}

export interface LogEntry {
  stream: 'stdout' | 'stderr';
  /** As stored: RFC3339Nano. */
  time: string;
  /** With its newline, if it has one. */
  line: Buffer;
  attrs: Record<string, string>;
}

/** Batches of entries: one array per chunk read. Follow ends when the container's generation ends (`ended` resolves) and the file is drained. */
export function readLog(_container: Container, _path: string, _query: LogQuery, _ended: Promise<void>, _signal: AbortSignal): AsyncIterable<LogEntry[]> { throw new Error('unwritten'); }
