import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Container } from '../../src/model/container.ts';
import { Attachments, type AttachmentsDeps } from '../../src/engine/networks/attachments.ts';
import type { Setup } from '../../src/engine/networks/driver.ts';
import { Paths } from '../../src/engine/paths.ts';
import { openDatabase, type Db } from '../../src/store/database.ts';
import { NetworkStore } from '../../src/store/networks.ts';
import { bootId } from '../../src/sys/process.ts';

const ID = 'a'.repeat(64);
const container = { id: ID, name: 'c', endpoints: {}, hostConfig: { NetworkMode: 'none' } } as unknown as Container;
const setup: Setup = {
  ...{ version: 1, boot: bootId(), container: ID, name: 'c', netns: '/run/netns-of-the-run-before' },
  ...{ endpoints: [], ports: [], idlePorts: [], dnsServers: [] },
};

let directory: string;
let db: Db;
let store: NetworkStore;
let done: string[];
let attachments: Attachments;

// The container was attached by the daemon before.
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'attachments-'));
  db = openDatabase(join(directory, 'holdfast.db'));
  store = new NetworkStore(db);
  store.begin(ID, setup.netns, JSON.stringify(setup), []);
  store.move(ID, 'up', () => undefined);
  done = [];
  const driver = {
    setUp: ({ netns }: Setup) => Promise.resolve(void done.push(`set up ${netns === setup.netns ? 'old' : 'new'}`)),
    tearDown: ({ netns }: Setup) =>
      Promise.resolve(void done.push(`tear down ${netns === setup.netns ? 'old' : 'new'}`)),
  } as unknown as AttachmentsDeps['driver'];
  attachments = new Attachments({
    store,
    driver,
    config: { instance: '', bridge: '', iptables: true, ip: '', dns: [], dnsOptions: [] },
    paths: new Paths(directory, directory),
    events: { record: () => undefined },
    network: () => expect.unreachable(),
    ready: () => Promise.resolve(),
    publishDns: () => Promise.resolve(),
    prepareDns: () => undefined,
    log: { warn: () => undefined },
  });
  await attachments.start(() => Promise.resolve());
});

afterEach(() => {
  db.close();
  rmSync(directory, { recursive: true });
});

test('a sweep detaches what the daemon before attached and nothing holds', async () => {
  await attachments.sweep(() => false);
  expect(done).toEqual(['tear down old']);
  expect(store.attachment(ID)).toBeUndefined();
});

test('a sweep leaves what is held', async () => {
  await attachments.sweep(() => true);
  expect(done).toEqual([]);
  expect(store.attachment(ID)?.phase).toBe('up');
});

test('a sweep that meets a start leaves what the start has attached [sweep-during-start]', async () => {
  await Promise.all([attachments.attach(container), attachments.sweep(() => false)]);
  expect(done).toEqual(['tear down old', 'set up new']);
  expect(store.attachment(ID)?.phase).toBe('up');
});
