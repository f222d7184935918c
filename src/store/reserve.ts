/**
 * Disk space that the store has ahead of need, so that rows can be written while the disk is full: what runs must be
 * stopped, killed and removed then, and removals are what frees space.
 */
import { closeSync, fstatSync, openSync, rmSync } from 'node:fs';
import { preallocate } from '../sys/file.ts';

/** SQLite begins the write-ahead log anew at 1000 pages, or later while a transaction is open: sqlite.org/wal.html. */
const WAL_BYTES = 5 * 1024 * 1024;
const GROWTH_BYTES = 2 * 1024 * 1024;
const RENEW_MS = 10_000;

export class Reserve {
  // Open as long as the database: closing any descriptor of a file drops SQLite's POSIX locks on it, fcntl(2).
  readonly #database: number;
  readonly #wal: number;
  readonly #timer: NodeJS.Timeout;
  #reserved = 0;

  /** Call it after the database at `path` was opened. */
  constructor(private readonly path: string) {
    this.#database = openSync(path, 'r+');
    this.#wal = openSync(`${path}-wal`, 'r+');
    this.#renew();
    this.#timer = setInterval(() => this.#renew(), RENEW_MS).unref();
  }

  /** Gives up what is kept for the next opening of `path`: the log, which a closed database does not have. */
  static release = (path: string): void => rmSync(spareOf(path), { force: true });

  /** Call it after the database was closed. */
  close(): void {
    clearInterval(this.#timer);
    closeSync(this.#wal);
    closeSync(this.#database);
  }

  // Without room for it the store works as any other file.
  #renew(): void {
    if (!preallocate(this.#wal, 0, WAL_BYTES)) return;
    const { size } = fstatSync(this.#database);
    if (this.#reserved - size < GROWTH_BYTES / 2 && preallocate(this.#database, size, GROWTH_BYTES))
      this.#reserved = size + GROWTH_BYTES;
    this.#keepSpare();
  }

  #keepSpare(): void {
    try {
      const spare = openSync(spareOf(this.path), 'a', 0o600);
      preallocate(spare, 0, WAL_BYTES);
      closeSync(spare);
    } catch {
      return; // Not even a directory entry fits.
    }
  }
}

const spareOf = (path: string): string => `${path}-reserve`;
