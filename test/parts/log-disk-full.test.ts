/** The log writer on a file system that runs full. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseLogLine, type LogLine } from '../../src/protocol/log-format.ts';
import { LogWriter } from '../../src/shim/log/writer.ts';
import { mount, unmount } from '../../src/sys/mount.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'log-'));
  mount('tmpfs', dir, 'tmpfs', 0, 'size=64k');
});
afterEach(() => {
  unmount(dir);
  rmSync(dir, { recursive: true, force: true });
});

const linesOf = (file: string): LogLine[] =>
  readFileSync(join(dir, file), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => parseLogLine(line)!);

test('drops what does not fit, tears no line, and logs how much was dropped once there is room', () => {
  writeFileSync(join(dir, 'ballast'), Buffer.alloc(32 * 1024));
  const log = new LogWriter({
    driver: 'json-file',
    path: join(dir, 'c-json.log'),
    maxSize: 0,
    maxFile: 1,
    attrs: {},
  });
  let sent = 0;
  for (let i = 0; i < 1000; i++)
    log.write(1, Buffer.from(`line ${String(sent++).padStart(6, '0')}\nline ${String(sent++).padStart(6, '0')}\n`));
  const { lines, bytes } = log.dropped;
  expect(lines).toBeGreaterThan(1000);
  expect(bytes).toBe(lines * 12);
  expect(log.faithful).toBe(false);
  const kept = linesOf('c-json.log');
  expect(kept.every(Boolean)).toBe(true);
  expect(kept.length + lines).toBe(2000);

  rmSync(join(dir, 'ballast'));
  log.write(1, Buffer.from('again\n'));
  expect(log.dropped.lines).toBe(0);
  expect(log.faithful).toBe(false); // the notice is in between
  log.write(1, Buffer.from('and again\n'));
  expect(log.faithful).toBe(true);
  expect(
    linesOf('c-json.log')
      .slice(-3)
      .map((l) => l.log),
  ).toEqual([
    `[holdfast] ${lines} lines (${bytes} bytes) of output were dropped: the log could not be written (ENOSPC)\n`,
    'again\n',
    'and again\n',
  ]);
  log.close();
});
