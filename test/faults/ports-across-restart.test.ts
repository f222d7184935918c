/**
 * Published ports of many containers answer every request while the daemon is killed, is away and starts: no rule is
 * flushed and set again.
 */
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

const CONTAINERS = 12;
const BASE = 21_900;
/** Requests of each prober in each stretch of time: before, while down, after. */
const ENOUGH = 25;
const CONNECT_MS = 30_000;

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

/** Connects and reads one line. @returns it, or the error's code */
const asked = (port: number, host: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect({ port, host, timeout: CONNECT_MS });
    let text = '';
    socket.on('data', (chunk) => (text += chunk.toString()));
    socket.on('end', () => resolve(text.trim()));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('timeout', () => {
      socket.destroy();
      resolve('timeout');
    });
  });

test.each(['SIGKILL', 'SIGTERM'])(
  'each published port answers all the time while the daemon ends by %s and starts [ports-across-restart]',
  async (end) => {
    const names = Array.from({ length: CONTAINERS }, (_, i) => `web-${end.toLowerCase()}-${i}`);
    for (const [i, name] of names.entries())
      await engine.dockerOutput(
        ...['run', '-d', '--name', name, '-p', `${BASE + i}:80`, 'busybox'],
        ...['nc', '-ll', '-p', '80', '-e', 'echo', `here-${i}`],
      );
    for (const [i] of names.entries()) await until(async () => (await asked(BASE + i, '127.0.0.1')) === `here-${i}`);
    const wrong: string[] = [];
    let [requests, over] = [0, false];
    const prober = async (offset: number): Promise<void> => {
      for (let n = offset; !over; n++) {
        const i = n % CONTAINERS;
        const answer = await asked(BASE + i, '127.0.0.1');
        if (answer !== `here-${i}`) wrong.push(`${i}: ${answer}`);
        requests++;
      }
    };
    const probers = [0, CONTAINERS / 2].map(prober);
    const some = async (): Promise<void> => {
      const before = requests;
      await until(() => requests >= before + ENOUGH * probers.length, 120_000);
    };
    await some();
    await (end === 'SIGKILL' ? engine.kill9() : engine.stop());
    await some();
    await engine.startAgain();
    await some();
    await until(
      () => engine.log().split('all containers are restored').length === engine.log().split('"serving"').length,
    );
    await some();
    over = true;
    await Promise.all(probers);
    expect(wrong).toEqual([]);
    console.log(`${requests} requests, none failed`);
    await engine.dockerOutput('rm', '-f', ...names);
  },
);
