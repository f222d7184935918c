/** The shim starts a container by opening runc's exec.fifo. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { removeStaleFifo, startInit, waitsAtFifo } from '../../src/shim/exec-fifo.ts';

const never = new Promise(() => undefined);
let home: string;
let fifo: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'hf-fifo-'));
  fifo = join(home, 'exec.fifo');
  execFileSync('mkfifo', [fifo]);
});
afterEach(() => rmSync(home, { recursive: true }));

test('a container waits at the fifo only if both the fifo and the state.json of runc exist', () => {
  expect(waitsAtFifo(home)).toBe(false);
  writeFileSync(join(home, 'state.json'), '{}');
  expect(waitsAtFifo(home)).toBe(true);
  rmSync(fifo);
  expect(waitsAtFifo(home)).toBe(false);
});

test.each([0, 50])('an init that opens the fifo after %i ms is started, and the fifo is removed', async (ms) => {
  const init = spawn('sh', ['-c', `sleep ${ms / 1000}; printf 0 >"$1"; exit 5`, 'sh', fifo]);
  const ended = new Promise((resolve) => init.on('exit', resolve));
  expect(await startInit(home, never)).toBe(true);
  expect(existsSync(fifo)).toBe(false);
  expect(await ended).toBe(5);
});

test('an init that has died is not waited for', async () => {
  expect(await startInit(home, Promise.resolve())).toBe(false);
  const dies = sleep(50);
  expect(await startInit(home, dies)).toBe(false);
});

test('the fifo of an init that has it open stays, that of any other process is stale [init-waits-at-fifo]', async () => {
  writeFileSync(join(home, 'state.json'), '{}');
  const init = spawn('sh', ['-c', 'exec 3<>"$1"; echo; exec sleep 60', 'sh', fifo], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    await new Promise((resolve) => init.stdout.once('data', resolve));
    expect(removeStaleFifo(home, init.pid!)).toBe(false);
    expect(existsSync(fifo)).toBe(true);
    expect(removeStaleFifo(home, process.pid)).toBe(true);
    expect(existsSync(fifo)).toBe(false);
  } finally {
    init.kill('SIGKILL');
  }
});
