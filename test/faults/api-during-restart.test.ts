/**
 * Clients never find the API's socket refusing or gone: while one daemon ends and the next one starts, connections
 * wait, and the socket file stays the same one.
 */
import { statSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { request } from '../support/http.ts';
import { until } from '../support/until.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const ENDS = { SIGTERM: () => engine.stop(), SIGKILL: () => engine.kill9() };
type End = keyof typeof ENDS;
const ends = Object.keys(ENDS) as End[];
const CLIENTS = 4;
/** Requests of each client before the daemon ends, and after the next one serves. */
const ENOUGH = 10;

interface Sent {
  at: number;
  outcome: number | string;
}

/** Sends requests one after another, each on a new connection, until `isOver`. */
async function client(requests: Sent[], isOver: () => boolean): Promise<void> {
  for (const paths = ['/_ping', '/containers/json?all=1', '/version']; !isOver();) {
    const at = Date.now();
    const outcome = await request(engine.socket, 'GET', paths[requests.length % paths.length]!).then(
      ({ status }) => status,
      (error: unknown) => (error as NodeJS.ErrnoException).code ?? String(error),
    );
    requests.push({ at, outcome });
  }
}

test.each(ends)(
  'no request is refused while a daemon ends by %s and the next one starts [api-during-restart]',
  async (end) => {
    const requests: Sent[] = [];
    let over = false;
    const clients = Array.from({ length: CLIENTS }, () => client(requests, () => over));
    await until(() => requests.length >= CLIENTS * ENOUGH);
    const endsAt = Date.now();
    await ENDS[end]();
    const before = requests.length;
    // They wait in the queue of the held socket.
    const waiting = request(engine.socket, 'POST', '/containers/create?name=queued', {
      Image: 'busybox',
      Cmd: ['true'],
    });
    await engine.startAgain();
    expect((await waiting).status).toBe(201);
    await until(() => requests.length >= before + CLIENTS * ENOUGH);
    over = true;
    await Promise.all(clients);
    await engine.dockerOutput('rm', 'queued');
    // A killed daemon cannot answer what it has accepted.
    const isCut = ({ at, outcome }: Sent): boolean =>
      end === 'SIGKILL' && outcome === 'ECONNRESET' && at <= endsAt + 1000;
    expect(requests.filter((sent) => sent.outcome !== 200 && !isCut(sent))).toEqual([]);
    expect(requests.filter(isCut).length).toBeLessThanOrEqual(CLIENTS);
  },
);

test('a socket that is mounted into a container stays connected to the current daemon [socket-mounted]', async () => {
  const { socket } = engine;
  await engine.dockerOutput('run', '-d', '--name', 'proxy', '-v', `${socket}:/docker.sock`, 'busybox', 'sleep', '9999');
  const { Pid } = (await engine.inspect<{ State: { Pid: number } }>('proxy')).State;
  const inside = `/proc/${Pid}/root/docker.sock`;
  const inode = statSync(socket).ino;
  for (const end of [...ends, ...ends]) {
    await ENDS[end]();
    await engine.startAgain();
    expect([statSync(socket).ino, statSync(inside).ino]).toEqual([inode, inode]);
    const { json } = await request(inside, 'GET', '/containers/proxy/json');
    expect(json).toMatchObject({ State: { Running: true, Pid } });
  }
});

test('a daemon that is interrupted removes its socket [socket-removed]', async () => {
  process.kill(engine.pid, 'SIGINT');
  await until(() => engine.isDead());
  expect(statSync(engine.socket, { throwIfNoEntry: false })).toBeUndefined();
  await engine.startAgain();
});
