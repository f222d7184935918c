import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { EventLog, type EventQuery } from '../../src/engine/events/event-log.ts';
import type { Event, NewEvent } from '../../src/model/event.ts';
import { matcher } from '../../src/engine/events/filter.ts';
import { openDatabase, type Db } from '../../src/store/database.ts';
import { EventStore } from '../../src/store/events.ts';
import { wallClock } from '../../src/sys/clock.ts';

let directory: string;
let db: Db;
let log: EventLog;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'events-'));
  db = openDatabase(join(directory, 'holdfast.db'));
  log = new EventLog(new EventStore(db));
});
afterEach(() => {
  db.close();
  rmSync(directory, { recursive: true });
});

const at = (time: bigint | number, action: string, more: Partial<NewEvent> = {}): NewEvent => ({
  type: 'container',
  action,
  actor: 'c1',
  attributes: { name: 'web' },
  time: String(time),
  ...more,
});
const everything = (): boolean => true;

/** Reads until `count` events have arrived. */
async function take(events: AsyncIterable<Event>, count: number): Promise<string[]> {
  const actions: string[] = [];
  if (count === 0) return actions;
  for await (const event of events) {
    actions.push(event.action);
    if (actions.length === count) break;
  }
  return actions;
}

async function all(events: AsyncIterable<Event>): Promise<Event[]> {
  const found: Event[] = [];
  for await (const event of events) found.push(event);
  return found;
}

const past = (query: Partial<EventQuery> = {}): Promise<Event[]> =>
  all(
    log.subscribe({ since: 0n, until: wallClock() - 1n, matches: everything, ...query }, new AbortController().signal),
  );
const listen = (query: Partial<EventQuery> = {}, signal = new AbortController().signal): AsyncIterable<Event> =>
  log.subscribe({ matches: everything, ...query }, signal);

describe('storing an event', () => {
  test('returns it whole, with a time beyond 2^53', async () => {
    const event = at(1_700_000_000_123_456_789n, 'die', {
      attributes: { exitCode: '137', 'com.example': 'ünï "q"' },
      origin: { container: 'c1', seq: 7 },
    });
    log.record(event);
    expect(await past()).toEqual([{ ...event, row: 1 }]);
  });

  test('stores it once per journal record, however often the journal is replayed', async () => {
    const origin = { container: 'c1', seq: 3 };
    log.record(at(10, 'die', { origin }));
    log.record(at(10, 'die', { origin }), at(11, 'start', { origin: { container: 'c1', seq: 4 } }));
    log.record(at(12, 'create'), at(12, 'create'));
    expect((await past()).map((e) => e.action)).toEqual(['die', 'start', 'create', 'create']);
  });

  test('discards it when its transaction is rolled back', async () => {
    const first = take(listen(), 1);
    expect(() =>
      db.transaction(() => {
        log.record(at(1, 'never'));
        throw new Error('crash');
      })(),
    ).toThrow('crash');
    await sleep(20);
    log.record(at(2, 'kept'));
    expect(await first).toEqual(['kept']);
    expect((await past()).map((e) => e.action)).toEqual(['kept']);
  });

  test('prunes beyond the retention, first recorded first', async () => {
    log = new EventLog(new EventStore(db), { keep: 10 });
    for (let i = 0; i < 50; i++) log.record(...Array.from({ length: 40 }, (_, k) => at(i * 40 + k, `e${i * 40 + k}`)));
    const left = await past();
    expect(left.length).toBeLessThan(1_010);
    expect(left.at(-1)!.action).toBe('e1999');
  });
});

describe('replay', () => {
  test('orders by time, then by recording; since and until are inclusive', async () => {
    log.record(
      at(30, 'c'),
      at(10, 'a'),
      at(20, 'b1'),
      at(20, 'b2'),
      at(40, 'd'),
      at(9, 'too early'),
      at(41, 'too late'),
    );
    expect((await past({ since: 10n, until: 40n })).map((e) => e.action)).toEqual(['a', 'b1', 'b2', 'c', 'd']);
  });

  test('spans many pages', async () => {
    log.record(...Array.from({ length: 1_000 }, (_, i) => at(i % 7, `e${i}`)));
    const events = await past();
    expect(events).toHaveLength(1_000);
    expect(new Set(events.map((e) => e.row)).size).toBe(1_000);
    expect(events.map((e) => Number(e.time))).toEqual(events.map((e) => Number(e.time)).toSorted((a, b) => a - b));
  });

  test('starts at the beginning for until alone; replays nothing without since and until', async () => {
    log.record(at(1, 'old'));
    expect((await past({ since: undefined, until: 5n })).map((e) => e.action)).toEqual(['old']);
    const live = take(listen(), 1);
    log.record(at(2, 'new'));
    expect(await live).toEqual(['new']);
  });
});

