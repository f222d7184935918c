/** The SQLite database: opening, durability, migrations. */
import Database from 'better-sqlite3';
import { SystemFault } from '../engine/errors.ts';
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
 * WAL with synchronous=FULL: what was answered is on disk. `relaxed` transactions are for what the journals can tell again.
 * @throws SystemFault when the database was written by a release too new for this one
 */
export function openDatabase(path: string): Db {
  const db = new Database(path);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma('foreign_keys = ON');
  db.pragma('busy_timeout = 5000');
  db.exec('CREATE TABLE IF NOT EXISTS schema (version INTEGER NOT NULL, readable_from INTEGER NOT NULL, applied TEXT NOT NULL) STRICT');
  const found = db.prepare('SELECT max(version) AS version, max(readable_from) AS readableFrom FROM schema').get() as { version: number | null; readableFrom: number | null };
  if ((found.readableFrom ?? 0) > LATEST) {
    db.close();
    throw new SystemFault(`${path} was written by a newer Holdfast (schema ${found.version}); this one reads up to ${LATEST}. Start the newer release, or restore a backup.`);
  }
  for (const migration of migrations.filter((m) => m.version > (found.version ?? 0))) {
    db.transaction(() => {
      db.exec(migration.sql);
      db.prepare('INSERT INTO schema VALUES (?, ?, ?)').run(migration.version, migration.readableFrom, new Date().toISOString());
    })();
  }
  return db;
}
