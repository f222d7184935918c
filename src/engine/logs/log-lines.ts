/**
 * Lines of a json-file log become entries, without JSON.parse and without copying where the line has the form that we
 * write ourselves.
 */
import { parseRfc3339 } from '../time.ts';
import type { LogEntry } from './logs.ts';

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const BRACE = 0x7d;
const LETTER_N = 0x6e;
const LETTER_U = 0x75;

const HEAD = Buffer.from('{"log":"');
const STDOUT = Buffer.from(',"stream":"stdout","time":"');
const STDERR = Buffer.from(',"stream":"stderr","time":"');
/** Where the two differ. */
const TELLING = STDOUT.indexOf('out');
/** Length of a time with all nine digits: no need to look for its end. */
const FULL_TIME = '2006-01-02T15:04:05.000000000Z'.length;

const NO_ATTRS: Readonly<Record<string, string>> = Object.freeze({});

/** Points into the chunk that was read; what nobody asks for is never made. */
class ChunkEntry implements LogEntry {
  constructor(
    readonly stream: 'stdout' | 'stderr',
    private readonly chunk: Buffer,
    private readonly textStart: number,
    private readonly textEnd: number,
    private readonly timeStart: number,
    private readonly timeEnd: number,
  ) {}
  get line(): Buffer {
    return this.chunk.subarray(this.textStart, this.textEnd);
  }
  get time(): string {
    return this.chunk.toString('latin1', this.timeStart, this.timeEnd);
  }
  get attrs(): Record<string, string> {
    return NO_ATTRS;
  }
}

/**
 * Entries of the first `end` bytes of `chunk`, which end with a newline. Takes the chunk over: text is unescaped in
 * place,
 * and the entries point into it. Lines that are no entries (a crash tore them) are passed over.
 */
export function decodeLines(chunk: Buffer, end: number): LogEntry[] {
  const entries: LogEntry[] = [];
  let escape = -1;
  for (let at = 0; at < end;) {
    if (!matches(chunk, at, HEAD)) {
      at = afterOddLine(chunk, at, entries);
      continue;
    }
    const text = at + HEAD.length;
    // Native searches: a loop over the bytes takes five times as long. The next escape is remembered, as it may be far
    // away.
    let close = chunk.indexOf(QUOTE, text);
    if (escape < text) escape = nextEscape(chunk, text);
    let textEnd = close;
    if (escape < close) {
      if (escape === close - 2 && chunk[escape + 1] === LETTER_N) {
        // Nearly every line: its own newline is all that is escaped.
        chunk[escape] = NEWLINE;
        textEnd = escape + 1;
      } else {
        [textEnd, close] = unescape(chunk, escape, end);
      }
    }
    const stream = chunk[close + 1 + TELLING] === STDOUT[TELLING] ? STDOUT : STDERR;
    const time = close + 1 + stream.length;
    if (close >= 0 && matches(chunk, close + 1, stream)) {
      const timeEnd = chunk[time + FULL_TIME] === QUOTE ? time + FULL_TIME : chunk.indexOf(QUOTE, time);
      if (chunk[timeEnd + 1] === BRACE && chunk[timeEnd + 2] === NEWLINE) {
        entries.push(new ChunkEntry(stream === STDOUT ? 'stdout' : 'stderr', chunk, text, textEnd, time, timeEnd));
        at = timeEnd + 3;
        continue;
      }
    }
    // More fields, or others: the rest of the object is parsed.
    const newline = chunk.indexOf(NEWLINE, Math.max(close, text));
    const rest =
      close >= 0 && chunk[close + 1] === COMMA ? parse(`{${chunk.toString('utf8', close + 2, newline)}`) : undefined;
    const entry = rest && toEntry(chunk.subarray(text, textEnd), rest);
    if (entry) entries.push(entry);
    at = entry ? newline + 1 : afterOddLine(chunk, at, entries);
  }
  return entries;
}

function nextEscape(chunk: Buffer, from: number): number {
  const found = chunk.indexOf(BACKSLASH, from);
  return found < 0 ? Infinity : found;
}

