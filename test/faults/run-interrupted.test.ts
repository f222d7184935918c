/**
 * `docker run --rm` attaches before it asks for the start. When the daemon is killed within that start, nothing runs
 * that could end the client's streams: the shim must, whether or not another daemon comes.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { unframe } from '../support/frames.ts';
import { opened } from '../support/http.ts';
import { until } from '../support/until.ts';

/** docker's exit code when the engine failed. */
const ENGINE_FAILED = 125;
const CLI_ENDS_MS = 12_000;
const TEST_MS = 40_000;

let engine: TestEngine;
beforeAll(async () => (engine = await startEngine()));
afterAll(() => engine[Symbol.asyncDispose]());

/** Starts `docker run` with a daemon that is killed at `point`. Returns when it is dead. */
async function runUntilKilled(point: string, name: string) {
  const armed = join(engine.root, 'armed');
  await engine.stop();
  await engine.startAgain({ HOLDFAST_FAULT: point, HOLDFAST_FAULT_ARMED: armed });
  writeFileSync(armed, '');
  const run = engine.docker('run', '--rm', '--name', name, 'busybox', 'echo', 'never');
  await until(() => engine.isDead());
  rmSync(armed);
  return run;
}

const within = (exitCode: Promise<number>): Promise<number | string> =>
  Promise.race([exitCode, new Promise<string>((done) => setTimeout(() => done('still runs'), CLI_ENDS_MS).unref())]);

test.each([['attachment.before'], ['start.prepared']])(
  'daemon killed at %s of a run: the client ends with 125, the container is left created, without a shim [run-interrupted]',
  async (point) => {
    const name = point.replace('.', '-');
    const run = await runUntilKilled(point, name);
    await engine.startAgain();
    expect(await within(run.exitCode)).toBe(ENGINE_FAILED);
    expect(run.stdout()).toBe('');
    expect(await engine.inspect(name)).toMatchObject({ State: { Status: 'created' } });
    await until(() => engine.shims().length === 0);
    await engine.dockerOutput('rm', name);
  },
  TEST_MS,
);

test(
  'daemon killed within a start, and none follows: the client ends, and the next daemon removes the container',
  async () => {
    const run = await runUntilKilled('start.created', 'half-started');
    expect(await within(run.exitCode)).toBe(ENGINE_FAILED);
    await engine.startAgain();
    await until(async () => (await engine.api('GET', '/containers/half-started/json')).status === 404);
    await until(() => engine.shims().length === 0);
  },
  TEST_MS,
);

test(
  'a client that attached before the daemon was replaced receives the output of a start that follows',
  async () => {
    const name = 'later';
    await engine.dockerOutput('create', '--name', name, 'busybox', 'echo', 'hi');
    const { answer } = await opened(engine.socket, 'POST', `/containers/${name}/attach?stream=1&stdout=1&stderr=1`);
    await engine.kill9();
    await engine.startAgain();
    await engine.dockerOutput('start', name);
    expect(unframe((await answer).body)).toEqual({ 1: 'hi\n', 2: '', rest: 0 });
  },
  TEST_MS,
);
