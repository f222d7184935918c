import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Event } from '../../src/model/event.ts';
import type { EventLog } from '../../src/engine/events/event-log.ts';
import { Conflict, InvalidParameter, NotFound } from '../../src/model/errors.ts';
import type { VolumeRequest } from '../../src/engine/volumes/request.ts';
import type { Volumes } from '../../src/engine/volumes/volumes.ts';
import type { VolumeStore } from '../../src/store/volumes.ts';
import { wallClock } from '../../src/sys/clock.ts';
import { useVolumes, volumeRequest as request } from '../support/volume-fixture.ts';

let root: string;
let store: VolumeStore;
let events: EventLog;
let users: Record<string, string[]>;
let volumes: Volumes;
const restart = useVolumes((fixture) => ({ root, store, events, users, volumes } = fixture));

const names = (filters: Record<string, string[]> = {}): string[] =>
  volumes.list(new Map(Object.entries(filters))).map((v) => v.name);

async function emittedEvents(): Promise<string[]> {
  const found: Event[] = [];
  for await (const event of events.subscribe(
    { since: 0n, until: wallClock() - 1n, matches: () => true },
    new AbortController().signal,
  ))
    found.push(event);
  return found.map((e) => `${e.action} ${e.actor} ${e.attributes.driver ?? ''}`.trim());
}

describe('create', () => {
  test('makes a directory, a row and an event', async () => {
    const volume = await volumes.create(request('data', { labels: { a: 'b' } }));
    expect(volume).toMatchObject({
      name: 'data',
      driver: 'local',
      mountpoint: join(root, 'data/_data'),
      labels: { a: 'b' },
      options: {},
      anonymous: false,
    });
    expect(lstatSync(volume.mountpoint).mode & 0o777).toBe(0o755);
    expect(volumes.resolve('data')).toEqual(volume);
    expect(await emittedEvents()).toEqual(['create data local']);
  });

  test('without a name makes an anonymous volume', async () => {
    const volume = await volumes.create(request(''));
    expect(volume.name).toMatch(/^[0-9a-f]{64}$/);
    expect(volume).toMatchObject({ anonymous: true, labels: { 'com.docker.volume.anonymous': '' } });
  });

  test('returns the existing volume, also to concurrent callers', async () => {
    const first = await volumes.create(request('data', { labels: { old: '1' } }));
    expect(await volumes.create(request('data', { labels: { new: '1' } }))).toEqual(first);
    const many = await Promise.all([1, 2, 3].map(() => volumes.create(request('more'))));
    expect(new Set(many.map((v) => v.created)).size).toBe(1);
    expect(await emittedEvents()).toEqual(['create data local', 'create more local']);
  });

  test.each<[string, VolumeRequest, string, typeof InvalidParameter | typeof NotFound]>([
    [
      'a bad name',
      request('a/b'),
      'create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
      InvalidParameter,
    ],
    ['dots', request('..'), 'create ..: ".." includes invalid characters', InvalidParameter],
    [
      'a short name',
      request('a'),
      'create a: volume name is too short, names should be at least two alphanumeric characters',
      InvalidParameter,
    ],
    [
      'an unknown driver',
      request('data', { driver: 'nfs' }),
      'create data: error looking up volume plugin nfs: plugin "nfs" not found',
      NotFound,
    ],
    [
      'an unknown option',
      request('data', { options: { foo: '1' } }),
      'create data: invalid option: "foo"',
      InvalidParameter,
    ],
    [
      'half a device',
      request('data', { options: { type: 'tmpfs' } }),
      'create data: missing required option: "device"',
      InvalidParameter,
    ],
  ])('rejects %s', async (_, wrong, message, kind) => {
    const failure = await volumes.create(wrong).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(kind);
    expect((failure as Error).message).toContain(message);
    expect(names()).toEqual([]);
  });
});

describe('remove', () => {
  test('deletes directory and row', async () => {
    const volume = await volumes.create(request('data'));
    writeFileSync(join(volume.mountpoint, 'file'), 'x');
    await volumes.remove('data', { force: false });
    expect(existsSync(join(root, 'data'))).toBe(false);
    expect(() => volumes.resolve('data')).toThrow('get data: no such volume');
    expect(await emittedEvents()).toEqual(['create data local', 'destroy data local']);
  });

  test('rejects a volume in use, even when forced', async () => {
    await volumes.create(request('data'));
    users.data = ['c1', 'c2'];
    for (const force of [false, true]) {
      await expect(volumes.remove('data', { force })).rejects.toThrow(
        new Conflict('remove data: volume is in use - [c1, c2]'),
      );
    }
  });

  test('of a missing volume fails unless forced', async () => {
    await expect(volumes.remove('data', { force: false })).rejects.toThrow(new NotFound('get data: no such volume'));
    await volumes.remove('data', { force: true });
  });

  test('and a concurrent create do not interfere', async () => {
    await volumes.create(request('data'));
    const [, volume] = await Promise.all([volumes.remove('data', { force: false }), volumes.create(request('data'))]);
    expect(existsSync(volume.mountpoint)).toBe(true);
    expect(names()).toEqual(['data']);
  });
});