/**
 * Unescapes what follows of a JSON string, in place and byte for byte. Returns where its text ends now and its closing
 * quote; [0, -1] when there is none in this line.
 */
function unescape(chunk: Buffer, start: number, end: number): [textEnd: number, close: number] {
  let write = start;
  for (let read = start; read < end;) {
    const byte = chunk[read]!;
    if (byte === QUOTE) return [write, read];
    if (byte === NEWLINE) break;
    if (byte !== BACKSLASH) {
      chunk[write++] = byte;
      read++;
    } else if (chunk[read + 1] !== LETTER_U) {
      chunk[write++] = SHORT_ESCAPES[chunk[read + 1]!] || chunk[read + 1]!;
      read += 2;
    } else {
      const code = codePoint(chunk, read);
      write += writeUtf8(chunk, write, code);
      read += code > 0xffff ? 12 : 6;
    }
  }
  return [0, -1];
}

const SHORT_ESCAPES = new Uint8Array(256);
SHORT_ESCAPES[0x6e] = 0x0a;
SHORT_ESCAPES[0x72] = 0x0d;
SHORT_ESCAPES[0x74] = 0x09;
SHORT_ESCAPES[0x62] = 0x08;
SHORT_ESCAPES[0x66] = 0x0c;

const REPLACEMENT = 0xfffd;

/** The code point of the \uXXXX at `at`, or of the surrogate pair of them. */
function codePoint(chunk: Buffer, at: number): number {
  const high = hex4(chunk, at + 2);
  if (high < 0xd800 || high > 0xdfff) return high;
  const low = chunk[at + 6] === BACKSLASH && chunk[at + 7] === LETTER_U ? hex4(chunk, at + 8) : 0;
  return high < 0xdc00 && low >= 0xdc00 && low <= 0xdfff
    ? 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
    : REPLACEMENT;
}

function hex4(chunk: Buffer, at: number): number {
  const digits = chunk.toString('latin1', at, at + 4);
  return /^[0-9a-fA-F]{4}$/.test(digits) ? parseInt(digits, 16) : REPLACEMENT;
}

function writeUtf8(chunk: Buffer, at: number, code: number): number {
  if (code < 0x80) {
    chunk[at] = code;
    return 1;
  }
  return chunk.write(String.fromCodePoint(code), at);
}

/**
 * A line of another form: perhaps an entry with other keys first, perhaps one follows what a crash left unfinished.
 * Returns where to go on.
 */
function afterOddLine(chunk: Buffer, start: number, entries: LogEntry[]): number {
  const end = chunk.indexOf(NEWLINE, start) + 1;
  const whole = parse(chunk.toString('utf8', start, end));
  if (typeof whole?.log === 'string') {
    const entry = toEntry(Buffer.from(whole.log), whole);
    if (entry) entries.push(entry);
    return end;
  }
  const next = chunk.subarray(0, end).indexOf(HEAD, start + 1);
  return next < 0 ? end : next;
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function toEntry(line: Buffer, { stream, time, attrs }: Record<string, unknown>): LogEntry | undefined {
  if (typeof time !== 'string') return undefined;
  return {
    stream: stream === 'stderr' ? 'stderr' : 'stdout',
    time,
    line,
    attrs: typeof attrs === 'object' && attrs !== null ? (attrs as Record<string, string>) : NO_ATTRS,
  };
}

function matches(chunk: Buffer, at: number, expected: Buffer): boolean {
  for (let i = 0; i < expected.length; i++) if (chunk[at + i] !== expected[i]) return false;
  return true;
}

const SECONDS = '2006-01-02T15:04:05'.length;

/** How entries' times compare with one moment; most are told apart by their seconds, as text. */
export function comparerWith(moment: bigint): (time: string) => number {
  const seconds = new Date(Number(moment / 1_000_000n)).toISOString().slice(0, SECONDS);
  return (time) => {
    const prefix = time.slice(0, SECONDS);
    if (prefix !== seconds && time.endsWith('Z')) return prefix < seconds ? -1 : 1;
    const exact = parseRfc3339(time);
    return exact < moment ? -1 : exact > moment ? 1 : 0;
  };
}
