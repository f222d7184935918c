/**
 * Bad requests are refused as dockerd refuses them: same status, same words, but for a table of differences with
 * reasons.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { badRequests, type BadRequest } from './bad-requests.ts';
import { busyboxTar } from '../support/busybox.ts';
import { startDockerd, type Dockerd } from '../support/dockerd.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { request } from '../support/http.ts';
import { differences } from './parity-differences.ts';

const FEWEST = 120;

/** dockerd looks for a plugin of that name for 15 s: it is asked before all else. */
const SLOW = ['create: log driver', 'POST /volumes/create {"Name":"x","Driver":"missing"}'];

const begun = new Map<string, Promise<{ status: number; message: string }>>();
let holdfast: TestEngine;
let dockerd: Dockerd;

/** The same three containers and two images on either engine. */
async function prepare(socket: string): Promise<void> {
  const must = async (
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<void> => {
    const answer = await request(socket, method, path, body, headers);
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.text}`);
  };
  const tar = { 'Content-Type': 'application/x-tar' };
  await must('POST', '/images/create?fromSrc=-&repo=busybox&tag=latest', busyboxTar(), tar);
  await must('POST', '/images/create?fromSrc=-&repo=bare&tag=latest', busyboxTar(), tar);
  for (const name of ['running', 'stopped', 'paused']) {
    await must('POST', `/containers/create?name=${name}`, {
      Image: 'busybox',
      Cmd: ['sleep', '1000'],
      HostConfig: { NetworkMode: 'none' },
    });
    if (name !== 'stopped') await must('POST', `/containers/${name}/start`);
  }
  await must('POST', '/containers/paused/pause');
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
  for (const bad of badRequests) if (SLOW.includes(bad.name)) begun.set(bad.name, refusal(dockerd.socket, bad));
});

afterAll(async () => {
  if (dockerd) {
    for (const name of ['running', 'stopped', 'paused'])
      await request(dockerd.socket, 'DELETE', `/containers/${name}?force=1`);
    await dockerd[Symbol.asyncDispose]();
  }
  await holdfast?.[Symbol.asyncDispose]();
});

describe('bad requests, on dockerd and on Holdfast', () => {
  test(`there are at least ${FEWEST}`, () => {
    expect(badRequests.length).toBeGreaterThanOrEqual(FEWEST);
    expect(new Set(badRequests.map((b) => b.name)).size).toBe(badRequests.length);
  });

  for (const bad of badRequests) {
    test(bad.name, async () => {
      const ours = await refusal(holdfast.socket, bad);
      const theirs = await (begun.get(bad.name) ?? refusal(dockerd.socket, bad));
      const difference = differences[bad.name];
      if (difference) {
        expect(ours, difference.reason).toEqual({
          status: difference.status,
          message:
            difference.message instanceof RegExp ? expect.stringMatching(difference.message) : difference.message,
        });
        expect(ours, 'the difference is gone: take it off the table').not.toEqual(theirs);
      } else {
        expect(ours).toEqual(theirs);
      }
    });
  }
});
