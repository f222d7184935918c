import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LogEntry } from '../../src/engine/logs/log-entry.ts';
import { decodeLines } from '../../src/engine/logs/log-lines.ts';
import { readLog, type LogQuery } from '../../src/engine/logs/logs.ts';
import { parseRfc3339, rfc3339 } from '../../src/engine/time.ts';
import { wallClock } from '../../src/sys/clock.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'logs-'));
  path = join(directory, 'x-json.log');
});
afterEach(() => rmSync(directory, { recursive: true }));

const T0 = 1_700_000_000_000_000_000n;
const line = (log: string, more: { stream?: string; time?: bigint; attrs?: Record<string, string> } = {}): string =>
  `${JSON.stringify({ log, stream: more.stream ?? 'stdout', time: rfc3339(more.time ?? T0), ...(more.attrs && { attrs: more.attrs }) })}\n`;
const numbered = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, i) => line(`${from + i}\n`, { time: T0 + BigInt(from + i) })).join('');

const never = new Promise<void>(() => undefined);

function open(
  query: Partial<LogQuery> = {},
  ended: Promise<void> = Promise.resolve(),
  signal = new AbortController().signal,
): AsyncIterable<LogEntry[]> {
  return readLog(path, { stdout: true, stderr: true, follow: false, ...query }, ended, signal);
}

async function texts(batches: AsyncIterable<LogEntry[]>): Promise<string[]> {
  const found: string[] = [];
  for await (const batch of batches) for (const entry of batch) found.push(entry.line.toString());
  return found;
}

const numbers = async (batches: AsyncIterable<LogEntry[]>): Promise<number[]> => (await texts(batches)).map(Number);
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe('parsing a line', () => {
  const decode = (text: string | Buffer): LogEntry[] => {
    const bytes = Buffer.from(text);
    return decodeLines(bytes, bytes.length);
  };

  test.each<[string, string, Partial<LogEntry>[]]>([
    [
      'accepts a plain one',
      '{"log":"hi\\n","stream":"stdout","time":"2024-01-02T03:04:05.123456789Z"}\n',
      [{ stream: 'stdout', time: '2024-01-02T03:04:05.123456789Z' }],
    ],
    [
      'accepts a time without fraction',
      '{"log":"hi\\n","stream":"stderr","time":"2024-01-02T03:04:05Z"}\n',
      [{ stream: 'stderr', time: '2024-01-02T03:04:05Z' }],
    ],
    [
      'accepts attrs at the end',
      '{"log":"hi\\n","stream":"stdout","time":"2024-01-02T03:04:05Z","attrs":{"tag":"a"}}\n',
      [{ attrs: { tag: 'a' }, time: '2024-01-02T03:04:05Z' }],
    ],
    [
      'accepts attrs in the middle, as dockerd writes them',
      '{"log":"hi\\n","stream":"stderr","attrs":{"tag":"a"},"time":"2024-01-02T03:04:05Z"}\n',
      [{ stream: 'stderr', attrs: { tag: 'a' } }],
    ],
    [
      'accepts other keys first',
      '{"stream":"stderr","log":"hi\\n","time":"2024-01-02T03:04:05Z"}\n',
      [{ stream: 'stderr' }],
    ],
    ['ignores one without a time', '{"log":"hi\\n","stream":"stdout"}\n', []],
    ['ignores garbage', '\0\0\0\0\n', []],
    ['ignores an empty one', '\n', []],
    [
      'recovers the entry after one torn in its text',
      '{"log":"torn{"log":"hi\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n',
      [{ stream: 'stdout' }],
    ],
    [
      'recovers the entry after one torn after an escape',
      '{"log":"to\\trn\\n{"log":"hi\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n',
      [{ stream: 'stdout' }],
    ],
    [
      'recovers the entry after one torn in its time',
      '{"log":"torn\\n","stream":"stdout","time":"2024{"log":"hi\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n',
      [{ stream: 'stdout' }],
    ],
    [
      'recovers the entry after one torn by a power cut',
      '{"log":"torn\\n","str\0\0\0\0{"log":"hi\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n',
      [{ stream: 'stdout' }],
    ],
    [
      'recovers the entry on the line after a torn one',
      '{"log":"torn\n{"log":"hi\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n',
      [{ stream: 'stdout' }],
    ],
  ])('%s', (_, text, expected) => {
    const entries = decode(text);
    expect(entries).toHaveLength(expected.length);
    expected.forEach((e, i) => {
      expect(entries[i]).toMatchObject(e);
      expect(entries[i]!.line.toString()).toBe('hi\n');
    });
  });

  test('keeps every text, however it is escaped', () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.string({ unit: 'binary' }),
      fc.constantFrom('', 'a\\', '"', '\\n', '\n', 'x\ty\r\n', '{"log":"', '€\u{1f600}', '</&>'),
    );
    const entry = fc.record({
      log: text,
      stream: fc.constantFrom('stdout', 'stderr'),
      escaped: fc.boolean(),
      attrs: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (written) => {
        const json = written
          .map(({ log, stream, escaped, attrs }) => {
            const plain = line(log, { stream, ...(attrs && { attrs: { tag: '}"\n' } }) });
            return escaped
              ? plain.replace(/[^\0-\x7f]|[<>&/]/g, (c) =>
                  [...Array(c.length).keys()]
                    .map((i) => `\\u${c.charCodeAt(i).toString(16).padStart(4, '0')}`)
                    .join(''),
                )
              : plain;
          })
          .join('');
        const entries = decode(json);
        expect(entries.map((e) => [e.line.toString(), e.stream, e.time])).toEqual(
          written.map((w) => [Buffer.from(w.log).toString(), w.stream, rfc3339(T0)]),
        );
      }),
      { numRuns: 500 },
    );
  });

  test('keeps bytes that are not UTF-8', () => {
    const bytes = Buffer.concat([
      Buffer.from('{"log":"'),
      Buffer.from([0xff, 0xfe, 0x5c, 0x74, 0x80]),
      Buffer.from('\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n'),
    ]);
    expect([...decode(bytes)[0]!.line]).toEqual([0xff, 0xfe, 0x09, 0x80, 0x0a]);
  });
});

