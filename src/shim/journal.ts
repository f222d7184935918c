/**
 * The journal of one container (format: protocol/journal-format.ts), and the run state that follows from it.
 * A record counts from the moment append() returns: whoever reads it hears it. That it is on disk too is what durable()
 * waits for.
 * A full disk cannot lose a record while the shim lives: it stays in memory and is tried again; and room for the next
 * ones is reserved ahead, so that an exit usually finds its place even then.
 */
import {
  closeSync,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { encodeRecord, encodeSnapshot, parseJournal, type Snapshot } from '../protocol/journal-format.ts';
import type { JournalRecord, RecordBody, RecordType } from '../protocol/records.ts';
import { applyRecord, initialRunState, type RunState } from '../protocol/runstate.ts';
import { monotonicClock, wallClock } from '../sys/clock.ts';
import { preallocate, syncDirectory } from '../sys/file.ts';
import { carry, initialCarried, type Carried } from './pending-intents.ts';

/** When something happened, ns. */
export interface Moment {
  wall: bigint;
  mono: bigint;
}

export const now = (): Moment => ({ wall: wallClock(), mono: monotonicClock() });

/** Lost only with the power, and of no use after it: not worth an fsync. */
const UNSYNCED: ReadonlySet<RecordType> = new Set<RecordType>([
  'created',
  'health',
  'attached',
  'detached',
  'resized',
  'exec-started',
  'exec-failed',
  'paused',
  'resumed',
  'killed',
]);

const RESERVE = 64 * 1024;
const RESERVE_AGAIN_BELOW = 16 * 1024;
const RETRY_MS = 1000;
/** A committed journal is rewritten once this much of it is dead weight. */
const COMPACT_BYTES = 64 * 1024;
/** Without a daemon: a week of probes at the default interval of 30 s is kept, older ones go. */
const HEALTH_RECORDS = 20_160;
const BOUND_BYTES = 16 * 1024 * 1024;
/** The newest records are answered from memory. */
const RECENT = 256;
/** After a boot: numbers that may have been pulled and then lost with the power are not used again. */
const BOOT_GAP = 1000;

export class Journal {
  state: RunState;
  carried: Carried;
  seq: number;
  /** Called after each append. */
  onAppend: (seq: number) => void = () => {};

  #fd: number;
  #size: number;
  #reserved = 0;
  #recent: JournalRecord[] = [];
  #unwritten: Buffer[] = [];
  #retry: NodeJS.Timeout | undefined;
  #committed: number;
  #boundAt = BOUND_BYTES;
  #compacting: { fd: number; size: number } | null = null;
  #closed = false;

  // Group commit: one fdatasync runs at a time, whoever comes meanwhile shares the next one.
  #dirty = 0;
  #clean = 0;
  #sync: Promise<void> | null = null;

  /** Opens `path` (made if missing) and cuts off a torn tail. */
  constructor(
    private readonly path: string,
    private readonly boot: string,
  ) {
    const isNew = !existsSync(path);
    this.#fd = openSync(path, 'a', 0o600);
    if (isNew) syncDirectory(dirname(path));
    const parsed = parseJournal(readFileSync(path));
    if (fstatSync(this.#fd).size > parsed.whole) ftruncateSync(this.#fd, parsed.whole);
    this.#size = parsed.whole;
    this.#committed = parsed.snapshot?.seq ?? 0;
    const folded = fold(parsed.snapshot, parsed.records);
    this.state = folded.state;
    this.carried = folded.carried;
    this.#recent = parsed.records.slice(-RECENT);
    const last = parsed.records.at(-1);
    this.seq = parsed.seq + (last && last.boot !== boot ? BOOT_GAP : 0);
    this.#reserveRoom();
  }

  /** Writes one record. `at` when it happened, if that was not just now. */
  append(body: RecordBody, at: Moment = now()): JournalRecord {
    const gen = body.type === 'creating' ? this.state.gen + 1 : this.state.gen;
    const record = {
      seq: ++this.seq,
      gen,
      boot: this.boot,
      wall: String(at.wall),
      mono: String(at.mono),
      ...body,
    };
    this.state = applyRecord(this.state, record);
    this.carried = carry(this.carried, record);
    this.#recent.push(record);
    this.#unwritten.push(encodeRecord(record));
    this.#flush();
    // What is in no file yet can be had from here only.
    const kept = RECENT + this.#unwritten.length;
    if (this.#recent.length > kept + RECENT) this.#recent.splice(0, this.#recent.length - kept);
    if (!UNSYNCED.has(body.type)) this.#wantSync();
    if (this.#size > this.#boundAt) void this.#compact();
    this.onAppend(this.seq);
    return record;
  }

  /** False while a full disk (or another fault) keeps records in memory only. */
  get writable(): boolean {
    return this.#unwritten.length === 0;
  }

  /** Resolves when everything appended so far is on disk, or the disk has refused it. */
  async durable(): Promise<void> {
    const goal = this.#dirty;
    while (this.#clean < goal && this.#sync) await this.#sync;
  }

  /** Records after `seq`, oldest first, at most `limit`. */
  since(seq: number, limit: number): { records: JournalRecord[]; last: number } {
    const first = this.#recent[0]?.seq ?? this.seq + 1;
    const known =
      seq + 1 >= first ? this.#recent : mergeNewer(parseJournal(readFileSync(this.path)).records, this.#recent);
    const records = known.filter((r) => r.seq > seq).slice(0, Math.max(limit, 0));
    return { records, last: this.seq };
  }

  /** The daemon has everything up to `seq`: it need not be kept. */
  committed(seq: number): void {
    this.#committed = Math.max(this.#committed, Math.min(seq, this.seq));
    if (this.#size >= COMPACT_BYTES) void this.#compact();
  }

  /** Everything goes to disk, synchronously, and the file is closed. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#flush();
    if (this.#clean < this.#dirty) fdatasyncSync(this.#fd);
    closeSync(this.#fd);
  }

  #flush(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    try {
      while (this.#unwritten.length > 0) {
        const line = this.#unwritten[0]!;
        writeWhole(this.#fd, line, this.#size);
        this.#size += line.length;
        this.#unwritten.shift();
        if (this.#compacting) this.#writeToSuccessor(this.#compacting, line);
      }
      this.#reserveRoom();
    } catch {
      if (!this.#closed) this.#retry = setTimeout(() => this.#retryFlush(), RETRY_MS);
    }
  }

  /** The successor file of a compaction under way gets it too; one that lacks a record must not succeed. */
  #writeToSuccessor(successor: { fd: number; size: number }, line: Buffer): void {
    try {
      writeWhole(successor.fd, line, successor.size);
      successor.size += line.length;
    } catch {
      this.#abandonCompaction();
    }
  }

  #retryFlush(): void {
    this.#flush();
    if (this.writable) this.#wantSync();
  }

  #reserveRoom(): void {
    if (this.#reserved - this.#size >= RESERVE_AGAIN_BELOW) return;
    if (preallocate(this.#fd, this.#size, RESERVE)) this.#reserved = this.#size + RESERVE;
  }

  #wantSync(): void {
    this.#dirty = this.seq;
    this.#sync ??= this.#syncOnce();
  }

  #syncOnce(): Promise<void> {
    return new Promise((resolve) => {
      // Later in this tick, so that records written together share it.
      queueMicrotask(() => {
        const covers = this.#dirty;
        fdatasync(this.#fd, () => {
          this.#clean = covers;
          this.#sync = this.#dirty > covers && !this.#closed ? this.#syncOnce() : null;
          resolve();
        });
      });
    });
  }

  /**
   * Rewrites the file: a snapshot of what is committed, then the rest, less the oldest probes where there are too many.
   */
  async #compact(): Promise<void> {
    if (this.#compacting || this.#closed || !this.writable) return;
    const parsed = parseJournal(readFileSync(this.path));
    const done = parsed.records.filter((r) => r.seq <= this.#committed);
    const rest = bounded(parsed.records.filter((r) => r.seq > this.#committed));
    if (done.length === 0 && rest.length === parsed.records.length) {
      this.#boundAt = this.#size * 2;
      return;
    }
    const folded = fold(parsed.snapshot, done);
    const lines = [
      encodeSnapshot({ seq: Math.max(this.#committed, parsed.snapshot?.seq ?? 0), ...folded }),
      ...rest.map(encodeRecord),
    ];
    const temporary = this.#successorPath;
    try {
      const fd = openSync(temporary, 'w', 0o600);
      this.#compacting = { fd, size: 0 };
      const content = Buffer.concat(lines);
      writeWhole(fd, content, 0);
      this.#compacting.size = content.length;
      await new Promise<void>((resolve, reject) => fdatasync(fd, (error) => (error ? reject(error) : resolve())));
      while (this.#sync) await this.#sync;
      if (this.#closed || !this.writable || !this.#compacting) return void this.#abandonCompaction();
      // What was appended meanwhile is in both; from here on only the new one counts.
      fdatasyncSync(fd);
      renameSync(temporary, this.path);
    } catch {
      this.#abandonCompaction();
      return;
    }
    syncDirectory(dirname(this.path));
    closeSync(this.#fd);
    this.#fd = this.#compacting.fd;
    this.#size = this.#compacting.size;
    this.#compacting = null;
    this.#reserved = 0;
    this.#boundAt = Math.max(BOUND_BYTES, this.#size * 2);
    this.#reserveRoom();
  }

  get #successorPath(): string {
    return `${this.path}.new`;
  }

  #abandonCompaction(): void {
    if (!this.#compacting) return;
    closeSync(this.#compacting.fd);
    this.#compacting = null;
    rmSync(this.#successorPath, { force: true });
  }
}

function fold(snapshot: Snapshot | null, records: JournalRecord[]): { state: RunState; carried: Carried } {
  return {
    state: records.reduce(applyRecord, snapshot?.state ?? initialRunState()),
    carried: records.reduce(carry, { ...initialCarried(), ...(snapshot?.carried as Partial<Carried> | undefined) }),
  };
}

/** Drops the oldest probes' records beyond what is kept; one that changed the status stays. */
export function bounded(records: JournalRecord[], keep = HEALTH_RECORDS): JournalRecord[] {
  let status = '';
  const droppable: JournalRecord[] = [];
  for (const r of records) {
    if (r.type !== 'health') continue;
    if (r.status === status) droppable.push(r);
    status = r.status;
  }
  const drop = new Set(droppable.slice(0, Math.max(droppable.length - keep, 0)));
  return drop.size === 0 ? records : records.filter((r) => !drop.has(r));
}

function mergeNewer(older: JournalRecord[], newer: JournalRecord[]): JournalRecord[] {
  const first = newer[0]?.seq ?? Infinity;
  return [...older.filter((r) => r.seq < first), ...newer];
}

// All or nothing: a short write (the disk filled up midway) is taken back.
function writeWhole(fd: number, bytes: Buffer, size: number): void {
  let written = 0;
  try {
    while (written < bytes.length) written += writeSync(fd, bytes, written, bytes.length - written, size + written);
  } catch (error) {
    if (written > 0) ftruncateSync(fd, size);
    throw error;
  }
}
