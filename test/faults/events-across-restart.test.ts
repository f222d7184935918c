/**
 * A consumer of events that asks again with the time of the last one it saw gets each event exactly once, with the time
 * at which it happened, whatever happened to the daemon meanwhile.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerOf } from '../support/docker-cli.ts';
import { startEngine, type TestEngine } from '../support/engine.ts';
import { recordsOf } from '../support/shims.ts';
import { until } from '../support/until.ts';

interface DockerEvent {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  timeNano: number;
}

let engine: TestEngine;
beforeAll(async () => {
  engine = await startEngine();
});
afterAll(async () => engine?.[Symbol.asyncDispose]());

const { ok } = dockerOf(() => engine);

const parsed = (text: string): DockerEvent[] =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as DockerEvent);

async function eventsSince(since: string): Promise<DockerEvent[]> {
  const end = Math.ceil(Date.now() / 1000) + 1;
  return parsed((await engine.api('GET', `/events?since=${since}&until=${end}`)).text);
}

const short = ({ Type, Action }: DockerEvent): string => `${Type} ${Action}`;

test.each(['SIGTERM', 'SIGKILL'])(
  'events over %s are replayed once each, with those of the time without a daemon [events-across-restart]',
  async (end) => {
    const MORTAL = 'while [ ! -e /die ]; do usleep 20000; done; exit 7';
    const began = (Date.now() / 1000).toFixed(9);
    const stream = engine.docker('events', '--since', began, '--format', '{{json .}}');
    const id = await ok('run', '-d', '--restart', 'on-failure:1', 'busybox', 'sh', '-c', MORTAL);
    await ok('network', 'create', `n-${end.toLowerCase()}`);
    await until(() => parsed(stream.stdout()).some((event) => short(event) === 'network create'), 60_000);
    await (end === 'SIGTERM' ? engine.stop() : engine.kill9());
    await stream.result;
    const seen = parsed(stream.stdout());

    const downAt = Date.now();
    engine.writeInto(id, 'die', '');
    // It exits, is started by its policy, finds the file again and ends for good.
    await until(() => recordsOf(engine, id).some(({ type }) => type === 'final'), 60_000);
    const upAt = Date.now();
    await engine.startAgain();
    await engine.docker('wait', id).result;

    // As a consumer does that has lost its stream: from the last event on, without what it has seen.
    const last = seen.at(-1)!.timeNano;
    const later = (await eventsSince((Number(BigInt(last) / 1_000_000_000n) - 1).toString())).filter(
      ({ timeNano }) => timeNano > last,
    );
    const missed = later.filter(({ Actor }) => Actor.ID === id);
    expect(missed.map(({ Action }) => Action)).toEqual(['die', 'start', 'die']);
    for (const { timeNano } of missed) {
      expect(timeNano / 1e6).toBeGreaterThanOrEqual(downAt - 50);
      expect(timeNano / 1e6).toBeLessThanOrEqual(upAt + 50);
    }
    expect(missed.filter(({ Action }) => Action === 'die').map((e) => e.Actor.Attributes.exitCode)).toEqual(['7', '7']);

    // All of it once more: what was streamed and what was replayed are the same events.
    const all = await eventsSince(began);
    expect(all.slice(0, seen.length)).toEqual(seen);
    const stamps = all.map((event) => JSON.stringify(event));
    expect(new Set(stamps).size).toBe(stamps.length);
    await ok('rm', id);
    await ok('network', 'rm', `n-${end.toLowerCase()}`);
  },
);
