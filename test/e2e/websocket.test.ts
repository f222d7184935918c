/** GET /containers/{id}/attach/ws with a real WebSocket client (ws), as docker-py and browsers use it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import WebSocket from 'ws';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

interface Session {
  socket: WebSocket;
  text(): string;
  /** For each message, whether it was binary. */
  binary: boolean[];
  closed: Promise<void>;
}

function attach(path: string): Promise<Session> {
  const socket = new WebSocket(`ws+unix://${engine.socket}:${path}`);
  let text = '';
  const binary: boolean[] = [];
  socket.on('message', (data: Buffer, isBinary) => {
    text += data.toString();
    binary.push(isBinary);
  });
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  return new Promise((resolve, reject) => {
    socket.on('open', () => resolve({ socket, text: () => text, binary, closed }));
    socket.on('unexpected-response', (_request, answer) => reject(new Error(String(answer.statusCode))));
    socket.on('error', reject);
  });
}

async function create(name: string, fields: Record<string, unknown>): Promise<void> {
  const { status, text } = await engine.api('POST', `/containers/create?name=${name}`, {
    Image: 'busybox',
    HostConfig: { NetworkMode: 'none' },
    ...fields,
  });
  expect(status, text).toBe(201);
}

test('stdin is forwarded, output arrives unframed, and the socket closes with the container', async () => {
  await create('cat', {
    Cmd: ['sh', '-c', 'read line; echo "got $line"; echo err >&2'],
    OpenStdin: true,
    StdinOnce: true,
  });
  const session = await attach('/containers/cat/attach/ws?stream=1&stdin=1&stdout=1&stderr=1');
  expect((await engine.api('POST', '/containers/cat/start')).status).toBe(204);
  session.socket.send('hello\n');
  await session.closed;
  expect(session.text()).toContain('got hello\n');
  expect(session.text()).toContain('err\n');
  expect(session.binary.every(Boolean)).toBe(true);
});

test('API 1.42 and later select the streams, older versions send both', async () => {
  await create('both', { Cmd: ['sh', '-c', 'echo out; echo err >&2'] });
  expect((await engine.api('POST', '/containers/both/start')).status).toBe(204);
  await engine.api('POST', '/containers/both/wait');
  const logged = async (version: string): Promise<string> => {
    const session = await attach(`/${version}/containers/both/attach/ws?logs=1&stdout=1`);
    await session.closed;
    return session.text();
  };
  expect(await logged('v1.42')).toBe('out\n');
  expect((await logged('v1.41')).split('\n').sort()).toEqual(['', 'err', 'out']);
});

test('a client that disconnects does not affect the container', async () => {
  await create('long', { Cmd: ['sh', '-c', 'while :; do echo tick; sleep 0.1; done'] });
  expect((await engine.api('POST', '/containers/long/start')).status).toBe(204);
  const session = await attach('/containers/long/attach/ws?stream=1&stdout=1');
  await until(() => session.text().includes('tick'));
  session.socket.terminate();
  await session.closed;
  const again = await attach('/containers/long/attach/ws?stream=1&stdout=1');
  await until(() => again.text().includes('tick'));
  again.socket.close();
});

test('refusals are plain HTTP answers, and raw attach by Upgrade still works', async () => {
  await expect(attach('/containers/missing/attach/ws?stream=1')).rejects.toThrow('404');
  await expect(attach('/containers/long/attach/ws?stream=1&detachKeys=nonsense')).rejects.toThrow('400');
  await expect(attach('/v1.99/containers/long/attach/ws?stream=1')).rejects.toThrow('400');
  expect((await engine.api('GET', '/containers/long/attach/ws?stream=1')).status).toBe(400);
  const attached = engine.docker('attach', '--no-stdin', 'long');
  await until(() => attached.stdout().includes('tick'));
  expect((await engine.docker('rm', '-f', 'long').result).exitCode).toBe(0);
  await attached.result;
});