test('list applies every filter', async () => {
  await volumes.create(request('one', { labels: { tier: 'a' } }));
  await volumes.create(request('two', { labels: { tier: 'b', x: '' } }));
  users.one = ['c1'];
  expect(names()).toEqual(['one', 'two']);
  expect(names({ name: ['on'] })).toEqual(['one']);
  expect(names({ label: ['tier'] })).toEqual(['one', 'two']);
  expect(names({ label: ['tier=b', 'x'] })).toEqual(['two']);
  expect(names({ driver: ['nfs'] })).toEqual([]);
  expect(names({ dangling: ['true'] })).toEqual(['two']);
  expect(names({ dangling: ['0'] })).toEqual(['one']);
  expect(() => names({ nonsense: ['x'] })).toThrow("invalid filter 'nonsense'");
  expect(() => names({ dangling: ['maybe'] })).toThrow("invalid filter 'dangling=[maybe]'");
});

test('a name filter is a regular expression that cannot block the daemon', async () => {
  await volumes.create(request(`${'a'.repeat(40)}-`));
  await volumes.create(request('web-1-data'));
  expect(names({ name: ['^web-.*-data$'] })).toEqual(['web-1-data']);
  expect(names({ name: ['(?i)^WEB-[0-9]+-D?'] })).toEqual(['web-1-data']);
  expect(names({ name: ['(', '+'] })).toEqual([]);
  for (const pattern of ['^(a+)+$', '^(a|a)*$', '(?=(a+)+$)'])
    expect(() => names({ name: [pattern] })).toThrow(
      `the regular expression ${JSON.stringify(pattern)} takes too long`,
    );
});

test('prune removes unused anonymous volumes, and named ones only on request [prune-unused-volumes]', async () => {
  const anonymous = await volumes.create(request(''));
  await volumes.create(request('named'));
  await volumes.create(request('kept', { labels: { keep: '' } }));
  await volumes.create(request('used'));
  users.used = ['c1'];
  writeFileSync(join(anonymous.mountpoint, 'file'), '12345');
  await expect(volumes.prune(new Map([['until', ['1h']]]))).rejects.toThrow("invalid filter 'until'");
  expect(await volumes.prune(new Map())).toEqual({ deleted: [anonymous.name], reclaimed: 5 });
  expect(
    await volumes.prune(
      new Map([
        ['all', ['true']],
        ['label!', ['keep']],
      ]),
    ),
  ).toEqual({ deleted: ['named'], reclaimed: 0 });
  expect(names()).toEqual(['kept', 'used']);
});

describe('starting after a crash', () => {
  test('undoes an unfinished creation [volume-create-undone]', async () => {
    store.insertCreating({ name: 'row', driver: 'local', created: '1', labels: {}, options: {}, anonymous: false });
    store.insertCreating({
      name: 'directory',
      driver: 'local',
      created: '1',
      labels: {},
      options: {},
      anonymous: false,
    });
    mkdirSync(join(root, 'directory/_data'), { recursive: true });
    restart();
    await volumes.start();
    expect(names()).toEqual([]);
    expect(readdirSync(root)).toEqual([]);
    expect(await volumes.create(request('row'))).toMatchObject({ name: 'row' });
  });

  test('keeps the data of a volume, whatever its row says [volume-data-kept]', async () => {
    store.insertCreating({ name: 'data', driver: 'local', created: '1', labels: {}, options: {}, anonymous: false });
    mkdirSync(join(root, 'data/_data'), { recursive: true });
    writeFileSync(join(root, 'data/_data/file'), '');
    restart();
    await volumes.start();
    expect(names()).toEqual(['data']);
  });

  test('finishes a removal and emits its event [volume-removal-finished]', async () => {
    await volumes.create(request('data'));
    store.setPhase('data', 'removing');
    restart();
    expect(names()).toEqual([]);
    await volumes.start();
    expect(existsSync(join(root, 'data'))).toBe(false);
    expect(await emittedEvents()).toEqual(['create data local', 'destroy data local']);
  });

  test('discards an incomplete copy-up and finishes a complete one [copy-up-recovered]', async () => {
    const half = await volumes.create(request('half'));
    mkdirSync(join(half.mountpoint, '../_filling'));
    writeFileSync(join(half.mountpoint, '../_filling/a'), '');
    const whole = await volumes.create(request('whole'));
    mkdirSync(join(whole.mountpoint, '../_filled'), { mode: 0o711 });
    for (const name of ['a', 'b']) writeFileSync(join(whole.mountpoint, '../_filled', name), '');
    renameSync(join(whole.mountpoint, '../_filled/a'), join(whole.mountpoint, 'a'));
    restart();
    await volumes.start();
    expect(readdirSync(half.mountpoint)).toEqual([]);
    expect(readdirSync(whole.mountpoint)).toEqual(['a', 'b']);
    expect(lstatSync(whole.mountpoint).mode & 0o777).toBe(0o711);
    for (const { mountpoint } of [half, whole]) expect(readdirSync(join(mountpoint, '..'))).toEqual(['_data']);
  });
});
