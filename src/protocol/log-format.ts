/**
 * The container's log file, byte for byte as Docker's json-file driver lays it out (moby
 * daemon/logger/jsonfilelog/jsonlog):
 *
 *     {"log":"text\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-11-24T00:04:55.1234567Z"}
 *
 * `attrs` is present only when a log option asks for it. A line longer than {@link MAX_ENTRY_BYTES} takes several
 * entries, all with the first one's time; only the last ends in a newline. Output after a process's last newline is an
 * entry without one.
 */

/** Longest output in one entry (moby daemon/logger/copier.go). */
export const MAX_ENTRY_BYTES = 16 * 1024;

export type LogStreamName = 'stdout' | 'stderr';

export interface LogLine {
  /** The output, with its newline if it has one. Invalid UTF-8 is replaced by U+FFFD. */
  log: string;
  stream: LogStreamName;
  /** RFC 3339, UTC, with up to nine fractional digits, without trailing zeros. */
  time: string;
  attrs?: Record<string, string>;
}

/** Path of the log's file number `n`: 0 is being written, 1 is the one before it. */
export const logFile = (path: string, n: number): string => (n === 0 ? path : `${path}.${n}`);

/** Parses one line of the file, with or without its newline; undefined when it is torn or no log entry. */
export function parseLogLine(line: string): LogLine | undefined {
  let entry: Partial<LogLine> | null;
  try {
    entry = JSON.parse(line) as Partial<LogLine> | null;
  } catch {
    return undefined;
  }
  if (typeof entry !== 'object' || entry === null || typeof entry.time !== 'string') return undefined;
  return { ...entry, log: entry.log ?? '', stream: entry.stream === 'stderr' ? 'stderr' : 'stdout', time: entry.time };
}

const NS_PER_SECOND = 1_000_000_000n;

/** Formats nanoseconds since the epoch as Go's RFC3339Nano, in UTC. */
export function formatLogTime(wallNs: bigint): string {
  const seconds = wallNs / NS_PER_SECOND;
  const day = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const fraction = (wallNs % NS_PER_SECOND).toString().padStart(9, '0').replace(/0+$/, '');
  return fraction ? `${day}.${fraction}Z` : `${day}Z`;
}
