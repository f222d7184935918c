/**
 * What the daemon holds of one container: its row, the link to its shim if one lives, and the clients that wait for it.
 * The shim is the only writer of the run state; here it is read (pulled from the journal) and kept.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseJournal } from '../../protocol/journal-format.ts';
import { JOURNAL_FILE, LOCK_FILE } from '../../protocol/paths.ts';
import type { JournalRecord } from '../../protocol/records.ts';
import { applyRecord, type RunState } from '../../protocol/runstate.ts';
import { tryLock } from '../../sys/file.ts';
import { bootId } from '../../sys/process.ts';
import { Unavailable } from '../errors.ts';
import { eventsOf, type EventSubject } from '../events/from-journal.ts';
import { ShimLink } from '../shims/link.ts';
import type { Container } from './container.ts';
import type { Parts } from './parts.ts';
import { Serial } from './serial.ts';
import { Waits } from './waits.ts';

/** Records asked for at once. */
const PULL_LIMIT = 500;
/** A shim that cannot be reached is tried again after this, doubling up to the second. */
const RETRY_MS = 250;
const RETRY_MAX_MS = 10_000;
/** How long a request that names a container waits for a shim that does not answer. */
const PATIENCE_MS = 15_000;
/** A shim that is on its way out holds its lock a little longer. */
const LOCK_PATIENCE_MS = 5_000;
const LOCK_POLL_MS = 20;
/** The shim is told what of its journal is committed here this long after a pull. */
const COMMITTED_AFTER_MS = 1_000;

export class Supervisor {
  readonly serial = new Serial();
  readonly waits = new Waits();
  /** Resolves once the container's state is known after a start of the daemon. */
  restored: Promise<void> = Promise.resolve();
  #link: ShimLink | undefined;
  #reaching: Promise<ShimLink> | undefined;
  #pulling: Promise<void> | undefined;
  #pullAgain = false;
  #committed: NodeJS.Timeout | undefined;
  /** Of the journal at the last refresh; a compacted one is another file. */
  #length = '';
  #changed = new Set<() => void>();
  #gone = false;

  constructor(readonly container: Container, private readonly parts: Parts, private readonly onFinal: (supervisor: Supervisor) => void) {}

  get link(): ShimLink | undefined {
    return this.#link?.closed ? undefined : this.#link;
  }