describe('a live subscriber', () => {
  test('receives what is recorded between subscribing and its first read, without duplicates', async () => {
    log.record(at(1, 'before'));
    const events = listen({ since: 0n });
    log.record(at(2, 'between'));
    const reading = take(events, 3);
    setTimeout(() => log.record(at(3, 'after')), 10);
    expect(await reading).toEqual(['before', 'between', 'after']);
  });

  test('receives what is recorded late with a time in the past', async () => {
    log.record(at(100, 'start'));
    const reading = take(listen({ since: 50n }), 2);
    setTimeout(() => log.record(at(60, 'die')), 10);
    expect(await reading).toEqual(['start', 'die']);
  });

  test('is woken only after the transaction has committed', async () => {
    const seen: string[] = [];
    const reading = (async () => {
      for await (const event of listen()) {
        seen.push(event.action);
        if (seen.length === 2) break;
      }
    })();
    await sleep(5);
    db.exec('BEGIN');
    log.record(at(1, 'one'), at(2, 'two'));
    // A transaction that can still roll back must not be announced.
    db.exec('COMMIT');
    expect(seen).toEqual([]);
    await reading;
    expect(seen).toEqual(['one', 'two']);
  });

  test('that is slow misses nothing and delays no one', async () => {
    const slow = (async () => {
      const actions: string[] = [];
      for await (const event of listen()) {
        actions.push(event.action);
        if (actions.length === 600) break;
        if (actions.length % 100 === 1) await sleep(10);
      }
      return actions;
    })();
    const quick = take(listen(), 600);
    await sleep(5);
    for (let i = 0; i < 600; i++) {
      log.record(at(i, `e${i}`));
      if (i % 50 === 0) await sleep(1);
    }
    const expected = Array.from({ length: 600 }, (_, i) => `e${i}`);
    expect(await quick).toEqual(expected);
    expect(await slow).toEqual(expected);
  });

  test('ends when its signal aborts, and is counted until then', async () => {
    const leaving = new AbortController();
    const reading = all(listen({}, leaving.signal));
    await sleep(5);
    expect(log.subscribers).toBe(1);
    leaving.abort();
    expect(await reading).toEqual([]);
    expect(log.subscribers).toBe(0);
  });

  test('ends at an until in the future, with all that happened before it', async () => {
    const until = wallClock() + 80_000_000n;
    const reading = all(listen({ until }));
    setTimeout(() => log.record(at(wallClock(), 'in time'), at(until + 1n, 'after it')), 20);
    expect((await reading).map((e) => e.action)).toEqual(['in time']);
  });

  test('ends at once when its signal is already aborted', async () => {
    log.record(at(1, 'a'));
    expect(await all(listen({ since: 0n }, AbortSignal.abort()))).toEqual([]);
  });
});

describe('filters', () => {
  const start: Event = {
    row: 1,
    time: '1',
    type: 'container',
    action: 'start',
    actor: 'abcdef0123',
    attributes: { name: 'web', image: 'registry:5000/app:1', project: 'p', empty: '' },
  };
  const exec: Event = { ...start, action: 'exec_create: sh -c ls' };
  const health: Event = { ...start, action: 'health_status: healthy' };
  const pull: Event = {
    row: 2,
    time: '2',
    type: 'image',
    action: 'pull',
    actor: 'alpine:3.20',
    attributes: { name: 'alpine' },
  };
  const tag: Event = { ...pull, action: 'tag', actor: 'sha256:123', attributes: { name: 'alpine:3.20' } };
  const volume: Event = {
    row: 3,
    time: '3',
    type: 'volume',
    action: 'mount',
    actor: 'data',
    attributes: { driver: 'local', container: 'abcdef0123' },
  };

  test.each<[string, Record<string, string[]>, Event, boolean]>([
    ['no filter matches everything', {}, start, true],
    ['ignores unknown keys', { nonsense: ['x'] }, start, true],
    ['an empty list of values matches everything', { type: [] }, start, true],
    ['matches one of several types', { type: ['image', 'container'] }, start, true],
    ['rejects another type', { type: ['image'] }, start, false],
    ['matches the event name', { event: ['start'] }, start, true],
    ['does not match a prefix of an event name', { event: ['sta'] }, start, false],
    ['exec_create matches every command', { event: ['exec_create'] }, exec, true],
    ['matches a whole action with its command', { event: ['exec_create: sh -c ls'] }, exec, true],
    ['health_status matches every status', { event: ['health_status'] }, health, true],
    ['health_status: unhealthy does not match healthy', { event: ['health_status: unhealthy'] }, health, false],
    ['matches a container by id prefix', { container: ['abcd'] }, start, true],
    ['matches a container by name', { container: ['web'] }, start, true],
    ['rejects another container', { container: ['db'] }, start, false],
    ['matches a volume by name', { volume: ['data'] }, volume, true],
    ['a network filter does not match a volume', { network: ['data2'] }, volume, false],
    ['matches the image of a container, with tag', { image: ['registry:5000/app:1'] }, start, true],
    ['matches the image of a container, without tag', { image: ['registry:5000/app'] }, start, true],
    ['does not match a prefix of an image name', { image: ['registry'] }, start, false],
    ['matches an image event by name', { image: ['alpine'] }, pull, true],
    ['matches an image event by id', { image: ['sha256:123'] }, tag, true],
    ['matches an image event by name without tag', { image: ['alpine'] }, tag, true],
    ['matches a label key', { label: ['project'] }, start, true],
    ['matches a label with its value', { label: ['project=p'] }, start, true],
    ['rejects a label with another value', { label: ['project=q'] }, start, false],
    ['requires all labels', { label: ['project=p', 'missing'] }, start, false],
    ['matches an empty label value', { label: ['empty='] }, start, true],
    ['does not take a property of Object.prototype for a label', { label: ['constructor'] }, start, false],
    ['matches the scope local', { scope: ['local'] }, start, true],
    ['rejects the scope swarm', { scope: ['swarm'] }, start, false],
    ['rejects another daemon', { daemon: ['xyz'] }, start, false],
    ['requires all keys to match', { type: ['container'], event: ['die'] }, start, false],
  ])('%s', (_, filters, event, expected) => {
    expect(matcher(new Map(Object.entries(filters)))(event)).toBe(expected);
  });
});
