/**
 * The journal of one container (format: protocol/journal-format.ts) and the run state folded from it.
 * A record is visible to readers once append() returns; durable() waits until it is on disk.
 * A full disk loses no record while the shim lives: records stay in memory and are written later. Space is reserved
 * ahead of the end of the file, so that an exit usually fits even then.
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
import { encodeRecord, encodeSnapshot, parseJournal } from '../protocol/journal-format.ts';
import type { StoredState } from '../protocol/messages.ts';
import type { JournalRecord, RecordBody, RecordType } from '../protocol/records.ts';
import { applyRecord, type RunState } from '../protocol/runstate.ts';
import { monotonicClock, wallClock } from '../sys/clock.ts';
import { faultPoint } from '../sys/fault.ts';
import { preallocate, syncDirectory } from '../sys/file.ts';
import { compactedLines } from './compaction.ts';
import { beginningOf } from './journal-beginning.ts';
import { reduceIntents, type PendingIntents } from './pending-intents.ts';

/** When something happened: wall clock since the epoch and CLOCK_MONOTONIC, ns. */
export interface Moment {
  wall: bigint;
  mono: bigint;
}

export const now = (): Moment => ({ wall: wallClock(), mono: monotonicClock() });

/** Lost only in a power failure, and useless after it: not worth a sync. */
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

const RESERVE_BYTES = 64 * 1024;
const RESERVE_AGAIN_BELOW_BYTES = 16 * 1024;
const RETRY_MS = 1000;
/** Once the daemon commits, a journal of at least this size is compacted. */
const COMPACT_BYTES = 64 * 1024;
/** Without commits, the size from which a compaction drops old probes. */
const BOUND_BYTES = 16 * 1024 * 1024;
/** Number of newest records that since() answers from memory. */
const RECENT = 256;
/** Skipped after a reboot: the daemon may have pulled records with these numbers that a power failure then lost. */
const BOOT_GAP = 1000;

interface OpenFile {
  fd: number;
  size: number;
}

export class Journal {
  state: RunState;
  pending: PendingIntents;
  seq: number;
  /** Records are missing from the file: the container may be in a later state than the run state says. */
  readonly isIncomplete: boolean;
  /** Called after each append with the new last sequence number. */
  onAppend: (seq: number) => void = () => {};

  #fd: number;
  #size: number;
  #reserved = 0;
  #recent: JournalRecord[] = [];
  #unwritten: Buffer[] = [];
  #retry: NodeJS.Timeout | undefined;
  #committed: number;
  #boundAt = BOUND_BYTES;
  /** The file that a compaction under way writes. */
  #compacting: OpenFile | null = null;
  #closed = false;

  // Group commit: one fdatasync runs at a time; records appended meanwhile share the next one.
  /** Last sequence number that must be synced. */
  #dirty = 0;
  /** Last sequence number that is synced. */
  #clean = 0;
  #sync: Promise<void> | null = null;

  /** Opens `path`, creating it if missing, and cuts off a torn tail. `stored` is what the daemon knows of it. */
  constructor(
    private readonly path: string,
    private readonly boot: string,
    stored?: StoredState,
  ) {
    const isNew = !existsSync(path);
    this.#fd = openSync(path, 'a', 0o600);
    if (isNew) syncDirectory(dirname(path));
    const parsed = parseJournal(readFileSync(path));
    if (fstatSync(this.#fd).size > parsed.whole) ftruncateSync(this.#fd, parsed.whole);
    this.#size = parsed.whole;
    this.#committed = parsed.snapshot?.seq ?? 0;
    const { state, pending, seq, from, isIncomplete } = beginningOf(parsed, stored);
    this.state = state;
    this.pending = pending;
    this.isIncomplete = isIncomplete;
    const restored = from === 'stored';
    this.#recent = restored ? [] : parsed.records.slice(-RECENT);
    const lastBoot = restored ? state.boot : (parsed.records.at(-1)?.boot ?? boot);
    this.seq = seq + (lastBoot !== boot ? BOOT_GAP : 0);
    this.#reserveRoom();
    // The next shim finds it in the file again, whatever the daemon knows by then.
    if (restored) {
      this.#unwritten.push(encodeSnapshot({ seq, state, carried: pending }));
      this.#flush();
      this.#wantSync();
    }
  }

  /** The records of the beginning of generation `gen` are lost: the following ones belong to it. */
  continueGeneration(gen: number): void {
    this.state = { ...this.state, status: 'starting', gen, boot: this.boot, final: false, execs: {} };
  }

  /** Appends one record that happened at `at`. */
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
    this.pending = reduceIntents(this.pending, record);
    this.#recent.push(record);
    this.#unwritten.push(encodeRecord(record));
    faultPoint('journal.before', body.type);
    this.#flush();
    faultPoint('journal.after', body.type);
    // Records that are in no file yet can be read from here only.
    const kept = RECENT + this.#unwritten.length;
    if (this.#recent.length > kept + RECENT) this.#recent.splice(0, this.#recent.length - kept);
    if (!UNSYNCED.has(body.type)) this.#wantSync();
    if (this.#size > this.#boundAt) void this.#compact();
    this.onAppend(this.seq);
    return record;
  }

  /** False while a full disk, or another fault, keeps records in memory only. */
  get writable(): boolean {
    return this.#unwritten.length === 0;
  }

  /** Resolves when every record appended so far is on disk, or the disk has refused it. */
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

  /** The newest records, oldest first. */
  get recent(): readonly JournalRecord[] {
    return this.#recent;
  }

  /** The daemon has stored everything up to `seq`: a compaction may drop it. */
  committed(seq: number): void {
    this.#committed = Math.max(this.#committed, Math.min(seq, this.seq));
    if (this.#size >= COMPACT_BYTES) void this.#compact();
  }

  /** Writes and syncs every record, synchronously, and closes the file. */
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
        if (this.#compacting) this.#writeToCompacted(this.#compacting, line);
      }
      this.#reserveRoom();
    } catch {
      if (!this.#closed) this.#retry = setTimeout(() => this.#retryFlush(), RETRY_MS);
    }
  }

  /** Appends to the file of a compaction under way too. A file that lacks a record must not replace the journal. */
  #writeToCompacted(compacted: OpenFile, line: Buffer): void {
    try {
      writeWhole(compacted.fd, line, compacted.size);
      compacted.size += line.length;
    } catch {
      this.#abandonCompaction();
    }
  }

  #retryFlush(): void {
    this.#flush();
    if (this.writable) this.#wantSync();
  }

  #reserveRoom(): void {
    if (this.#reserved - this.#size >= RESERVE_AGAIN_BELOW_BYTES) return;
    if (preallocate(this.#fd, this.#size, RESERVE_BYTES)) this.#reserved = this.#size + RESERVE_BYTES;
  }

  #wantSync(): void {
    this.#dirty = this.seq;
    this.#sync ??= this.#syncOnce();
  }

  #syncOnce(): Promise<void> {
    return new Promise((resolve) => {
      // At the end of this tick, so that records appended together share one sync.
      queueMicrotask(() => {
        const covers = this.#dirty;
        fdatasync(this.#fd, () => {
          faultPoint('journal.synced');
          this.#clean = covers;
          this.#sync = this.#dirty > covers && !this.#closed ? this.#syncOnce() : null;
          resolve();
        });
      });
    });
  }

