/**
 * Follows the journal of a container's shim: each record becomes events, the row and the state in memory, exactly once.
 * The shim is the only writer of the run state; here it is read and kept.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../../../model/container.ts';
import { SystemFault, Unavailable } from '../../../model/errors.ts';
import { parseJournal } from '../../../protocol/journal-format.ts';
import type { Hello } from '../../../protocol/messages.ts';
import { JOURNAL_FILE } from '../../../protocol/paths.ts';
import type { JournalRecord } from '../../../protocol/records.ts';
import { applyRecord, type RunState } from '../../../protocol/runstate.ts';
import { eventsOf, type EventSubject } from '../../events/from-journal.ts';
import type { ShimLink } from '../../shims/link.ts';
import { healthSpec } from '../../spec/health.ts';
import type { HandleDeps } from './handle-deps.ts';

type JournalDeps = Pick<HandleDeps, 'paths' | 'rows' | 'execs' | 'events' | 'log'>;

/** Records per `since` request. */
const PULL_LIMIT = 500;
/** How long after a pull the shim learns which records are committed here. */
const COMMITTED_AFTER_MS = 1_000;
/** A failed pull is retried after this, doubling up to the maximum. */
const RETRY_MS = 250;
const RETRY_MAX_MS = 10_000;
/** A row that the disk refused is written again after this. */
const STORE_AGAIN_MS = 1_000;

export class JournalFollower {
  #connected: ShimLink | undefined;
  #pulling: Promise<void> | undefined;
  #pullAgain = false;
  #committedTimer: NodeJS.Timeout | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  /** Inode and size of the journal at the last refresh; a compacted journal is another file. */
  #version = '';
  /** The highest sequence number that the shim has announced. */
  #announced = 0;
  readonly #watchers = new Set<() => void>();
  /** The state at the cursor, while the disk refuses the row of a later one. */
  #stored: RunState | undefined;
  #closed = false;

  /** `onFinal` runs each time the state becomes final. */
  constructor(
    private readonly container: Container,
    private readonly deps: JournalDeps,
    private readonly onFinal: () => void,
  ) {}

