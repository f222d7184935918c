/** Reads a container's json-file log: tail, since, until, follow, through rotations. */
import { wallClock } from '../../sys/clock.ts';
import type { Container } from '../../model/container.ts';
import { closeFile, LogWatch, openNewerThan, readAt, sizeOf, startOfTail, type LogFile } from './log-files.ts';
import { comparerWith, decodeLines } from './log-lines.ts';

export interface LogQuery {
  stdout: boolean;
  stderr: boolean;
  /** Wall ns; undefined = none. */
  since?: bigint;
  until?: bigint;
  /** Entries from the end; undefined = all. */
  tail?: number;
  follow: boolean;
}

export interface LogEntry {
  stream: 'stdout' | 'stderr';
  /** As stored: RFC3339Nano. */
  time: string;
  /** With its newline, if it has one. */
  line: Buffer;
  attrs: Record<string, string>;
}

/** Bytes read at once, and handed on as one batch. */
const CHUNK = 512 * 1024;
/** A line longer than this is none of ours (entries hold 16 KiB of text). */
const LONGEST_LINE = 4 * 1024 * 1024;
/** A file's time of modification comes from a coarser clock than its entries' times. */
const CLOCK_SLACK_NS = 1_000_000_000n;

const NEWLINE = 0x0a;
const NOTHING = Buffer.alloc(0);

/**
 * Batches of entries: one array per chunk read. Follow ends when the container's generation ends (`ended` resolves) and
 * the file is drained.
 */
export async function* readLog(
  _container: Container,
  path: string,
  query: LogQuery,
  ended: Promise<void>,
  signal: AbortSignal,
): AsyncGenerator<LogEntry[], void> {
  let over = false;
  // Before the first look at the files: what is written after that look is told by the watch.
  using watch = query.follow ? new LogWatch(path) : undefined;
  const notify = (): void => watch?.notify();
  void ended.then(() => {
    over = true;
    notify();
  });
  signal.addEventListener('abort', notify);
  const select = selector(query);
  const reader = new Reader();
  try {
    reader.queue.push(...openNewerThan(undefined, path));
    await reader.seek(query);
    for (;;) {
      // Asked before the read: what was written until then is still delivered.
      const last = !query.follow || over || (query.until !== undefined && wallClock() > query.until);
      const batch = await reader.next();
      if (signal.aborted) return;
      if (batch) {
        const { entries, done } = select(batch);
        if (entries.length > 0) yield entries;
        if (done || signal.aborted) return;
      } else if (query.follow && reader.takeNewer(path)) {
        // Rotated: the old file may have grown until it was renamed, so it is read to its end again before the new one.
      } else if (last) {
        return;
      } else {
        await watch!.change(
          query.until === undefined ? Infinity : Number((query.until - wallClock()) / 1_000_000n) + 1,
        );
        if (signal.aborted) return;
      }
    }
  } finally {
    signal.removeEventListener('abort', notify);
    reader.queue.forEach(closeFile);
  }
}

/** Reads open files one after the other, in batches of whole lines. */
class Reader {
  /** The first is being read, the others are newer. */
  readonly queue: LogFile[] = [];
  #position = 0;
  /** The beginning of a line whose end was not read yet. */
  #rest: Buffer = NOTHING;

  /** Passes over what the query does not want anyway. */
  async seek({ tail, since }: LogQuery): Promise<void> {
    const { queue } = this;
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

  /** The next batch; undefined when all that is there was read. */
  async next(): Promise<LogEntry[] | undefined> {
    for (;;) {
      const file = this.queue[0];
      if (!file) return undefined;
      const left = sizeOf(file) - this.#position;
      if (left < 0) {
        // Somebody emptied the file by hand.
        this.#restart();
      } else if (left === 0) {
        if (this.queue.length === 1) return undefined;
        // What may be left over has no newline and never will: its writer died.
        closeFile(this.queue.shift()!);
        this.#restart();
      } else {
        const batch = await this.#read(file, left);
        if (batch) return batch;
      }
    }
  }

  /** The whole lines among the next bytes; undefined when not even one is complete. */
  async #read(file: LogFile, left: number): Promise<LogEntry[] | undefined> {
    const start = this.#rest.length;
    // Entries point into the chunk: each needs a new one.
    const chunk = Buffer.allocUnsafeSlow(start + Math.min(left, Math.max(CHUNK, start)));
    this.#rest.copy(chunk);
    const length = start + (await readAt(file, chunk, start, this.#position));
    this.#position += length - start;
    const end = chunk.subarray(0, length).lastIndexOf(NEWLINE) + 1;
    this.#rest = length - end > LONGEST_LINE ? NOTHING : chunk.subarray(end, length);
    return end > 0 ? decodeLines(chunk, end) : undefined;
  }

  /** Queues files that are newer than those known; whether there were any. */
  takeNewer(path: string): boolean {
    const newer = openNewerThan(this.queue.at(-1)?.inode, path);
    this.queue.push(...newer);
    return newer.length > 0;
  }

  #restart(): void {
    this.#position = 0;
    this.#rest = NOTHING;
  }
}

/** Keeps the entries that were asked for; `done` when one was later than `until`. */
function selector({
  stdout,
  stderr,
  since,
  until,
}: LogQuery): (batch: LogEntry[]) => { entries: LogEntry[]; done: boolean } {
  const sinceOf = since === undefined ? undefined : comparerWith(since);
  const untilOf = until === undefined ? undefined : comparerWith(until);
  if (stdout && stderr && !sinceOf && !untilOf) return (entries) => ({ entries, done: false });
  return (batch) => {
    const entries: LogEntry[] = [];
    for (const entry of batch) {
      if (untilOf && untilOf(entry.time) > 0) return { entries, done: true };
      if ((entry.stream === 'stdout' ? stdout : stderr) && !(sinceOf && sinceOf(entry.time) < 0)) entries.push(entry);
    }
    return { entries, done: false };
  };
}
