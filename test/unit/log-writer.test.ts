import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OutputStream } from '../../src/protocol/frames.ts';
import { formatLogTime, MAX_ENTRY_BYTES, parseLogLine, type LogLine } from '../../src/protocol/log-format.ts';
import type { LogSpec } from '../../src/protocol/spec.ts';
import { LogClock } from '../../src/shim/log/clock.ts';
import { currentFile, LogCursor } from '../../src/shim/log/cursor.ts';
import { Encoder } from '../../src/shim/log/encoder.ts';
import { LogWriter } from '../../src/shim/log/writer.ts';

let dir: string;
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'log-'))));
afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

const spec = (more: Partial<Extract<LogSpec, { driver: 'json-file' }>> = {}): LogSpec => ({
  driver: 'json-file',
  path: join(dir, 'c-json.log'),
  maxSize: 0,
  maxFile: 1,
  attrs: {},
  ...more,
});
const linesOf = (file: string): LogLine[] =>
  readFileSync(join(dir, file), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => parseLogLine(line)!);
const textOf = (lines: LogLine[], stream = 'stdout'): string =>
  lines
    .filter((l) => l.stream === stream)
    .map((l) => l.log)
    .join('');

/** What the encoder writes for these chunks, as one text. */
function encode(
  chunks: [OutputStream, Buffer][],
  attrs: Record<string, string> = {},
): { text: string; faithful: boolean; entries: number; output: number } {
  const parts: Buffer[] = [];
  const sum = { entries: 0, output: 0 };
  const encoder = new Encoder(attrs, (bytes, entries, output) => {
    parts.push(Buffer.from(bytes));
    sum.entries += entries;
    sum.output += output;
  });
  chunks.forEach(([stream, chunk], i) => encoder.encode(stream, chunk, `T${i}`));
  encoder.flush(1, 'end');
  encoder.flush(2, 'end');
  return { text: Buffer.concat(parts).toString(), faithful: encoder.faithful, ...sum };
}
const encodeText = (text: string | Buffer, attrs?: Record<string, string>): string =>
  encode([[1, Buffer.from(text)]], attrs).text;

