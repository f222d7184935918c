/** The SQLite database: opening, durability, migrations. */
import { chmodSync, closeSync, existsSync, fdatasync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { SystemFault } from '../model/errors.ts';
import initial from './migrations/0001-initial.sql';

export type Db = Database.Database;

interface Migration {
  version: number;
  sql: string;
  /** The lowest schema version whose release can still read the result; recorded, so that a rollback knows. */
  readableFrom: number;
}

const migrations: Migration[] = [{ version: 1, sql: initial, readableFrom: 1 }];
const LATEST = migrations.at(-1)!.version;

/**
 * Opens the store and migrates it forward.
 * WAL with synchronous=FULL: what was answered is on disk. `relaxed` is for what the journals can tell again.
 * @throws SystemFault when the database was written by a release too new for this one
 */
export function openDatabase(path: string): Db {
  if (path !== ':memory:') makePrivate(path);
  const db = new Database(path);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma('foreign_keys = ON');
  db.pragma('busy_timeout = 5000');
  db.exec(
    'CREATE TABLE IF NOT EXISTS schema (version INTEGER NOT NULL, readable_from INTEGER NOT NULL, applied TEXT NOT NULL) STRICT',
  );
  const found = db.prepare('SELECT max(version) AS version, max(readable_from) AS readableFrom FROM schema').get() as {
    version: number | null;
    readableFrom: number | null;
  };
  if ((found.readableFrom ?? 0) > LATEST) {
    db.close();
    throw new SystemFault(
      `${path} was written by a newer Holdfast (schema ${found.version}); this one reads up to ${LATEST}. Start the newer release, or restore a backup.`,
    );
  }
  for (const migration of migrations.filter((m) => m.version > (found.version ?? 0))) {
    db.transaction(() => {
      db.exec(migration.sql);
      db.prepare('INSERT INTO schema VALUES (?, ?, ?)').run(
        migration.version,
        migration.readableFrom,
        new Date().toISOString(),
      );
    })();
  }
  return db;
}

// Environments with passwords are in it. SQLite gives the files beside it the same mode, those that are there keep
// theirs.
function makePrivate(path: string): void {
  closeSync(openSync(path, 'a', 0o600));
  for (const file of [path, `${path}-wal`, `${path}-shm`]) if (existsSync(file)) chmodSync(file, 0o600);
}

/**
 * One transaction that does not wait for the disk. A killed daemon loses nothing by it; a power cut may undo it (and
 * whatever
 * followed it), so it is for what a journal tells again or what is void after a boot. The next durable commit, or
 * `Flush`,
 * brings it to disk. sqlite.org/pragma.html#pragma_synchronous
 */
export function relaxed<T>(db: Db, work: () => T): T {
  if (db.inTransaction) return db.transaction(work)();
  db.pragma('synchronous = NORMAL');
  try {
    return db.transaction(work)();
  } finally {
    db.pragma('synchronous = FULL');
  }
}

/**
 * Brings relaxed transactions to disk, off the main thread. One sync runs at a time; whoever comes meanwhile shares the
 * next.
 */
export class Flush {
  #wal: number | undefined;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(private readonly db: Db) {}

  /** Resolves when all that was committed before this call is on disk. */
  done(): Promise<void> {
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return (this.#running = this.#sync());
      });
    return this.#next;
  }

  close(): void {
    if (this.#wal !== undefined) closeSync(this.#wal);
  }

  #sync(): Promise<void> {
    // SQLite locks the database and its index, never the log: closing this descriptor drops no lock of its (fcntl(2)).
    const wal = (this.#wal ??= openSync(`${this.db.name}-wal`, 'r+'));
    return new Promise((resolve, reject) => fdatasync(wal, (error) => (error ? reject(error) : resolve())));
  }
}
