/** runc's exec.fifo, opened by the shim. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startInit, waitsAtFifo } from '../../src/shim/exec-fifo.ts';

const never = new Promise(() => undefined);
let home: string;
let fifo: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'hf-fifo-'));
  fifo = join(home, 'exec.fifo');
  execFileSync('mkfifo', [fifo]);
});
afterEach(() => rmSync(home, { recursive: true }));

test('only runc keeps its state so', () => {
  expect(waitsAtFifo(home)).toBe(false);
  writeFileSync(join(home, 'state.json'), '{}');
  expect(waitsAtFifo(home)).toBe(true);
  rmSync(fifo);
  expect(waitsAtFifo(home)).toBe(false);
});

test.each([0, 50])('an init that comes to it within %i ms goes on, and the fifo is gone', async (ms) => {
  const init = spawn('sh', ['-c', `sleep ${ms / 1000}; printf 0 >"$1"; exit 5`, 'sh', fifo]);
  const ended = new Promise((resolve) => init.on('exit', resolve));
  expect(await startInit(home, never)).toBe(true);
  expect(existsSync(fifo)).toBe(false);
  expect(await ended).toBe(5);
});

test('an init that died before is not waited for', async () => {
  expect(await startInit(home, Promise.resolve())).toBe(false);
  const dies = new Promise((resolve) => setTimeout(resolve, 50));
  expect(await startInit(home, dies)).toBe(false);
});