describe('the encoder writes lines as dockerd does', () => {
  test.each([
    ['plain', 'hello world\n', 'hello world\\n'],
    ['an empty line', '\n', '\\n'],
    ['output without a newline', 'abc', 'abc'],
    ['quotes and backslashes', '{"a":"b\\c"}\n', '{\\"a\\":\\"b\\\\c\\"}\\n'],
    ['angle brackets and ampersands', '<a href="x">&</a>\n', '\\u003ca href=\\"x\\"\\u003e\\u0026\\u003c/a\\u003e\\n'],
    ['control characters', '\x00\x08\t\x0c\r\x1b[0m\x7f\n', '\\u0000\\u0008\\u0009\\u000c\\r\\u001b[0m\x7f\\n'],
    ['UTF-8', 'žluťoučký 日本 🐳\n', 'žluťoučký 日本 🐳\\n'],
    ['line and paragraph separators', 'a\u2028b\u2029c\u2027d\n', 'a\\u2028b\\u2029c\u2027d\\n'],
  ])('%s', (_what, output, log) => {
    expect(encodeText(output)).toBe(
      `{"log":"${log}","stream":"stdout","time":"${output.endsWith('\n') ? 'T0' : 'end'}"}\n`,
    );
  });

  test.each([
    ['a stray continuation byte', [0x41, 0x80, 0x42], 'A\\ufffdB'],
    ['each byte of a truncated character', [0xe2, 0x82, 0x41], '\\ufffd\\ufffdA'],
    ['a surrogate', [0xed, 0xa0, 0x80], '\\ufffd\\ufffd\\ufffd'],
    ['an overlong slash', [0xc0, 0xaf], '\\ufffd\\ufffd'],
    ['a code point beyond Unicode', [0xf4, 0x90, 0x80, 0x80], '\\ufffd\\ufffd\\ufffd\\ufffd'],
    ['but a genuine U+FFFD stays', [0xef, 0xbf, 0xbd], '\ufffd'],
  ])('replaces invalid UTF-8: %s', (_what, bytes, log) => {
    expect(encodeText(Buffer.from([...bytes, 10]))).toBe(`{"log":"${log}\\n","stream":"stdout","time":"T0"}\n`);
    expect(encode([[1, Buffer.from([...bytes, 10])]]).faithful).toBe(log === '\ufffd');
  });

  test('sorts attributes and writes them before the time', () => {
    expect(encodeText('x\n', { tag: 'a&b', env: '1' })).toBe(
      '{"log":"x\\n","stream":"stdout","attrs":{"env":"1","tag":"a\\u0026b"},"time":"T0"}\n',
    );
  });

  test('splits a line over 16 KiB into entries that have the time of its first byte', () => {
    const chunks: [OutputStream, Buffer][] = [
      [1, Buffer.alloc(10000, 'a')],
      [1, Buffer.alloc(10000, 'a')],
      [1, Buffer.alloc(15000, 'a')],
      [1, Buffer.from('b\nc\n')],
    ];
    const lines = encode(chunks)
      .text.split('\n')
      .filter(Boolean)
      .map((l) => parseLogLine(l)!);
    expect(lines.map((l) => [l.log.length, l.time])).toEqual([
      [16384, 'T1'],
      [16384, 'T1'],
      [2234, 'T1'],
      [2, 'T3'],
    ]);
  });

  test('writes the newline of a line of exactly 16 KiB as an entry of its own', () => {
    const lines = encodeText(`${'x'.repeat(MAX_ENTRY_BYTES)}\ny\n`)
      .split('\n')
      .filter(Boolean)
      .map((l) => parseLogLine(l)!.log);
    expect(lines.map((l) => l.length)).toEqual([16384, 1, 2]);
  });

  test('never splits a character', () => {
    const text = `a${'日'.repeat(12000)}\n`;
    const { text: log, faithful } = encode([[1, Buffer.from(text)]]);
    expect(
      log
        .split('\n')
        .filter(Boolean)
        .map((l) => parseLogLine(l)!.log)
        .join(''),
    ).toBe(text);
    expect(faithful).toBe(true);
  });
});

const splitAt = (bytes: Buffer, cuts: number[]): Buffer[] => {
  const places = [...new Set(cuts.map((c) => c % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, i) => bytes.subarray(from, places[i] ?? bytes.length)).filter((b) => b.length > 0);
};

describe('the encoder, given any output in any chunks', () => {
  const cuts = fc.array(fc.nat(), { maxLength: 8 });
  const text = fc
    .oneof(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc
        .array(
          fc.constantFrom(
            'a',
            '"',
            '\\',
            '\n',
            '<',
            '\t',
            'é',
            '日',
            '🐳',
            '\u2028',
            'x'.repeat(5000),
            '日'.repeat(3000),
          ),
          { maxLength: 40 },
        )
        .map((p) => p.join('')),
    )
    .map((t) => Buffer.from(t).toString()); // lone surrogates become U+FFFD

  test('writes text that JSON.parse returns unchanged', () => {
    fc.assert(
      fc.property(text, cuts, (output, places) => {
        const chunks = splitAt(Buffer.from(output), places);
        const { text: log, faithful, entries, output: bytes } = encode(chunks.map((c) => [1, c]));
        const logs = log
          .split('\n')
          .filter(Boolean)
          .map((l) => (JSON.parse(l) as LogLine).log);
        expect(logs.join('')).toBe(output);
        expect(logs.every((l) => !l.slice(0, -1).includes('\n') && Buffer.byteLength(l) <= MAX_ENTRY_BYTES)).toBe(true);
        expect({ faithful, entries, bytes }).toEqual({
          faithful: true,
          entries: logs.length,
          bytes: Buffer.byteLength(output),
        });
      }),
      { numRuns: 300 },
    );
  });

  test('writes U+FFFD for each byte that is not UTF-8', () => {
    // Whole lines only: chunk boundaries must not matter.
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), cuts, (array, places) => {
        const bytes = Buffer.from(array);
        const whole = encode([[1, bytes]]);
        const log = (e: string): string[] =>
          e
            .split('\n')
            .filter(Boolean)
            .map((l) => (JSON.parse(l) as LogLine).log);
        expect(log(whole.text).join('')).toBe(goDecode(bytes));
        expect(log(encode(splitAt(bytes, places).map((c) => [1, c])).text)).toEqual(log(whole.text));
        expect(whole.faithful).toBe(Buffer.from(bytes.toString()).equals(bytes));
      }),
      { numRuns: 500 },
    );
  });

  test('keeps the two streams apart', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(1 as const, 2 as const), text), { maxLength: 12 }), (writes) => {
        const { text: log } = encode(writes.map(([s, t]) => [s, Buffer.from(t)]));
        const lines = log
          .split('\n')
          .filter(Boolean)
          .map((l) => parseLogLine(l)!);
        for (const s of [1, 2] as const)
          expect(textOf(lines, s === 1 ? 'stdout' : 'stderr')).toBe(
            writes
              .filter(([w]) => w === s)
              .map(([, t]) => t)
              .join(''),
          );
      }),
      { numRuns: 100 },
    );
  });
});