describe('reading a log', () => {
  test('of a missing file gives nothing', async () => {
    expect(await texts(open())).toEqual([]);
    expect(await texts(open({ tail: 5 }))).toEqual([]);
  });

  test('goes from the oldest file to the newest', async () => {
    writeFileSync(`${path}.2`, numbered(0, 10));
    writeFileSync(`${path}.1`, numbered(10, 20));
    writeFileSync(path, numbered(20, 30));
    expect(await numbers(open())).toEqual(range(0, 30));
  });

  test('spans chunks and long lines', async () => {
    const long = 'x'.repeat(700_000);
    writeFileSync(path, numbered(0, 40_000) + line(`${long}\n`) + numbered(40_000, 40_010));
    const found = await texts(open());
    expect(found).toHaveLength(40_011);
    expect(found[40_000]).toBe(`${long}\n`);
    expect(Number(found.at(-1))).toBe(40_009);
  });

  test('leaves out an unfinished last line, in the newest and in a rotated file', async () => {
    writeFileSync(`${path}.1`, numbered(0, 3) + '{"log":"to');
    writeFileSync(path, numbered(3, 5) + '{"log":"torn\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}');
    expect(await numbers(open())).toEqual(range(0, 5));
    expect(await numbers(open({ tail: 3 }))).toEqual([2, 3, 4]);
  });

  test('can be limited to one stream', async () => {
    writeFileSync(path, line('a\n') + line('b\n', { stream: 'stderr' }) + line('c\n'));
    expect(await texts(open({ stderr: false }))).toEqual(['a\n', 'c\n']);
    expect(await texts(open({ stdout: false }))).toEqual(['b\n']);
  });

  test('includes both since and until', async () => {
    writeFileSync(path, numbered(0, 20));
    expect(await numbers(open({ since: T0 + 5n }))).toEqual(range(5, 20));
    expect(await numbers(open({ until: T0 + 5n }))).toEqual(range(0, 6));
    expect(await numbers(open({ since: T0 + 5n, until: T0 + 7n }))).toEqual([5, 6, 7]);
    expect(await numbers(open({ since: T0 + 1_000_000_000n }))).toEqual([]);
    expect(await numbers(open({ since: T0 - 1_000_000_000n }))).toEqual(range(0, 20));
  });

  test('does not open files last written before since', async () => {
    writeFileSync(`${path}.1`, numbered(0, 5));
    utimesSync(`${path}.1`, 1, 1);
    writeFileSync(path, numbered(5, 10));
    expect(await numbers(open({ since: T0 }))).toEqual(range(5, 10));
  });
});

describe('tail', () => {
  test.each([0, 1, 4, 5, 6, 10, 11, 14, 15, 16, 1_000])(
    '%i returns that many of 15 lines in three files',
    async (tail) => {
      writeFileSync(`${path}.2`, numbered(0, 5));
      writeFileSync(`${path}.1`, numbered(5, 10));
      writeFileSync(path, numbered(10, 15));
      expect(await numbers(open({ tail }))).toEqual(range(Math.max(0, 15 - tail), 15));
    },
  );

  test('spans many blocks', async () => {
    writeFileSync(`${path}.1`, numbered(0, 3_000));
    writeFileSync(path, numbered(3_000, 5_000));
    for (const tail of [1_500, 1_999, 2_000, 2_001, 4_999])
      expect(await numbers(open({ tail }))).toEqual(range(5_000 - tail, 5_000));
  });

  test('counts the lines of both streams, as dockerd does', async () => {
    writeFileSync(path, line('a\n') + line('b\n', { stream: 'stderr' }) + line('c\n'));
    expect(await texts(open({ tail: 2, stderr: false }))).toEqual(['c\n']);
  });

  test('0 while following returns only new lines', async () => {
    writeFileSync(path, numbered(0, 10) + '{"log":"');
    const leaving = new AbortController();
    const found: string[] = [];
    const reading = (async () => {
      for await (const batch of open({ tail: 0, follow: true }, never, leaving.signal))
        found.push(...batch.map((e) => e.line.toString()));
    })();
    await sleep(30);
    appendFileSync(path, `late\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n${numbered(10, 11)}`);
    await expect.poll(() => found, { timeout: 2_000 }).toEqual(['late\n', '10\n']);
    leaving.abort();
    await reading;
  });
});

