/**
 * Sends bad requests to Debian's dockerd and to Holdfast: status and message must be equal, except for the reasoned
 * differences of parity-differences.ts. Only a real dockerd shows what Docker answers.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { badRequests, type BadRequest } from './bad-requests.ts';
import { busyboxTar } from '../support/busybox.ts';
import { startDockerd, type Dockerd } from '../support/dockerd.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { request } from '../support/http.ts';
import { differences } from './parity-differences.ts';

const MIN_REQUESTS = 120;

/** dockerd looks for a plugin of that name for 15 s, so these requests are sent first. */
const SLOW = ['create: log driver', 'POST /volumes/create {"Name":"x","Driver":"missing"}'];

const slowAnswers = new Map<string, Promise<{ status: number; message: string }>>();
let holdfast: TestEngine;
let dockerd: Dockerd;

/** Creates the same three containers and two images on either engine. */
async function prepare(socket: string): Promise<void> {
  const send = async (
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<void> => {
    const answer = await request(socket, method, path, body, headers);
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.text}`);
  };
  const tar = { 'Content-Type': 'application/x-tar' };
  await send('POST', '/images/create?fromSrc=-&repo=busybox&tag=latest', busyboxTar(), tar);
  await send('POST', '/images/create?fromSrc=-&repo=bare&tag=latest', busyboxTar(), tar);
  for (const name of ['running', 'stopped', 'paused']) {
    await send('POST', `/containers/create?name=${name}`, {
      Image: 'busybox',
      Cmd: ['sleep', '1000'],
      HostConfig: { NetworkMode: 'none' },
    });
    if (name !== 'stopped') await send('POST', `/containers/${name}/start`);
  }
  await send('POST', '/containers/paused/pause');
}

async function refusal(socket: string, bad: BadRequest): Promise<{ status: number; message: string }> {
  const { status, text, json } = await request(
    socket,
    bad.method,
    bad.path.replace(/[{}"[\]]/g, encodeURIComponent),
    bad.raw ?? bad.body,
    bad.headers,
  );
  const message = (json as { message?: string } | undefined)?.message ?? text.trim();
  return { status, message: message.replace(/\b[0-9a-f]{64}\b/g, '<id>').replace(/\b[0-9a-f]{12}\b/g, '<short id>') };
}

beforeAll(async () => {
  [holdfast, dockerd] = await Promise.all([startEngine(), startDockerd()]);
  await Promise.all([prepare(holdfast.socket), prepare(dockerd.socket)]);
  for (const bad of badRequests) if (SLOW.includes(bad.name)) slowAnswers.set(bad.name, refusal(dockerd.socket, bad));
});

afterAll(async () => {
  if (dockerd) {
    for (const name of ['running', 'stopped', 'paused'])
      await request(dockerd.socket, 'DELETE', `/containers/${name}?force=1`);
    await dockerd[Symbol.asyncDispose]();
  }
  await holdfast?.[Symbol.asyncDispose]();
});

describe('a bad request is refused with the same status and message as by dockerd [bad-requests-parity]', () => {
  test(`at least ${MIN_REQUESTS} distinct requests are compared`, () => {
    expect(badRequests.length).toBeGreaterThanOrEqual(MIN_REQUESTS);
    expect(new Set(badRequests.map((b) => b.name)).size).toBe(badRequests.length);
  });

  for (const bad of badRequests) {
    test(bad.name, async () => {
      const ours = await refusal(holdfast.socket, bad);
      const theirs = await (slowAnswers.get(bad.name) ?? refusal(dockerd.socket, bad));
      const difference = differences[bad.name];
      if (difference) {
        expect(ours, difference.reason).toEqual({
          status: difference.status,
          message:
            difference.message instanceof RegExp ? expect.stringMatching(difference.message) : difference.message,
        });
        expect(ours, 'the difference no longer exists: remove it from parity-differences.ts').not.toEqual(theirs);
      } else {
        expect(ours).toEqual(theirs);
      }
    });
  }
});