/** Decodes as Go does: one U+FFFD for each invalid byte. */
function goDecode(bytes: Buffer): string {
  let text = '';
  for (let i = 0; i < bytes.length;) {
    const size = [1, 2, 3, 4].find((n) => i + n <= bytes.length && isOneCharacter(bytes.subarray(i, i + n)));
    text += size ? bytes.toString('utf8', i, i + size) : '\ufffd';
    i += size ?? 1;
  }
  return text;
}
function isOneCharacter(bytes: Buffer): boolean {
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) && Array.from(text).length === 1;
}

describe('the log clock', () => {
  test.each([
    [0n, '1970-01-01T00:00:00Z'],
    [1_764_000_000_000_000_000n, '2025-11-24T16:00:00Z'],
    [1_764_000_000_120_000_000n, '2025-11-24T16:00:00.12Z'],
    [1_764_000_000_000_000_001n, '2025-11-24T16:00:00.000000001Z'],
  ])('formats %s as %s', (ns, text) => expect(formatLogTime(ns)).toBe(text));

  test('advances between ticks of the wall clock and never goes back', () => {
    let [wall, monotonic] = [1000, 0n];
    const clock = new LogClock({ wall: () => wall, monotonic: () => monotonic });
    const seen: bigint[] = [];
    const at = (w: number, m: bigint): void => {
      [wall, monotonic] = [w, m];
      seen.push(clock.now());
    };
    at(1000, 300n);
    at(1000, 700_000n);
    at(1001, 1_200_000n);
    at(900, 1_300_000n); // the wall clock steps back a little
    at(901, 1_400_000n);
    at(5000, 1_500_000n);
    expect(seen).toEqual([
      1_000_000_300n,
      1_000_700_000n,
      1_001_200_000n,
      1_001_200_000n,
      1_001_200_000n,
      5_000_000_000n,
    ]);
    at(-3_600_000 + 5000, 1_600_000n); // the clock was set back an hour: continuing would repeat one time for an hour
    expect(seen.at(-1)).toBe(-3_595_000_000_000n);
  });

  test('stamps a line when it is read', () => {
    const before = Date.now();
    const log = new LogWriter(spec());
    log.write(1, Buffer.from('x\n'));
    const time = Date.parse(linesOf('c-json.log')[0]!.time);
    expect(time).toBeGreaterThanOrEqual(before - 3);
    expect(time).toBeLessThanOrEqual(Date.now() + 3);
    log.close();
  });
});

