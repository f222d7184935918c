/**
 * Runs with random exit codes and signals, in parallel, half of them exiting immediately after the start: every exit
 * code is correct, and no shim has a zombie child. HOLDFAST_RUNS sets how many.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { opened } from '../support/http.ts';
import { until } from '../support/until.ts';

const RUNS = Number(process.env.HOLDFAST_RUNS ?? 160);
const PARALLEL = 8;
const SIGNALS = [6, 9, 11, 15];

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

/** Unreaped dead children of running shims, as lines of /proc/PID/stat. */
function zombiesUnderShims(): string[] {
  const shims = new Set(engine.shims().map(String));
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
        const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return state === 'Z' && shims.has(ppid!) ? [stat] : [];
      } catch {
        return [];
      }
    });
}

test(`${RUNS} runs, ${PARALLEL} in parallel: every exit code is correct`, async () => {
  const wrong: string[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < RUNS; i = next++) {
      const signal = i % 4 === 3 ? SIGNALS[(i >> 2) % SIGNALS.length]! : 0;
      const code = Math.floor(Math.random() * 256);
      const end = signal ? `kill -${signal} $$; sleep 5` : `exit ${code}`;
      const script = i % 2 === 0 ? end : `usleep ${Math.floor(Math.random() * 50_000)}; ${end}`;
      const body = {
        Image: 'busybox',
        Cmd: ['sh', '-c', script],
        HostConfig: { NetworkMode: 'none', ...(signal ? { PidMode: 'host' } : {}) },
      };
      const { Id } = (await engine.api('POST', '/containers/create', body)).json as { Id: string };
      const waited = await opened(engine.socket, 'POST', `/containers/${Id}/wait?condition=next-exit`);
      const started = await engine.api('POST', `/containers/${Id}/start`);
      if (started.status !== 204) wrong.push(`${i}: start ${started.text}`);
      const waitCode = ((await waited.answer).json as { StatusCode: number }).StatusCode;
      const expected = signal ? 128 + signal : code;
      const { State } = (await engine.api('GET', `/containers/${Id}/json`)).json as {
        State: { ExitCode: number; Status: string };
      };
      if (waitCode !== expected || State.ExitCode !== expected || State.Status !== 'exited')
        wrong.push(
          `${i}: expected ${expected}, wait returned ${waitCode}, inspect shows ${State.Status} ${State.ExitCode}`,
        );
      await engine.api('DELETE', `/containers/${Id}`);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  expect(wrong).toEqual([]);
  await until(() => zombiesUnderShims().length === 0);
}, 1_200_000);
