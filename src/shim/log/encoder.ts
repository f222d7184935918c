/** Encodes output as lines of the log file (protocol/log-format.ts). Hot: allocates per chunk, not per line. */
import { MAX_ENTRY_BYTES, type LogStreamName } from '../../protocol/log-format.ts';
import type { OutputStream } from '../../protocol/frames.ts';

/**
 * Receives whole lines of the log file. `bytes` is reused after the call. It contains `entries` entries with `output`
 * bytes of output.
 */
export type Sink = (bytes: Buffer, entries: number, output: number) => void;

const NEWLINE = 10;
const PREFIX = Buffer.from('{"log":"');
/** Length of `\u00ff`, the longest escape of one byte. */
const WORST_BYTES = 6;
const BATCH_BYTES = 256 * 1024;
const EMPTY = Buffer.alloc(0);

// Shared by all streams of this process: it is filled and emptied within one call.
const out = Buffer.allocUnsafeSlow(BATCH_BYTES);

// Go's encoder, and so the log, leaves printable ASCII unescaped, except " & < > \ . A newline ends an entry.
const NOT_PLAIN = /[^\n\x20\x21\x23-\x25\x27-\x3b\x3d\x3f-\x5b\x5d-\x7f]/;
const isPlain = (bytes: Buffer): boolean => !NOT_PLAIN.test(bytes.toString('latin1'));

interface Held {
  /** Output since the last newline, less than one full entry. Never changed in place: marks refer to it. */
  text: Buffer;
  /** Time of the first entry of a line that is being split; '' = none is. */
  splitAt: string;
}

export class Encoder {
  readonly #held: Record<OutputStream, Held> = { 1: { text: EMPTY, splitAt: '' }, 2: { text: EMPTY, splitAt: '' } };
  readonly #attrs: string;
  #length = 0;
  #entries = 0;
  #output = 0;
  /** Whether everything encoded since this was set to true can be read back byte for byte. */
  faithful = true;

  constructor(
    attrs: Record<string, string>,
    private readonly sink: Sink,
  ) {
    this.#attrs = Object.keys(attrs).length ? `"attrs":${goString(JSON.stringify(sorted(attrs)))},` : '';
  }

  /** Output that is in no entry yet. */
  held = (stream: OutputStream): Buffer => this.#held[stream].text;

  /** Restores what a previous shim held. */
  restore(stream: OutputStream, text: Buffer, splitAt: string): void {
    this.#held[stream] = { text, splitAt };
  }

  splitAt = (stream: OutputStream): string => this.#held[stream].splitAt;

  /** Passes every line that `chunk` completes to the sink; the rest is held. */
  encode(stream: OutputStream, chunk: Buffer, time: string): void {
    const held = this.#held[stream];
    let at = 0;
    if (held.text.length > 0) {
      const newline = chunk.indexOf(NEWLINE);
      at = newline < 0 ? chunk.length : newline + 1;
      const joined = Buffer.concat([held.text, chunk.subarray(0, at)]);
      held.text = EMPTY;
      this.#lines(stream, joined, 0, time, newline < 0);
    }
    if (at < chunk.length) this.#lines(stream, chunk, at, time, false);
    this.#deliver();
  }

