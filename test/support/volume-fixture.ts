/** Gives each test a volume driver with a store and a directory of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { EventLog } from '../../src/engine/events/event-log.ts';
import type { VolumeRequest } from '../../src/engine/volumes/request.ts';
import { Volumes } from '../../src/engine/volumes/volumes.ts';
import { openDatabase, type Db } from '../../src/store/database.ts';
import { EventStore } from '../../src/store/events.ts';
import { VolumeStore } from '../../src/store/volumes.ts';

export interface VolumeFixture {
  /** The test's own directory. */
  directory: string;
  /** The volumes' root in it. */
  root: string;
  db: Db;
  store: VolumeStore;
  events: EventLog;
  /** Ids of the containers that use a volume, by its name. */
  users: Record<string, string[]>;
  volumes: Volumes;
}

/** Calls `use` before each test. @returns what replaces the driver by one that finds what the first one left */
export function useVolumes(use: (fixture: VolumeFixture) => void): () => void {
  let fixture: VolumeFixture;
  const driver = ({ store, events, root, users }: Omit<VolumeFixture, 'volumes'>): Volumes =>
    new Volumes({
      store,
      events,
      root,
      usersOf: (name) => users[name] ?? [],
      unknownUsers: () => [],
      log: { error: () => undefined, warn: () => undefined },
    });
  beforeEach(() => {
    const directory = mkdtempSync(join(tmpdir(), 'volumes-'));
    const db = openDatabase(join(directory, 'holdfast.db'));
    const parts = {
      directory,
      root: join(directory, 'volumes'),
      db,
      store: new VolumeStore(db),
      events: new EventLog(new EventStore(db)),
      users: {},
    };
    use((fixture = { ...parts, volumes: driver(parts) }));
  });
  afterEach(() => {
    fixture.db.close();
    rmSync(fixture.directory, { recursive: true });
  });
  return () => use((fixture = { ...fixture, volumes: driver(fixture) }));
}

/** A request to create a volume. */
export const volumeRequest = (name: string, more: Partial<VolumeRequest> = {}): VolumeRequest => ({
  name,
  driver: '',
  labels: {},
  options: {},
  ...more,
});
