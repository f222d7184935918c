/** Reads a container's json-file log: tail, since, until and follow, across rotations. */
import { wallClock } from '../../sys/clock.ts';
import type { LogEntry } from './log-entry.ts';
import { closeFile, LogWatch, openNewerThan, readAt, sizeOf, startOfTail, type LogFile } from './log-files.ts';
import { comparerWith, decodeLines } from './log-lines.ts';

export interface LogQuery {
  stdout: boolean;
  stderr: boolean;
  /** Wall ns; undefined = no bound. */
  since?: bigint;
  until?: bigint;
  /** Entries from the end; undefined = all. */
  tail?: number;
  follow: boolean;
}

/** Bytes per read; each read yields one batch. */
const CHUNK = 512 * 1024;
/** A longer line is not an entry of ours (entries hold at most 16 KiB of text). */
const LONGEST_LINE = 4 * 1024 * 1024;
/** A file's mtime comes from a coarser clock than its entries' times. */
const CLOCK_SLACK_NS = 1_000_000_000n;

const NEWLINE = 0x0a;
const NOTHING = Buffer.alloc(0);

/**
 * Yields the entries of the log at `path` in batches, one per chunk read. With `follow` it ends when `ended` (the end
 * of the container's generation) has resolved and the file is read to its end, or when `signal` aborts.
 */
export async function* readLog(
  path: string,
  query: LogQuery,
  ended: Promise<void>,
  signal: AbortSignal,
): AsyncGenerator<LogEntry[], void> {
  // Created before the files are opened, so that no later write goes unnoticed.
  using watch = query.follow ? new LogWatch(path) : undefined;
  using reader = new Reader(path);
  const notify = (): void => watch?.notify();
  const isAborted = (): boolean => signal.aborted;
  let hasEnded = false;
  void ended.then(() => {
    hasEnded = true;
    notify();
  });
  const isComplete = (): boolean =>
    !query.follow || hasEnded || (query.until !== undefined && wallClock() > query.until);
  signal.addEventListener('abort', notify);
  const select = selector(query);
  try {
    await reader.seek(query);
    for (;;) {
      // Checked before the read, which then still delivers everything written until now.
      const last = isComplete();
      const batch = await reader.next();
      if (isAborted()) return;
      if (batch) {
        const { entries, done } = select(batch);
        if (entries.length > 0) yield entries;
        if (done || isAborted()) return;
      } else if (query.follow && reader.openNewer()) {
        // Rotated: the old file may have grown until its renaming, so it is read to its end before the new one.
      } else if (last) {
        return;
      } else {
        await watch!.change(untilReached(query.until));
        if (isAborted()) return;
      }
    }
  } finally {
    signal.removeEventListener('abort', notify);
  }
}

/** Milliseconds after which `until` lies in the past. */
const untilReached = (until: bigint | undefined): number =>
  until === undefined ? Infinity : Number((until - wallClock()) / 1_000_000n) + 1;

/** Reads the files of a log one after the other, in batches of whole lines. */
class Reader implements Disposable {
  /** The first one is being read, the others are newer. */
  readonly #queue: LogFile[];
  #position = 0;
  /** The start of a line whose end has not been read yet. */
  #rest: Buffer = NOTHING;

  constructor(private readonly path: string) {
    this.#queue = openNewerThan(undefined, path);
  }

  /** Skips what `tail` and `since` exclude, as far as that is known without decoding. */
  async seek({ tail, since }: LogQuery): Promise<void> {
    const queue = this.#queue;
    if (queue.length === 0) return;
    let skipped = 0;
    if (tail !== undefined) {
      const { index, offset } = await startOfTail(queue, tail);
      skipped = index;
      this.#position = offset;
    }
    if (since !== undefined) {
      while (skipped < queue.length - 1 && queue[skipped]!.modified + CLOCK_SLACK_NS < since) {
        skipped++;
        this.#position = 0;
      }
    }
    queue.splice(0, skipped).forEach(closeFile);
  }

  /** The next batch; undefined at the end of the newest file. */
  async next(): Promise<LogEntry[] | undefined> {
    for (;;) {
      const file = this.#queue[0];
      if (!file) return undefined;
      const left = sizeOf(file) - this.#position;
      if (left < 0) {
        // The file was truncated from outside.
        this.#startOver();
      } else if (left === 0) {
        if (this.#queue.length === 1) return undefined;
        // A rest without a newline stays incomplete: its writer died.
        closeFile(this.#queue.shift()!);
        this.#startOver();
      } else {
        const batch = await this.#read(file, left);
        if (batch) return batch;
      }
    }
  }

  /** The whole lines among the next bytes; undefined when not even one is complete. */
  async #read(file: LogFile, left: number): Promise<LogEntry[] | undefined> {
    const start = this.#rest.length;
    // Entries point into their chunk, so chunks are not reused.
    const chunk = Buffer.allocUnsafeSlow(start + Math.min(left, Math.max(CHUNK, start)));
    this.#rest.copy(chunk);
    const length = start + (await readAt(file, chunk, start, this.#position));
    this.#position += length - start;
    const end = chunk.subarray(0, length).lastIndexOf(NEWLINE) + 1;
    this.#rest = length - end > LONGEST_LINE ? NOTHING : chunk.subarray(end, length);
    return end > 0 ? decodeLines(chunk, end) : undefined;
  }

  /** Queues the files newer than the queued ones. Returns whether there were any. */
  openNewer(): boolean {
    const newer = openNewerThan(this.#queue.at(-1)?.inode, this.path);
    this.#queue.push(...newer);
    return newer.length > 0;
  }

  #startOver(): void {
    this.#position = 0;
    this.#rest = NOTHING;
  }

  [Symbol.dispose](): void {
    this.#queue.forEach(closeFile);
  }
}

interface Selection {
  entries: LogEntry[];
  /** An entry was later than `until`. */
  done: boolean;
}

/** Returns the filter for stream, since and until. */
function selector({ stdout, stderr, since, until }: LogQuery): (batch: LogEntry[]) => Selection {
  const compareToSince = since === undefined ? undefined : comparerWith(since);
  const compareToUntil = until === undefined ? undefined : comparerWith(until);
  if (stdout && stderr && !compareToSince && !compareToUntil) return (entries) => ({ entries, done: false });
  return (batch) => {
    const entries: LogEntry[] = [];
    for (const entry of batch) {
      if (compareToUntil && compareToUntil(entry.time) > 0) return { entries, done: true };
      const streamWanted = entry.stream === 'stdout' ? stdout : stderr;
      const tooEarly = compareToSince !== undefined && compareToSince(entry.time) < 0;
      if (streamWanted && !tooEarly) entries.push(entry);
    }
    return { entries, done: false };
  };
}
