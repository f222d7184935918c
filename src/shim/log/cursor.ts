/** Reads a log file back as output, from one mark to another, through rotations. */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import type { OutputStream } from '../../protocol/frames.ts';
import { logFile, parseLogLine } from '../../protocol/log-format.ts';

const CHUNK_BYTES = 64 * 1024;
/** Upper bound of rotated files to look for. */
const MAX_FILES = 1000;
const NEWLINE = 10;

export interface Entry {
  stream: OutputStream;
  output: Buffer;
}

/** Where to stop reading: inode and byte offset; without an offset, at the end of the file. */
export interface Limit {
  file: number;
  offset?: number;
}

/** The entries up to `limit` can no longer be read: their file was rotated away. */
export class LogGone extends Error {}

/** The inode after `file`, from the writer: it knows the order also of files that have no name any more. */
export type NextFile = (file: number) => number | undefined;

export class LogCursor {
  readonly #path: string;
  readonly #next: NextFile;
  #fd = -1;
  #file = 0;
  #offset = 0;
  #torn = Buffer.alloc(0);
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES);

  private constructor(path: string, next: NextFile) {
    this.#path = path;
    this.#next = next;
  }

  /** Starts at the given place. @throws LogGone */
  static at(path: string, place: { file: number; offset: number }, next: NextFile): LogCursor {
    const cursor = new LogCursor(path, next);
    cursor.#open(place.file);
    cursor.#offset = place.offset;
    return cursor;
  }

  /** Starts at the beginning of the oldest file; undefined when there is no log. @throws LogGone */
  static oldest(path: string, next: NextFile): LogCursor | undefined {
    const oldest = namedFiles(path).at(-1);
    return oldest === undefined ? undefined : LogCursor.at(path, { file: oldest, offset: 0 }, next);
  }

  /** The next entries, at most one chunk of the file; undefined once `limit` is reached. @throws LogGone */
  read(limit: Limit): Entry[] | undefined {
    const here = this.#file === limit.file;
    const room = here && limit.offset !== undefined ? Math.max(0, limit.offset - this.#offset) : CHUNK_BYTES;
    const n = room === 0 ? 0 : readSync(this.#fd, this.#chunk, 0, Math.min(room, CHUNK_BYTES), this.#offset);
    if (n > 0) {
      this.#offset += n;
      return this.#entries(this.#chunk.subarray(0, n));
    }
    // The file was truncated (logrotate's copytruncate): start again at its beginning.
    if (room > 0 && fstatSync(this.#fd).size < this.#offset) {
      this.#offset = 0;
      return [];
    }
    if (here) return undefined;
    const next = this.#next(this.#file) ?? newer(this.#path, this.#file);
    if (next === undefined) throw new LogGone();
    this.#open(next);
    this.#offset = 0;
    return [];
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #entries(bytes: Buffer): Entry[] {
    const all = this.#torn.length ? Buffer.concat([this.#torn, bytes]) : bytes;
    const end = all.lastIndexOf(NEWLINE) + 1;
    this.#torn = Buffer.from(all.subarray(end));
    return all
      .toString('utf8', 0, end)
      .split('\n')
      .flatMap((line): Entry[] => {
        const entry = line ? parseLogLine(line) : undefined;
        return entry?.log ? [{ stream: entry.stream === 'stderr' ? 2 : 1, output: Buffer.from(entry.log) }] : [];
      });
  }

  #open(file: number): void {
    const n = namedFiles(this.#path).indexOf(file);
    if (n < 0) throw new LogGone();
    const fd = openSync(logFile(this.#path, n), 'r');
    this.close();
    this.#fd = fd;
    this.#file = file;
    this.#torn = Buffer.alloc(0);
  }
}

/** Inode of the file that is being written; undefined when there is none. */
export const currentFile = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.ino;

/** Inodes by rotation number, the current file first. */
function namedFiles(path: string): number[] {
  const inodes: number[] = [];
  for (let n = 0; n < MAX_FILES; n++) {
    const stat = statSync(logFile(path, n), { throwIfNoEntry: false });
    if (!stat) break;
    inodes.push(stat.ino);
  }
  return inodes;
}

function newer(path: string, file: number): number | undefined {
  const files = namedFiles(path);
  const at = files.indexOf(file);
  return at > 0 ? files[at - 1] : undefined;
}