describe('follow', () => {
  test('of a stopped container returns everything and ends', async () => {
    writeFileSync(path, numbered(0, 10));
    expect(await numbers(open({ follow: true }))).toEqual(range(0, 10));
  });

  test('returns a new line within 100 ms', async () => {
    writeFileSync(path, '');
    const leaving = new AbortController();
    const delays: bigint[] = [];
    const reading = (async () => {
      for await (const batch of open({ follow: true }, never, leaving.signal))
        for (const e of batch) delays.push(wallClock() - parseRfc3339(e.time));
    })();
    for (let i = 0; i < 5; i++) {
      await sleep(40);
      appendFileSync(path, line(`${i}\n`, { time: wallClock() }));
    }
    await expect.poll(() => delays.length, { timeout: 2_000 }).toBe(5);
    leaving.abort();
    await reading;
    expect(Math.min(...delays.map(Number))).toBeLessThan(100e6);
  });

  test('waits for a log that does not exist yet', async () => {
    let end = (): void => undefined;
    const reading = numbers(
      open(
        { follow: true },
        new Promise((resolve) => {
          end = resolve;
        }),
      ),
    );
    await sleep(30);
    writeFileSync(path, numbered(0, 5));
    end();
    expect(await reading).toEqual(range(0, 5));
  });

  test('returns everything written before the end', async () => {
    let end = (): void => undefined;
    const reading = numbers(
      open(
        { follow: true },
        new Promise((resolve) => {
          end = resolve;
        }),
      ),
    );
    for (let i = 0; i < 5; i++) {
      appendFileSync(path, numbered(i * 100, i * 100 + 100));
      await sleep(3);
    }
    appendFileSync(path, numbered(500, 600));
    end();
    expect(await reading).toEqual(range(0, 600));
  });

  test('ends at its until', async () => {
    writeFileSync(path, line('old\n', { time: wallClock() }));
    const until = wallClock() + 100_000_000n;
    const reading = texts(open({ follow: true, until }, never));
    await sleep(20);
    appendFileSync(path, line('in time\n', { time: wallClock() }));
    expect(await reading).toEqual(['old\n', 'in time\n']);
    expect(wallClock()).toBeGreaterThan(until);
  });

  test('ends when its reader leaves', async () => {
    writeFileSync(path, numbered(0, 1));
    const leaving = new AbortController();
    const reading = texts(open({ follow: true }, never, leaving.signal));
    await sleep(20);
    leaving.abort();
    expect(await reading).toEqual(['0\n']);
  });

  test('starts over when the file is truncated by hand', async () => {
    writeFileSync(path, numbered(0, 10));
    let end = (): void => undefined;
    const found: string[] = [];
    const reading = (async () => {
      for await (const batch of open(
        { follow: true },
        new Promise((resolve) => {
          end = resolve;
        }),
      ))
        found.push(...batch.map((e) => e.line.toString()));
    })();
    await expect.poll(() => found.length).toBe(10);
    truncateSync(path);
    await sleep(1_200);
    appendFileSync(path, numbered(10, 12));
    end();
    await reading;
    expect(found.map(Number)).toEqual(range(0, 12));
  });

  test('loses and repeats no line through fast rotations with torn writes', async () => {
    const files = 6;
    const total = 30_000;
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const followers = [0, 1, 2].map(() => numbers(open({ follow: true }, ended)));
    let fd = openSync(path, 'a');
    let written = 0;
    let size = 0;
    while (written < total) {
      const text = Buffer.from(numbered(written, Math.min(total, written + 37)));
      written += 37;
      // In two pieces, so that a read can happen in between.
      writeSync(fd, text.subarray(0, text.length - 20));
      if (written % 5 === 0) await sleep(0);
      writeSync(fd, text.subarray(text.length - 20));
      size += text.length;
      if (size > 60_000) {
        size = 0;
        for (let n = files - 1; n > 0; n--) {
          const from = n === 1 ? path : `${path}.${n - 1}`;
          if (existsSync(from)) renameSync(from, `${path}.${n}`);
        }
        closeSync(fd);
        fd = openSync(path, 'a');
        // Slow enough that the follower is not overtaken by all the files.
        await sleep(8);
      }
    }
    closeSync(fd);
    end();
    for (const found of await Promise.all(followers)) expect(found).toEqual(range(0, total));
  }, 30_000);
});
