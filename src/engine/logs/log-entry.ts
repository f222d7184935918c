/** One line that a container wrote, as its json-file log stores it. */
export interface LogEntry {
  stream: 'stdout' | 'stderr';
  /** As stored: RFC3339Nano. */
  time: string;
  /** With its newline, if it has one. */
  line: Buffer;
  attrs: Record<string, string>;
}
