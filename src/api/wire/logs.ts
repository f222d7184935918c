/** Log entries become the bytes of GET /containers/{id}/logs. */
import type { LogEntry } from '../../engine/logs/log-entry.ts';
import { parseRfc3339, rfc3339Fixed } from '../../engine/time.ts';

export interface LogFormat {
  /** A frame with a header of 8 bytes per entry (no TTY); else bytes as they are. */
  framed: boolean;
  timestamps: boolean;
  /** The log driver's attributes. */
  details: boolean;
}

const HEADER = 8;
const STDOUT = 1;
const STDERR = 2;
const SYSTEM_ERROR = 3;
const FULL_TIME = '2006-01-02T15:04:05.000000000Z'.length;

/** One batch, in one buffer. */
export function encodeLogs(entries: readonly LogEntry[], { framed, timestamps, details }: LogFormat): Buffer {
  const lines = entries.map((entry) => entry.line);
  // Plain ASCII: a character is a byte.
  const prefixes = timestamps || details ? entries.map((entry) => prefixOf(entry, timestamps, details)) : [];
  let size = framed ? lines.length * HEADER : 0;
  for (const line of lines) size += line.length;
  for (const prefix of prefixes) size += prefix.length;

  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    const prefix = prefixes[i];
    if (framed) {
      at = writeHeader(
        bytes,
        at,
        entries[i]!.stream === 'stdout' ? STDOUT : STDERR,
        line.length + (prefix?.length ?? 0),
      );
    }
    if (prefix) at += bytes.write(prefix, at, 'latin1');
    bytes.set(line, at);
    at += line.length;
  }
  return bytes;
}

/**
 * What goes into a stream that fails after its beginning: clients show it as an error, or as text where nothing is
 * framed.
 */
export function encodeLogError(message: string, { framed }: Pick<LogFormat, 'framed'>): Buffer {
  const text = Buffer.from(`Error grabbing logs: ${message}\n`);
  if (!framed) return text;
  const header = Buffer.alloc(HEADER);
  writeHeader(header, 0, SYSTEM_ERROR, text.length);
  return Buffer.concat([header, text]);
}

function writeHeader(bytes: Buffer, at: number, stream: number, length: number): number {
  bytes[at] = stream;
  bytes[at + 1] = bytes[at + 2] = bytes[at + 3] = 0;
  return bytes.writeUInt32BE(length, at + 4);
}

function prefixOf({ time, attrs }: LogEntry, timestamps: boolean, details: boolean): string {
  return `${timestamps ? `${nineDigits(time)} ` : ''}${details ? `${describe(attrs)} ` : ''}`;
}

const nineDigits = (time: string): string =>
  time.length === FULL_TIME && time.endsWith('Z') ? time : rfc3339Fixed(parseRfc3339(time));

const describe = (attrs: Record<string, string>): string =>
  Object.keys(attrs)
    .sort()
    .map((key) => `${queryEscape(key)}=${queryEscape(attrs[key]!)}`)
    .join(',');

/** As Go's url.QueryEscape. */
const queryEscape = (text: string): string =>
  encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+');
