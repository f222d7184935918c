/** The SQLite database: opening, migrations, durability. */
import { chmodSync, closeSync, existsSync, fdatasync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { SystemFault } from '../model/errors.ts';
import { faultPoint } from '../sys/fault.ts';
import initial from './migrations/0001-initial.sql';
import { Reserve } from './reserve.ts';

export type Db = Database.Database;

interface Migration {
  version: number;
  sql: string;
  /** The lowest schema version whose release can still read the result. Recorded, so that a rollback can check it. */
  readableFrom: number;
}

const migrations: Migration[] = [{ version: 1, sql: initial, readableFrom: 1 }];
const LATEST = migrations.at(-1)!.version;

/**
 * Opens the store and migrates it forward. WAL with synchronous=FULL: a commit is on disk before the client gets its
 * answer; `relaxed` is the exception.
 * @throws SystemFault when a newer, incompatible release has written the database
 */
export function openDatabase(path: string): Db {
  if (path !== ':memory:') {
    Reserve.release(path);
    makePrivate(path);
  }
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

// It contains environment variables, and so passwords. SQLite creates the -wal and -shm files with the same mode, but
// does not change existing ones.
function makePrivate(path: string): void {
  closeSync(openSync(path, 'a', 0o600));
  for (const file of [path, `${path}-wal`, `${path}-shm`]) if (existsSync(file)) chmodSync(file, 0o600);
}

/** Runs one transaction, which is on disk when this returns. */
export function durable<T>(db: Db, work: () => T): T {
  faultPoint('commit.before');
  const result = db.transaction(work)();
  faultPoint('commit.after');
  return result;
}

/**
 * Runs one transaction without waiting for the disk. It survives the daemon being killed, but a power cut may undo it
 * and later relaxed ones, so it is for data that a journal can restore or that a reboot invalidates. The next durable
 * commit, or `Flush`, writes it to disk. sqlite.org/pragma.html#pragma_synchronous
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

/** Syncs relaxed transactions to disk, off the main thread. One sync runs at a time; later callers share the next. */
export class Flush {
  #wal: number | undefined;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(private readonly db: Db) {}

  /** Resolves when every commit before this call is on disk. */
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
    // Closing a descriptor drops the process's POSIX locks on that file (fcntl(2)); SQLite never locks the WAL file.
    const wal = (this.#wal ??= openSync(`${this.db.name}-wal`, 'r+'));
    return new Promise((resolve, reject) => fdatasync(wal, (error) => (error ? reject(error) : resolve())));
  }
}