describe('the log file', () => {
  test('contains each chunk once write returns', () => {
    const log = new LogWriter(spec());
    log.write(1, Buffer.from('one\ntw'));
    log.write(2, Buffer.from('error\n'));
    expect(linesOf('c-json.log').map((l) => l.log)).toEqual(['one\n', 'error\n']);
    log.write(1, Buffer.from('o\nrest'));
    log.flush();
    expect(linesOf('c-json.log').map((l) => l.log)).toEqual(['one\n', 'error\n', 'two\n', 'rest']);
    expect(statSync(join(dir, 'c-json.log')).mode & 0o777).toBe(0o640);
    log.close();
  });

  test('is not written with the driver none', () => {
    const log = new LogWriter({ driver: 'none' });
    log.write(1, Buffer.from('x\n'));
    log.flush();
    expect([log.path, log.mark()]).toEqual([null, null]);
    log.close();
  });

  test('rotates between entries, without loss or duplicates', () => {
    const log = new LogWriter(spec({ maxSize: 2000, maxFile: 200 }));
    let text = '';
    for (let i = 0; i < 300; i++) {
      const chunk = Array.from({ length: i % 5 }, (_, k) => `line ${i} ${k}\n`).join('');
      text += chunk;
      log.write(1, Buffer.from(chunk));
    }
    const names = Array.from({ length: 200 }, (_, n) => (n ? `c-json.log.${n}` : 'c-json.log')).filter((n) =>
      existsSync(join(dir, n)),
    );
    expect(names.length).toBeGreaterThan(20);
    expect(textOf(names.reverse().flatMap(linesOf))).toBe(text);
    for (const name of names) expect(statSync(join(dir, name)).size).toBeLessThan(2100);
    log.close();
  });

  test.each([1, 3])('keeps max-file=%i files', (maxFile) => {
    const log = new LogWriter(spec({ maxSize: 500, maxFile }));
    for (let i = 0; i < 100; i++) log.write(1, Buffer.from(`line ${i}\n`));
    const names = ['c-json.log', 'c-json.log.1', 'c-json.log.2', 'c-json.log.3'].filter((n) =>
      existsSync(join(dir, n)),
    );
    expect(names).toHaveLength(maxFile);
    expect(linesOf('c-json.log').at(-1)!.log).toBe('line 99\n');
    log.close();
  });

  test('continues after an external truncation', () => {
    const log = new LogWriter(spec());
    log.write(1, Buffer.from('old\n'));
    writeFileSync(join(dir, 'c-json.log'), '');
    log.write(1, Buffer.from('new\n'));
    expect(linesOf('c-json.log').map((l) => l.log)).toEqual(['new\n']);
    log.close();
  });

  test('isolates the torn last line of a machine that crashed', () => {
    writeFileSync(join(dir, 'c-json.log'), '{"log":"torn');
    const log = new LogWriter(spec());
    log.write(1, Buffer.from('whole\n'));
    expect(readFileSync(join(dir, 'c-json.log'), 'utf8').split('\n')[1]).toContain('whole');
    log.close();
  });
});

describe('a partial line of a killed writer', () => {
  const settle = (): Promise<void> => sleep(80);

  test('is completed by the next writer', async () => {
    const first = new LogWriter(spec());
    first.write(1, Buffer.from('a\nhalf a '));
    first.write(2, Buffer.from('\xffbin', 'latin1'));
    await settle(); // killed: never closed
    const second = new LogWriter(spec());
    second.write(1, Buffer.from('line\n'));
    second.flush();
    expect(linesOf('c-json.log').map((l) => [l.stream, l.log])).toEqual([
      ['stdout', 'a\n'],
      ['stdout', 'half a line\n'],
      ['stderr', '\ufffdbin'],
    ]);
    first.close();
    second.close();
    expect(statSync(join(dir, 'c-json.log.partial')).size).toBe(0);
  });

  test('is not written twice when its entry was already in the log', async () => {
    const first = new LogWriter(spec());
    first.write(1, Buffer.from('half '));
    await settle();
    const stale = readFileSync(join(dir, 'c-json.log.partial'));
    first.write(1, Buffer.from('whole\n'));
    writeFileSync(join(dir, 'c-json.log.partial'), stale); // killed between the two writes
    const second = new LogWriter(spec());
    second.flush();
    expect(linesOf('c-json.log').map((l) => l.log)).toEqual(['half whole\n']);
    first.close();
    second.close();
  });

  test('is written at once when a writer closes', () => {
    const first = new LogWriter(spec());
    first.write(1, Buffer.from('half '));
    first.close();
    const second = new LogWriter(spec());
    second.write(1, Buffer.from('done\n'));
    expect(linesOf('c-json.log').map((l) => l.log)).toEqual(['half done\n']);
    second.close();
  });
});