  get #link(): ShimLink | undefined {
    return this.#connected?.closed ? undefined : this.#connected;
  }

  /** Follows the shim at the other end of `link`, which has introduced itself. */
  follow(link: ShimLink, hello: Hello): void {
    this.#connected = link;
    this.#announced = hello.seq;
    const c = this.container;
    if (hello.seq >= c.cursor) return;
    // The row is ahead only where the data root was restored from a backup; the shim is right then.
    this.deps.log.warn(
      { container: c.id, journal: hello.seq, cursor: c.cursor },
      'the journal is shorter than the row',
    );
    this.#store(hello.state, hello.seq, []);
  }

  unfollow(): void {
    this.#connected = undefined;
  }

  /** The doorbell: the shim's journal has grown to `seq`. */
  onDoorbell(seq: number): void {
    this.#announced = Math.max(this.#announced, seq);
    if (seq > this.container.cursor) this.#pullWithRetries();
  }

  /** Brings row, events and memory up to the shim's journal. Concurrent calls share one pull, or the one after it. */
  pull(): Promise<void> {
    this.#pullAgain = true;
    return (this.#pulling ??= this.#pullAll());
  }

  /**
   * Pulls if the journal file has changed since the last refresh. Before the shim answers a client (a wait, the end of
   * a stream), the reason is in its journal: the file's size tells whether there is anything to ask for.
   */
  async refresh(): Promise<void> {
    const version = this.#journalVersion();
    if (version === this.#version) return;
    await this.pull();
    this.#version = version;
  }

  /** Resolves when `condition` holds of the state, `signal` aborts, or the container is removed. */
  until(condition: (state: RunState) => boolean, signal?: AbortSignal): Promise<void> {
    if (condition(this.container.state) || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        this.#watchers.delete(check);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const check = (): void => void ((condition(this.container.state) || this.#closed) && done());
      this.#watchers.add(check);
      signal?.addEventListener('abort', done);
    });
  }

  /** Learns from the journal file, where no shim can be asked. */
  readFile(): void {
    let file: Buffer;
    try {
      file = readFileSync(join(this.deps.paths.container(this.container.id), JOURNAL_FILE));
    } catch {
      return;
    }
    const { snapshot, records } = parseJournal(file);
    // Compacted past the row: only where the store was restored from a backup.
    if (snapshot && snapshot.seq > this.container.cursor) this.#store(snapshot.state, snapshot.seq, []);
    this.#merge(records);
  }

  /** False while the disk refuses the row of the current state. */
  get isStored(): boolean {
    return this.#stored === undefined;
  }

  /** Stores what a full disk has refused. @throws SystemFault when it still does */
  store(): void {
    if (this.#stored) this.readFile();
    if (this.#stored) throw new SystemFault(`the end of container ${this.container.id} cannot be stored`);
  }

  dump(): { cursor: number; announced: number; pulling: boolean; watchers: number } {
    return {
      cursor: this.container.cursor,
      announced: this.#announced,
      pulling: this.#pulling !== undefined,
      watchers: this.#watchers.size,
    };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#committedTimer);
    clearTimeout(this.#retryTimer);
  }

  /** The container is removed: every `until` resolves. */
  releaseWaiters(): void {
    this.close();
    this.#notify();
  }

  async #pullAll(): Promise<void> {
    await Promise.resolve(); // So that #pulling is set.
    try {
      while (this.#pullAgain) {
        this.#pullAgain = false;
        const link = this.#link;
        if (!link) {
          this.readFile();
          return;
        }
        await this.#pullFrom(link);
      }
    } finally {
      // Cleared in the tick that saw #pullAgain unset, so a later caller starts a new pull.
      this.#pulling = undefined;
    }
  }

  async #pullFrom(link: ShimLink): Promise<void> {
    try {
      for (;;) {
        const { records, last } = await link.request({ op: 'since', seq: this.container.cursor, limit: PULL_LIMIT });
        this.#merge(records);
        if (this.#stored || this.container.cursor >= last || records.length === 0) break;
      }
    } catch (error) {
      // The shim has died. What it has answered before is in the file.
      if (!(error instanceof Unavailable)) throw error;
      this.readFile();
      return;
    }
    this.#committedTimer ??= setTimeout(() => this.#reportCommitted(), COMMITTED_AFTER_MS).unref();
  }

  // A pull can fail for a while: the shim is slow to answer.
  #pullWithRetries(pause = RETRY_MS): void {
    clearTimeout(this.#retryTimer);
    this.pull().catch((err: unknown) => {
      this.deps.log.warn({ container: this.container.id, err }, 'could not pull the journal; retrying');
      if (!this.#link || this.#closed) return;
      clearTimeout(this.#retryTimer);
      this.#retryTimer = setTimeout(() => this.#pullWithRetries(Math.min(pause * 2, RETRY_MAX_MS)), pause).unref();
    });
  }

  // Only the journal's compaction waits for this: not worth an fsync and two messages after each pull.
  #reportCommitted(): void {
    this.#committedTimer = undefined;
    const link = this.#link;
    if (!link) return;
    const seq = this.container.cursor;
    this.deps.rows
      .flushed()
      .then(() => link.request({ op: 'committed', seq }))
      .catch(() => undefined);
  }

  #journalVersion(): string {
    const file = statSync(join(this.deps.paths.container(this.container.id), JOURNAL_FILE), { throwIfNoEntry: false });
    return file ? `${file.ino}:${file.size}` : '';
  }

  #merge(records: JournalRecord[]): void {
    const c = this.container;
    const fresh = records.filter((r) => r.seq > c.cursor);
    if (fresh.length === 0) return;
    let state = this.#stored ?? c.state;
    const events = fresh.flatMap((record) => {
      const before = state;
      state = applyRecord(state, record);
      return eventsOf(record, subjectOf(c), {
        before,
        commandOf: (exec) => this.deps.execs.commandOf(exec),
        probe: healthSpec(c.config)?.argv,
      });
    });
    this.#store(state, fresh.at(-1)!.seq, fresh, () => this.deps.events.record(...events));
  }

  #store(state: RunState, cursor: number, records: JournalRecord[], alongside: () => void = () => undefined): void {
    const c = this.container;
    const before = this.#stored ?? c.state;
    try {
      this.#write(state, cursor, records, alongside);
    } catch (err) {
      // The state is true all the same. What depends on the row (releasing resources, a removal) waits for it.
      this.deps.log.warn({ container: c.id, err }, 'could not store the run state; retrying');
      this.#stored = before;
      c.state = state;
      this.#notify();
      this.#storeLater();
      return;
    }
    this.#stored = undefined;
    c.state = state;
    c.cursor = cursor;
    this.#notify();
    // Also when a whole run arrives at once.
    if (state.final && (!before.final || state.gen !== before.gen)) this.onFinal();
  }

  #write(state: RunState, cursor: number, records: JournalRecord[], alongside: () => void): void {
    const c = this.container;
    // Not synced: after a crash the journal is read again. Only its compaction waits for the disk (#reportCommitted).
    this.deps.rows.relaxed(() => {
      alongside();
      for (const record of records) this.deps.execs.apply(c.id, record);
      this.deps.rows.setState(c.id, state, cursor);
    });
  }

  #storeLater(): void {
    if (this.#closed) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => (this.#link ? this.#pullWithRetries() : this.readFile()), STORE_AGAIN_MS);
    this.#retryTimer.unref();
  }

  #notify(): void {
    for (const check of [...this.#watchers]) check();
  }
}

const subjectOf = (c: Container): EventSubject => ({
  id: c.id,
  name: c.name,
  image: c.config.Image,
  labels: c.config.Labels,
});