  /** Writes what is held as an entry without a newline. */
  flush(stream: OutputStream, time: string): void {
    const held = this.#held[stream];
    if (held.text.length > 0) {
      const ending = tail(stream, this.#attrs, held.splitAt || time, false);
      this.#entry(held.text, 0, held.text.length, isPlain(held.text), ending);
    }
    this.#held[stream] = { text: EMPTY, splitAt: '' };
    this.#deliver();
  }

  /** One line of the log file with a text of the engine. */
  notice(text: string, time: string): Buffer {
    return Buffer.from(
      `{"log":${goString(JSON.stringify(`${text}\n`))},"stream":"stderr",${this.#attrs}"time":"${time}"}\n`,
    );
  }

  #lines(stream: OutputStream, bytes: Buffer, from: number, time: string, owned: boolean): void {
    const held = this.#held[stream];
    const plain = isPlain(bytes);
    const ending = tail(stream, this.#attrs, time, true);
    let at = from;
    for (let newline = bytes.indexOf(NEWLINE, at); newline >= 0; newline = bytes.indexOf(NEWLINE, at)) {
      if (newline - at >= MAX_ENTRY_BYTES) at = this.#splitLine(stream, bytes, at, newline, plain, time);
      this.#entry(bytes, at, newline, plain, held.splitAt ? tail(stream, this.#attrs, held.splitAt, true) : ending);
      held.splitAt = '';
      at = newline + 1;
    }
    if (bytes.length - at >= MAX_ENTRY_BYTES) at = this.#splitLine(stream, bytes, at, bytes.length, plain, time);
    if (at === bytes.length) held.text = EMPTY;
    // A chunk is in the reader's buffer, which is reused: copy it.
    else held.text = owned && at === 0 ? bytes : Buffer.from(bytes.subarray(at));
  }

  /** Writes full entries until less than one is left before `end`; returns where the rest starts. */
  #splitLine(stream: OutputStream, bytes: Buffer, from: number, end: number, plain: boolean, time: string): number {
    const held = this.#held[stream];
    held.splitAt ||= time;
    const ending = tail(stream, this.#attrs, held.splitAt, false);
    let at = from;
    while (end - at >= MAX_ENTRY_BYTES) {
      const cut = characterBoundary(bytes, at + MAX_ENTRY_BYTES, end);
      this.#entry(bytes, at, cut, plain, ending);
      at = cut;
    }
    return at;
  }

  #entry(bytes: Buffer, start: number, end: number, plain: boolean, ending: Ending): void {
    const room = PREFIX.length * 2 + (plain ? end - start : (end - start) * WORST_BYTES) + ending.bytes.length;
    if (this.#length + room > BATCH_BYTES) this.#deliver();
    if (this.#length === 0) this.#length = PREFIX.copy(out, 0);
    this.#length = plain ? this.#length + bytes.copy(out, this.#length, start, end) : this.#escape(bytes, start, end);
    this.#length += ending.bytes.copy(out, this.#length);
    this.#entries++;
    this.#output += end - start + (ending.newline ? 1 : 0);
  }

  /**
   * Escapes as Go's json encoder does: control characters, quotes, `<>&`, U+2028 and U+2029; each byte that is not
   * valid UTF-8 becomes \ufffd. Returns the new length of `out`.
   */
  #escape(bytes: Buffer, start: number, end: number): number {
    let to = this.#length;
    for (let i = start; i < end;) {
      const byte = bytes[i]!;
      if (byte < 0x80) {
        const escaped = ESCAPES[byte];
        if (escaped === undefined) out[to++] = byte;
        else to += escaped.copy(out, to);
        i++;
        continue;
      }
      const size = characterSize(bytes, i, end);
      if (size === 0) {
        to += REPLACEMENT.copy(out, to);
        this.faithful = false;
        i++;
      } else if (size === 3 && byte === 0xe2 && bytes[i + 1] === 0x80 && (bytes[i + 2]! & 0xfe) === 0xa8) {
        to += (bytes[i + 2] === 0xa8 ? LINE_SEPARATOR : PARAGRAPH_SEPARATOR).copy(out, to);
        i += 3;
      } else {
        for (const stop = i + size; i < stop; i++) out[to++] = bytes[i]!;
      }
    }
    return to;
  }

  // Each entry ends with the next one's prefix, to save a copy; the last prefix is cut off here.
  #deliver(): void {
    if (this.#length === 0) return;
    const batch = out.subarray(0, this.#length - PREFIX.length);
    const entries = this.#entries;
    const output = this.#output;
    this.#length = this.#entries = this.#output = 0;
    this.sink(batch, entries, output);
  }
}

interface Ending {
  bytes: Buffer;
  newline: boolean;
}

const NAMES: Record<OutputStream, LogStreamName> = { 1: 'stdout', 2: 'stderr' };

const tail = (stream: OutputStream, attrs: string, time: string, newline: boolean): Ending => ({
  bytes: Buffer.from(
    `${newline ? '\\n' : ''}","stream":"${NAMES[stream]}",${attrs}"time":"${time}"}\n${PREFIX.toString('latin1')}`,
  ),
  newline,
});

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');

const ESCAPES: (Buffer | undefined)[] = Array.from({ length: 128 }, (_, byte) => {
  const char = String.fromCharCode(byte);
  if (char === '"' || char === '\\') return Buffer.from(`\\${char}`);
  if (char === '\n') return Buffer.from('\\n');
  if (char === '\r') return Buffer.from('\\r');
  return byte < 0x20 || '<>&'.includes(char) ? Buffer.from(`\\u00${hex(byte)}`) : undefined;
});
const REPLACEMENT = Buffer.from('\\ufffd');
const LINE_SEPARATOR = Buffer.from('\\u2028');
const PARAGRAPH_SEPARATOR = Buffer.from('\\u2029');

/** Adapts JSON.stringify's output: Go escapes these characters too. */
const goString = (json: string): string =>
  json.replace(/[<>&\u2028\u2029]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);

// Go marshals a map sorted by key.
const sorted = (attrs: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(attrs).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));

/** Bytes of the UTF-8 character at `i`; 0 when it is invalid or not complete before `end` (Unicode 15, table 3-7). */
function characterSize(bytes: Buffer, i: number, end: number): number {
  const lead = bytes[i]!;
  const size = expectedSize(lead);
  if (size === 0 || i + size > end) return 0;
  const second = bytes[i + 1]!;
  if (!isSecondByte(lead, second)) return 0;
  for (let k = 2; k < size; k++) if ((bytes[i + k]! & 0xc0) !== 0x80) return 0;
  return size;
}

/** The second byte's range excludes overlong forms, surrogates and code points above U+10FFFF. */
function isSecondByte(lead: number, byte: number): boolean {
  switch (lead) {
    case 0xe0:
      return byte >= 0xa0 && byte <= 0xbf;
    case 0xed:
      return byte >= 0x80 && byte <= 0x9f;
    case 0xf0:
      return byte >= 0x90 && byte <= 0xbf;
    case 0xf4:
      return byte >= 0x80 && byte <= 0x8f;
    default:
      return byte >= 0x80 && byte <= 0xbf;
  }
}

function expectedSize(lead: number): number {
  if (lead < 0xc2 || lead > 0xf4) return 0;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

/** The last position up to `cut` that is not inside a character. dockerd cuts inside one and logs two U+FFFD. */
function characterBoundary(bytes: Buffer, cut: number, end: number): number {
  for (let back = 1; back <= 3; back++) {
    const lead = bytes[cut - back]!;
    if ((lead & 0xc0) === 0x80) continue;
    const size = expectedSize(lead);
    // The character's rest may not have been read yet: then assume that it is valid.
    const whole = cut - back + size > end || characterSize(bytes, cut - back, end) > 0;
    return size > back && whole ? cut - back : cut;
  }
  return cut;
}