  /** Connects to the shim if one lives; else learns from the journal on disk, and puts a new shim beside a container that needs one. */
  async restore(): Promise<void> {
    for (let pause = RETRY_MS; !this.#gone; pause = Math.min(pause * 2, RETRY_MAX_MS)) {
      try {
        if (await this.#tryConnect()) return;
        // A removal deletes the directory before the row, and only after the row has the container's end: nothing is left to learn.
        const directory = this.parts.paths.container(this.container.id);
        if (this.container.state.final && !existsSync(directory)) return;
        const lock = tryLock(join(directory, LOCK_FILE));
        if (lock) {
          // Nobody holds the lock: no shim lives, and what the journal says is all there is.
          lock.release();
          this.#mergeFromDisk();
          if (this.#needsTakeOver()) await this.#adopt();
          return;
        }
        this.parts.log.warn({ container: this.container.id }, 'its shim is alive but does not answer; trying again');
      } catch (error) {
        this.parts.log.error({ container: this.container.id, err: error }, 'could not restore it yet; trying again');
      }
      await sleep(pause);
    }
  }

  /** A link to a living shim; one is started if none lives. @throws Unavailable when its shim does not answer */
  reach(): Promise<ShimLink> {
    if (this.link) return Promise.resolve(this.link);
    this.#reaching ??= this.#find().finally(() => (this.#reaching = undefined));
    return this.#reaching;
  }

  /** Asks the shim; once more if it had just ended (a shim lingers a second after its container, and may go between two lines). */
  async ask<T>(work: (link: ShimLink) => Promise<T>): Promise<T> {
    const link = await this.reach();
    try {
      return await work(link);
    } catch (error) {
      if (!(error instanceof Unavailable) || !link.closed) throw error;
      return work(await this.reach());
    }
  }

  /** Brings row, events and memory up to the shim's journal. */
  pull(): Promise<void> {
    if (this.#pulling) {
      this.#pullAgain = true;
      return this.#pulling;
    }
    this.#pulling = this.#pullAll().finally(() => (this.#pulling = undefined));
    return this.#pulling;
  }

  /**
   * The same where the journal has changed since the last look. What the shim tells a client (a wait's answer, the end of a
   * stream) is in its journal before it is told, so that the file's length says whether there is anything to ask for.
   */
  async refresh(): Promise<void> {
    const length = this.#journalLength();
    if (length === this.#length) return;
    await this.pull();
    this.#length = length;
  }

  /** Resolves when `condition` holds of the state; checked at every change. */
  until(condition: (state: RunState) => boolean, signal?: AbortSignal): Promise<void> {
    if (condition(this.container.state) || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        this.#changed.delete(look);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const look = (): void => void ((condition(this.container.state) || this.#gone) && done());
      this.#changed.add(look);
      signal?.addEventListener('abort', done);
    });
  }

  /** The container is removed: nobody asks for it again. */
  retire(): void {
    this.#gone = true;
    clearTimeout(this.#committed);
    this.#link?.close();
    this.#notify();
  }

  /** The daemon ends; shims live on. */
  detach(): void {
    this.#gone = true;
    clearTimeout(this.#committed);
    this.#link?.close();
  }

  async #find(): Promise<ShimLink> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      if (await this.#tryConnect()) return this.#link!;
      const free = await this.#awaitLock(Math.min(LOCK_PATIENCE_MS, deadline - Date.now()));
      if (free) return this.#adopt();
      if (Date.now() >= deadline) throw new Unavailable(`the shim of container ${this.container.id} does not answer`);
    }
  }

  /** Whether nobody holds the container's lock, after waiting a little for a shim that is just ending. */
  async #awaitLock(ms: number): Promise<boolean> {
    const path = join(this.parts.paths.container(this.container.id), LOCK_FILE);
    for (const end = Date.now() + ms; ; await sleep(LOCK_POLL_MS)) {
      const lock = tryLock(path);
      lock?.release();
      if (lock) return true;
      if (Date.now() >= end) return false;
    }
  }

  async #adopt(): Promise<ShimLink> {
    const { id } = this.container;
    this.#mergeFromDisk();
    await this.parts.pool.adopt({ container: id, dir: this.parts.paths.container(id), run: this.parts.paths.run(id) });
    if (!(await this.#tryConnect())) throw new Unavailable(`the new shim of container ${id} does not answer`);
    return this.#link!;
  }

  async #tryConnect(): Promise<boolean> {
    const { container: c } = this;
    try {
      // Undefined while it opens: an end before that is open()'s to tell.
      let opened: ShimLink | undefined;
      const { link, hello } = await ShimLink.open(this.parts.paths.run(c.id), {
        onRing: (seq) => void (seq > c.cursor && this.pull().catch((err: unknown) => this.parts.log.warn({ container: c.id, err }, 'pull failed'))),
        onEnd: () => opened && this.#lost(opened),
      });
      this.#link = opened = link;
      if (hello.seq < c.cursor) {
        // The journal is younger than the row (the data root was restored from a backup): the shim is right.
        this.parts.log.warn({ container: c.id, journal: hello.seq, cursor: c.cursor }, 'the journal is shorter than the row');
        this.#store(hello.state, hello.seq, []);
      }
      await this.pull();
      return !link.closed;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ECONNREFUSED') return false;
      if (error instanceof Unavailable) return false;
      throw error;
    }
  }

  // A shim ends after `final`; ending before it is a death, and the container needs a new one.
  #lost(link: ShimLink): void {
    if (this.#link === link) this.#link = undefined;
    if (this.#gone) return;
    this.#mergeFromDisk();
    if (this.#needsTakeOver()) {
      this.parts.log.warn({ container: this.container.id }, 'its shim is gone before the container; putting a new one beside it');
      this.restored = this.restore();
    }
  }

  #needsTakeOver(): boolean {
    const { state } = this.container;
    return !state.final && state.gen > 0;
  }

  async #pullAll(): Promise<void> {
    do {
      this.#pullAgain = false;
      const { link } = this;
      if (!link) return;
      for (;;) {
        const { records, last } = await link.request({ op: 'since', seq: this.container.cursor, limit: PULL_LIMIT });
        this.#merge(records);
        if (this.container.cursor >= last || records.length === 0) break;
      }
      this.#committed ??= setTimeout(() => this.#tellCommitted(), COMMITTED_AFTER_MS).unref();
    } while (this.#pullAgain);
  }

  // Only the journal's compaction waits for it: not worth a sync and two messages after each pull.
  #tellCommitted(): void {
    this.#committed = undefined;
    const { link } = this;
    const seq = this.container.cursor;
    if (link) this.parts.rows.flushed().then(() => link.request({ op: 'committed', seq })).catch(() => undefined);
  }

  #journalLength(): string {
    const file = statSync(join(this.parts.paths.container(this.container.id), JOURNAL_FILE), { throwIfNoEntry: false });
    return file ? `${file.ino}:${file.size}` : '';
  }

  #mergeFromDisk(): void {
    let file: Buffer;
    try {
      file = readFileSync(join(this.parts.paths.container(this.container.id), JOURNAL_FILE));
    } catch {
      return;
    }
    const { snapshot, records } = parseJournal(file);
    // Compacted past the row: only where the store was put back from a backup.
    if (snapshot && snapshot.seq > this.container.cursor) this.#store(snapshot.state, snapshot.seq, []);
    this.#merge(records);
  }

  #merge(records: JournalRecord[]): void {
    const c = this.container;
    const fresh = records.filter((r) => r.seq > c.cursor);
    if (fresh.length === 0) return;
    let { state } = c;
    const events = fresh.flatMap((record) => {
      const before = state;
      state = applyRecord(state, record);
      return eventsOf(record, subjectOf(c), { before, commandOf: (exec) => this.parts.execs.commandOf(exec) });
    });
    this.#store(state, fresh.at(-1)!.seq, fresh, () => this.parts.events.record(...events));
  }

  #store(state: RunState, cursor: number, records: JournalRecord[], alongside: () => void = () => undefined): void {
    const c = this.container;
    const wasFinal = c.state.final;
    // The journal tells it again: nobody waits for the disk here, only the journal's compaction does (#pullAll).
    this.parts.rows.relaxed(() => {
      alongside();
      for (const record of records) this.parts.execs.apply(record);
      this.parts.rows.setState(c.id, state, cursor);
    });
    c.state = state;
    c.cursor = cursor;
    this.#notify();
    if (state.final && !wasFinal) this.onFinal(this);
  }

  #notify(): void {
    for (const look of [...this.#changed]) look();
  }
}

/** Whether this run belongs to an earlier boot: nothing of it can be alive. */
export const isOfEarlierBoot = (state: RunState): boolean => state.boot !== '' && state.boot !== bootId();

const subjectOf = (c: Container): EventSubject => ({ id: c.id, name: c.name, image: c.config.Image, labels: c.config.Labels });

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