describe('a log that cannot be written', () => {
  test('is opened again with the next output', () => {
    const path = join(dir, 'missing', 'c-json.log');
    const log = new LogWriter(spec({ path }));
    log.write(1, Buffer.from('lost\n'));
    expect(log.dropped).toEqual({ lines: 1, bytes: 5 });
    mkdirSync(join(dir, 'missing'));
    log.write(1, Buffer.from('kept\n'));
    expect(linesOf('missing/c-json.log').map((l) => l.log)).toEqual([
      expect.stringContaining('1 lines (5 bytes)'),
      'kept\n',
    ]);
    log.close();
  });

  test('is retried even on /dev/full, which cannot be truncated', () => {
    const log = new LogWriter(spec({ path: '/dev/full' }));
    log.write(1, Buffer.from('x\ny\n'));
    expect(log.dropped).toEqual({ lines: 2, bytes: 4 });
    log.close();
    rmSync('/dev/full.partial', { force: true });
  });
});

describe('a log cursor', () => {
  const readAll = (cursor: LogCursor, log: LogWriter): string => {
    let text = '';
    for (;;) {
      const mark = log.mark()!;
      const entries = cursor.read(mark);
      if (!entries) return text;
      text += entries.map((e) => e.output.toString()).join('');
    }
  };

  test('follows rotations, even when no old file is kept', () => {
    for (const maxFile of [2, 5]) {
      const log = new LogWriter(spec({ path: join(dir, `${maxFile}.log`), maxSize: 1000, maxFile }));
      log.write(1, Buffer.from('before\n'));
      const cursor = LogCursor.at(log.path!, log.mark()!, (file) => log.next(file));
      let [sent, got] = ['', ''];
      for (let i = 0; i < 100; i++) {
        const chunk = `line ${i} é\n`;
        sent += chunk;
        log.write(1, Buffer.from(chunk));
        if (i % 7 === 0) got += readAll(cursor, log);
      }
      expect(got + readAll(cursor, log)).toBe(sent);
      cursor.close();
      log.close();
    }
  });

  test('starts at the oldest file', () => {
    const log = new LogWriter(spec({ maxSize: 300, maxFile: 100 }));
    for (let i = 0; i < 50; i++) log.write(1, Buffer.from(`line ${i}\n`));
    const cursor = LogCursor.oldest(log.path!, (file) => log.next(file))!;
    expect(readAll(cursor, log)).toBe(Array.from({ length: 50 }, (_, i) => `line ${i}\n`).join(''));
    expect(currentFile(log.path!)).toBe(log.mark()!.file);
    cursor.close();
    log.close();
  });

  test('skips what is not an entry', () => {
    const log = new LogWriter(spec());
    log.write(1, Buffer.from('a\n'));
    appendFileSync(log.path!, 'rubbish\n{"x":1}\n');
    log.write(1, Buffer.from('b\n'));
    const cursor = LogCursor.oldest(log.path!, (file) => log.next(file))!;
    expect(readAll(cursor, log)).toBe('a\nb\n');
    cursor.close();
    log.close();
  });
});
