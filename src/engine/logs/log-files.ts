/**
 * The files of one log: `path` is the current one, `path.1` the one before, and so on. A rotation may happen at any
 * time.
 */
import { closeSync, fstatSync, openSync, read as readCallback, watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import { promisify } from 'node:util';

const read = promisify(readCallback);
const NEWLINE = 0x0a;
/** Bytes per read when looking for the last lines of a file. */
const BLOCK = 64 * 1024;
/** Consecutive missing names that mark the end: a rotation in progress leaves one gap. */
const MAX_GAP = 2;
/** A safety net: inotify reports changes. */
const POLL_MS = 1_000;
/** Without inotify. */
const POLL_ONLY_MS = 100;

export interface LogFile {
  readonly fd: number;
  /** Identifies the file across renames. */
  readonly inode: bigint;
  /** mtime, wall ns. */
  readonly modified: bigint;
}

/**
 * Opens the log's files newer than the one with `inode` (all, if that is undefined or deleted), oldest first. They are
 * visited in the direction in which a rotation renames them, so a file may be seen twice but is never missed.
 */
export function openNewerThan(inode: bigint | undefined, path: string): LogFile[] {
  const files: LogFile[] = [];
  for (let n = 0, missing = 0; missing < MAX_GAP; n++) {
    const file = open(n === 0 ? path : `${path}.${n}`);
    missing = file ? 0 : missing + 1;
    if (!file) continue;
    if (file.inode === inode) {
      closeSync(file.fd);
      break;
    }
    if (files.some((f) => f.inode === file.inode)) closeSync(file.fd);
    else files.unshift(file);
  }
  return files;
}

function open(path: string): LogFile | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const { ino, mtimeNs } = fstatSync(fd, { bigint: true });
  return { fd, inode: ino, modified: mtimeNs };
}

export const closeFile = (file: LogFile): void => closeSync(file.fd);

export const sizeOf = (file: LogFile): number => fstatSync(file.fd).size;

/** Reads into `buffer` from `offset` on; 0 at the end of the file. */
export async function readAt(file: LogFile, buffer: Buffer, offset: number, position: number): Promise<number> {
  return (await read(file.fd, buffer, offset, buffer.length - offset, position)).bytesRead;
}

/** Where the last `count` lines begin: index into `files`, and offset. An unfinished last line does not count. */
export async function startOfTail(files: LogFile[], count: number): Promise<{ index: number; offset: number }> {
  let wanted = count;
  for (let index = files.length - 1; index >= 0; index--) {
    const found = await linesFromEnd(files[index]!, wanted);
    if (found.start !== undefined) return { index, offset: found.start };
    wanted -= found.lines;
    if (wanted === 0) return { index, offset: 0 };
  }
  return { index: 0, offset: 0 };
}

/** The offset of the file's last `wanted` lines; if the file has no more lines than that, only their number. */
async function linesFromEnd(file: LogFile, wanted: number): Promise<{ start?: number; lines: number }> {
  const block = Buffer.allocUnsafe(BLOCK);
  let lines = 0;
  for (let end = sizeOf(file); end > 0;) {
    const from = Math.max(0, end - BLOCK);
    const bytes = block.subarray(0, end - from);
    const { bytesRead } = await read(file.fd, bytes, 0, bytes.length, from);
    let newline = lastNewlineBefore(bytes, bytesRead);
    while (newline >= 0) {
      if (lines === wanted) return { start: from + newline + 1, lines };
      lines++;
      newline = lastNewlineBefore(bytes, newline);
    }
    end = from;
  }
  return { lines };
}

const lastNewlineBefore = (bytes: Buffer, end: number): number => bytes.subarray(0, end).lastIndexOf(NEWLINE);

/** Watches a log's directory for writes and rotations. */
export class LogWatch implements Disposable {
  #watcher: FSWatcher | undefined;
  #changed = false;
  #wake: (() => void) | undefined;

  constructor(path: string) {
    const name = basename(path);
    const changed = (_: string, file: string | null): void => {
      if (file === null || file.startsWith(name)) this.notify();
    };
    try {
      this.#watcher = watch(dirname(path), { persistent: false }, changed);
      this.#watcher.on('error', () => this[Symbol.dispose]());
    } catch {
      // The host's inotify watches are used up: poll instead.
    }
  }

  /** Makes `change` resolve as if something had been written. */
  notify = (): void => {
    this.#changed = true;
    this.#wake?.();
  };

  /** Resolves when something has changed since the last call, at the latest after a poll interval or `atMostMs`. */
  async change(atMostMs = Infinity): Promise<void> {
    if (!this.#changed) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(this.#watcher ? POLL_MS : POLL_ONLY_MS, atMostMs));
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#changed = false;
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }
}
