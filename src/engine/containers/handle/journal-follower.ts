/**
 * Follows the journal of a container's shim: what it tells becomes events, the row and the state in memory, each record
 * once.
 * The shim is the only writer of the run state; here it is read and kept.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseJournal } from '../../../protocol/journal-format.ts';
import type { Hello } from '../../../protocol/messages.ts';
import { JOURNAL_FILE } from '../../../protocol/paths.ts';
import type { JournalRecord } from '../../../protocol/records.ts';
import { applyRecord, type RunState } from '../../../protocol/runstate.ts';
import { eventsOf, type EventSubject } from '../../events/from-journal.ts';
import { healthSpec } from '../../spec/health.ts';
import type { ShimLink } from '../../shims/link.ts';
import type { Container } from '../../../model/container.ts';
import type { Parts } from '../parts.ts';

/** Records asked for at once. */
const PULL_LIMIT = 500;
/** The shim is told what of its journal is committed here this long after a pull. */
const COMMITTED_AFTER_MS = 1_000;
/** A pull that failed is tried again after this, doubling up to the second. */
const RETRY_MS = 250;
const RETRY_MAX_MS = 10_000;

export class JournalFollower {
  #pulling: Promise<void> | undefined;
  #pullAgain = false;
  #committed: NodeJS.Timeout | undefined;
  #followAgain: NodeJS.Timeout | undefined;
  /** Of the journal at the last refresh; a compacted one is another file. */
  #length = '';
  readonly #changed = new Set<() => void>();
  #ended = false;

  constructor(
    private readonly container: Container,
    private readonly parts: Parts,
    private readonly o: { link(): ShimLink | undefined; onFinal(): void },
  ) {}

  /** Brings row, events and memory up to the shim's journal. */
  pull(): Promise<void> {
    this.#pullAgain = true;
    return (this.#pulling ??= this.#pullAll());
  }

  /**
   * The same where the journal has changed since the last look. What the shim tells a client (a wait's answer, the end
   * of a
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
      const look = (): void => void ((condition(this.container.state) || this.#ended) && done());
      this.#changed.add(look);
      signal?.addEventListener('abort', done);
    });
  }

  /** Learns from the file: nobody is there to be asked. */
  readFile(): void {
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

  /** The shim says that its journal has grown to `seq`. */
  announced(seq: number): void {
    if (seq > this.container.cursor) this.#follow();
  }

  /**
   * The shim has said who it is. One whose journal is younger than the row (the data root was restored from a backup)
   * is right.
   */
  met(hello: Hello): void {
    const c = this.container;
    if (hello.seq >= c.cursor) return;
    this.parts.log.warn(
      { container: c.id, journal: hello.seq, cursor: c.cursor },
      'the journal is shorter than the row',
    );
    this.#store(hello.state, hello.seq, []);
  }

  /** Nothing is followed any more. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#committed);
    clearTimeout(this.#followAgain);
  }

  /** The container is gone: whoever waits for its state waits no longer. */
  letGo(): void {
    this.end();
    this.#notify();
  }

  async #pullAll(): Promise<void> {
    await Promise.resolve(); // #pulling is set by now
    try {
      while (this.#pullAgain) {
        this.#pullAgain = false;
        const link = this.o.link();
        if (!link) return;
        for (;;) {
          const { records, last } = await link.request({ op: 'since', seq: this.container.cursor, limit: PULL_LIMIT });
          this.#merge(records);
          if (this.container.cursor >= last || records.length === 0) break;
        }
        this.#committed ??= setTimeout(() => this.#tellCommitted(), COMMITTED_AFTER_MS).unref();
      }
    } finally {
      // In the step that saw that nobody wants more: whoever comes later begins anew.
      this.#pulling = undefined;
    }
  }

  // What the shim announces is pulled: later, if it cannot be now (a full disk refuses the row).
  #follow(pause = RETRY_MS): void {
    clearTimeout(this.#followAgain);
    this.pull().catch((err: unknown) => {
      this.parts.log.warn({ container: this.container.id, err }, 'its journal could not be followed; trying again');
      if (!this.o.link() || this.#ended) return;
      clearTimeout(this.#followAgain);
      this.#followAgain = setTimeout(() => this.#follow(Math.min(pause * 2, RETRY_MAX_MS)), pause).unref();
    });
  }

  // Only the journal's compaction waits for it: not worth a sync and two messages after each pull.
  #tellCommitted(): void {
    this.#committed = undefined;
    const link = this.o.link();
    const seq = this.container.cursor;
    if (link)
      this.parts.rows
        .flushed()
        .then(() => link.request({ op: 'committed', seq }))
        .catch(() => undefined);
  }

  #journalLength(): string {
    const file = statSync(join(this.parts.paths.container(this.container.id), JOURNAL_FILE), { throwIfNoEntry: false });
    return file ? `${file.ino}:${file.size}` : '';
  }

  #merge(records: JournalRecord[]): void {
    const c = this.container;
    const fresh = records.filter((r) => r.seq > c.cursor);
    if (fresh.length === 0) return;
    let { state } = c;
    const events = fresh.flatMap((record) => {
      const before = state;
      state = applyRecord(state, record);
      return eventsOf(record, subjectOf(c), {
        before,
        commandOf: (exec) => this.parts.execs.commandOf(exec),
        probe: healthSpec(c.config)?.argv,
      });
    });
    this.#store(state, fresh.at(-1)!.seq, fresh, () => this.parts.events.record(...events));
  }

  #store(state: RunState, cursor: number, records: JournalRecord[], alongside: () => void = () => undefined): void {
    const c = this.container;
    const wasFinal = c.state.final;
    // The journal tells it again: nobody waits for the disk here, only the journal's compaction does (#pullAll).
    this.parts.rows.relaxed(() => {
      alongside();
      for (const record of records) this.parts.execs.apply(c.id, record);
      this.parts.rows.setState(c.id, state, cursor);
    });
    c.state = state;
    c.cursor = cursor;
    this.#notify();
    if (state.final && !wasFinal) this.o.onFinal();
  }

  #notify(): void {
    for (const look of [...this.#changed]) look();
  }
}

const subjectOf = (c: Container): EventSubject => ({
  id: c.id,
  name: c.name,
  image: c.config.Image,
  labels: c.config.Labels,
});
