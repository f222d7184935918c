/** Pairs of operations that once had an answer of no serial order (operation-pairs.test.ts tries all pairs). */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { archive, file } from '../support/tar.ts';

const ROUNDS = 6;
const tar = archive(file('copied', 'x'));

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

async function created(): Promise<string> {
  const body = { Image: 'busybox', Cmd: ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 1 & wait; done'] };
  return ((await engine.api('POST', '/containers/create', body)).json as { Id: string }).Id;
}

test('uploads of the same file at the same time are both done [pair-cp-cp]', async () => {
  const id = await created();
  const upload = async (): Promise<string> => {
    const path = `/containers/${id}/archive?path=/tmp`;
    const { status, text } = await engine.api('PUT', path, tar, { 'Content-Type': 'application/x-tar' });
    return `${status} ${text}`;
  };
  for (let i = 0; i < ROUNDS; i++)
    expect(await Promise.all([upload(), upload(), upload()])).toEqual(['200 ', '200 ', '200 ']);
});

test.each(['stop?t=20', 'kill'])('a pause beside %s has happened or is refused [pair-end-pause]', async (end) => {
  const id = await created();
  for (let i = 0; i < ROUNDS; i++) {
    expect((await engine.api('POST', `/containers/${id}/start`)).status).toBe(204);
    const ended = engine.api('POST', `/containers/${id}/${end}`);
    await new Promise((resolve) => setTimeout(resolve, i * 10));
    const paused = await engine.api('POST', `/containers/${id}/pause`);
    expect([204, 409], paused.text).toContain(paused.status);
    expect([204, 409]).toContain((await ended).status);
    await engine.api('POST', `/containers/${id}/kill`);
  }
});