  get #mayCompact(): boolean {
    return !this.#compacting && !this.#closed && this.writable;
  }

  /** Rewrites the file as a snapshot of what is committed, then the rest without the oldest surplus probes. */
  async #compact(): Promise<void> {
    if (!this.#mayCompact) return;
    const lines = compactedLines(parseJournal(readFileSync(this.path)), this.#committed);
    if (!lines) {
      this.#boundAt = this.#size * 2;
      return;
    }
    try {
      const compacted = this.#createCompacted(lines);
      faultPoint('compaction.written');
      await dataSynced(compacted.fd);
      while (this.#sync) await this.#sync;
      const wasAbandoned = this.#compacting !== compacted;
      if (wasAbandoned) return;
      if (this.#closed || !this.writable) return void this.#abandonCompaction();
      // Records appended meanwhile are in both files; from here on only the new one is written.
      fdatasyncSync(compacted.fd);
      faultPoint('compaction.before');
      renameSync(this.#compactedPath, this.path);
      faultPoint('compaction.after');
    } catch {
      this.#abandonCompaction();
      return;
    }
    this.#switchToCompacted();
  }

  /** Starts a compaction: from now on appends go to its file too. */
  #createCompacted(lines: Buffer[]): OpenFile {
    const compacted = { fd: openSync(this.#compactedPath, 'w', 0o600), size: 0 };
    this.#compacting = compacted;
    const content = Buffer.concat(lines);
    writeWhole(compacted.fd, content, 0);
    compacted.size = content.length;
    return compacted;
  }

  /** The compacted file has the journal's name now: writes to it from now on. */
  #switchToCompacted(): void {
    const { fd, size } = this.#compacting!;
    syncDirectory(dirname(this.path));
    closeSync(this.#fd);
    this.#fd = fd;
    this.#size = size;
    this.#compacting = null;
    this.#reserved = 0;
    this.#boundAt = Math.max(BOUND_BYTES, this.#size * 2);
    this.#reserveRoom();
    faultPoint('compaction.switched');
  }

  get #compactedPath(): string {
    return `${this.path}.new`;
  }

  #abandonCompaction(): void {
    if (!this.#compacting) return;
    closeSync(this.#compacting.fd);
    this.#compacting = null;
    rmSync(this.#compactedPath, { force: true });
  }
}

function mergeNewer(older: JournalRecord[], newer: JournalRecord[]): JournalRecord[] {
  const first = newer[0]?.seq ?? Infinity;
  return [...older.filter((r) => r.seq < first), ...newer];
}

const dataSynced = (fd: number): Promise<void> =>
  new Promise((resolve, reject) => fdatasync(fd, (error) => (error ? reject(error) : resolve())));

// All or nothing: undoes a short write (the disk filled up midway).
function writeWhole(fd: number, bytes: Buffer, size: number): void {
  let written = 0;
  try {
    while (written < bytes.length) written += writeSync(fd, bytes, written, bytes.length - written, size + written);
  } catch (error) {
    if (written > 0) ftruncateSync(fd, size);
    throw error;
  }
}
