/** The daemon's end of the connection to a shim, against shims that the test plays. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ShimLink } from '../../src/engine/shims/link.ts';
import { Unavailable } from '../../src/model/errors.ts';

let run = '';
let server: Server;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), 'hl-'));
});
afterEach(() => {
  server.close();
  rmSync(run, { recursive: true });
});

/** A shim that answers each line with what `answer` returns. */
function shim(answer: (request: { id: number; op: string }, socket: Socket) => string): Promise<void> {
  server = createServer((socket) => {
    socket.setEncoding('utf8');
    socket.on('error', () => undefined);
    socket.on('data', (text: string) => {
      for (const line of text.trim().split('\n'))
        socket.write(answer(JSON.parse(line) as { id: number; op: string }, socket));
    });
  });
  return new Promise((resolve) => server.listen(join(run, 'ctl'), resolve));
}

const hello = (id: number): string => `${JSON.stringify({ id, result: { seq: 0 } })}\n`;

test('a malformed message ends the connection, not the daemon', async () => {
  await shim(({ id, op }) => (op === 'hello' ? hello(id) : '{"id":\n'));
  let ends = 0;
  const { link } = await ShimLink.open(run, { onRing: () => undefined, onEnd: () => ends++ });
  await expect(link.request({ op: 'since', seq: 0, limit: 1 })).rejects.toThrow(Unavailable);
  expect([link.closed, ends]).toEqual([true, 1]);
});

test('a malformed first message is Unavailable', async () => {
  await shim(() => 'hello?\n');
  await expect(ShimLink.open(run, { onRing: () => undefined, onEnd: () => undefined })).rejects.toThrow(Unavailable);
});

test('answers arrive in any order and in pieces, with doorbells in between', async () => {
  const held: number[] = [];
  await shim(({ id, op }, socket) => {
    if (op === 'hello') return hello(id);
    held.push(id);
    if (held.length < 2) return '';
    const text = held
      .reverse()
      .map((one) => `${JSON.stringify({ id: one, result: { last: one } })}\n`)
      .join('{"ring":7}\n');
    for (const piece of text) socket.write(piece);
    return '';
  });
  const rings: number[] = [];
  const { link } = await ShimLink.open(run, { onRing: (seq) => rings.push(seq), onEnd: () => undefined });
  const answers = await Promise.all([
    link.request({ op: 'since', seq: 0, limit: 1 }),
    link.request({ op: 'since', seq: 0, limit: 1 }),
  ]);
  expect(answers.map(({ last }) => last)).toEqual([2, 3]);
  expect(rings).toEqual([7]);
  link.close();
});
