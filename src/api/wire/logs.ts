/** Encodes log entries for GET /containers/{id}/logs. */
import type { LogEntry } from '../../engine/logs/log-entry.ts';
import { parseRfc3339, rfc3339Fixed } from '../../engine/time.ts';

export interface LogFormat {
  /** An 8-byte header before each entry (containers without TTY); else bare bytes. */
  framed: boolean;
  timestamps: boolean;
  /** Print the log driver's attributes before each entry. */
  details: boolean;
}

const HEADER_BYTES = 8;
const STDOUT = 1;
const STDERR = 2;
const SYSTEM_ERROR = 3;
const FULL_TIME = '2006-01-02T15:04:05.000000000Z'.length;

/** Encodes a batch into one buffer. */
export function encodeLogs(entries: readonly LogEntry[], { framed, timestamps, details }: LogFormat): Buffer {
  const lines = entries.map((entry) => entry.line);
  // ASCII, so a character is a byte.
  const prefixes = timestamps || details ? entries.map((entry) => prefixOf(entry, timestamps, details)) : [];
  let size = framed ? lines.length * HEADER_BYTES : 0;
  for (const line of lines) size += line.length;
  for (const prefix of prefixes) size += prefix.length;

  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    const prefix = prefixes[i];
    if (framed) {
      const stream = entries[i]!.stream === 'stdout' ? STDOUT : STDERR;
      at = writeHeader(bytes, at, stream, line.length + (prefix?.length ?? 0));
    }
    if (prefix) at += bytes.write(prefix, at, 'latin1');
    bytes.set(line, at);
    at += line.length;
  }
  return bytes;
}

/** Reports an error in a response whose head has been sent: as an error frame, or as text in an unframed stream. */
export function encodeLogError(message: string, { framed }: Pick<LogFormat, 'framed'>): Buffer {
  const text = Buffer.from(`Error grabbing logs: ${message}\n`);
  if (!framed) return text;
  const header = Buffer.alloc(HEADER_BYTES);
  writeHeader(header, 0, SYSTEM_ERROR, text.length);
  return Buffer.concat([header, text]);
}

function writeHeader(bytes: Buffer, at: number, stream: number, length: number): number {
  bytes[at] = stream;
  bytes[at + 1] = bytes[at + 2] = bytes[at + 3] = 0;
  return bytes.writeUInt32BE(length, at + 4);
}

const prefixOf = ({ time, attrs }: LogEntry, timestamps: boolean, details: boolean): string =>
  (timestamps ? `${nineDigits(time)} ` : '') + (details ? `${describe(attrs)} ` : '');

const nineDigits = (time: string): string =>
  time.length === FULL_TIME && time.endsWith('Z') ? time : rfc3339Fixed(parseRfc3339(time));

const describe = (attrs: Record<string, string>): string =>
  Object.keys(attrs)
    .sort()
    .map((key) => `${queryEscape(key)}=${queryEscape(attrs[key]!)}`)
    .join(',');

/** Like Go's url.QueryEscape. */
const queryEscape = (text: string): string =>
  encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+');
