/** The durable stream of events. */
import type { EventStore, Place } from '../../store/events.ts';
import { wallClock } from '../../sys/clock.ts';
import type { Event, NewEvent } from '../../model/event.ts';

export interface EventQuery {
  /** Wall ns, inclusive; undefined = none. */
  since?: bigint;
  until?: bigint;
  matches: (event: Event) => boolean;
}

/** Events kept; dockerd keeps 256, in memory. */
const KEEP = 100_000;
/** Pruning is done once for so many recorded events. */
const PRUNE_EVERY = 1_000;
/** Rows read at once for one subscriber. */
const PAGE = 256;
/** setTimeout takes no longer delay. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/**
 * A subscriber is a place in the table and nothing else: it reads on from there whenever it is woken. So none is lost
 * to
 * a slow reader, none is held in memory for it, and what is recorded late (its time in the past) still has a later row.
 */
export class EventLog {
  readonly #store: EventStore;
  readonly #keep: number;
  readonly #sleepers = new Set<() => void>();
  #waking = false;
  #sincePruned = 0;
  #subscribers = 0;

  constructor(store: EventStore, { keep = KEEP }: { keep?: number } = {}) {
    this.#store = store;
    this.#keep = keep;
  }

  /** Subscribers now listening. */
  get subscribers(): number {
    return this.#subscribers;
  }

  /** Stores events (inside the caller's transaction, if one is open) and wakes the subscribers after it commits. */
  record(...events: NewEvent[]): void {
    if (this.#store.insert(events) === 0) return;
    this.#sincePruned += events.length;
    if (this.#sincePruned >= PRUNE_EVERY) {
      this.#sincePruned = 0;
      this.#store.prune(this.#keep);
    }
    this.#wakeSoon();
  }

  /** Stored events in the order of their time, then (unless until lies in the past) live ones, until the signal aborts
   * or `until` is reached.
   *  What is recorded from this call on is not missed, however late the first is asked for. */
  subscribe(query: EventQuery, signal: AbortSignal): AsyncIterable<Event> {
    // Replay reads the rows up to here, live those after: no gap between, none twice.
    const mark = this.#store.last();
    return { [Symbol.asyncIterator]: () => this.#read(query, mark, signal) };
  }

  async *#read(query: EventQuery, mark: number, signal: AbortSignal): AsyncGenerator<Event, void> {
    this.#subscribers++;
    try {
      if (query.since !== undefined || query.until !== undefined) yield* this.#replay(query, mark, signal);
      yield* this.#live(query, mark, signal);
    } finally {
      this.#subscribers--;
    }
  }

  async *#replay(
    { since, until, matches }: EventQuery,
    mark: number,
    signal: AbortSignal,
  ): AsyncGenerator<Event, void> {
    let place: Place | undefined;
    for (;;) {
      const page = this.#store.byTime(place, { since, until }, mark, PAGE);
      for (const event of page) {
        if (signal.aborted) return;
        if (matches(event)) yield event;
      }
      const end = page.at(-1);
      if (!end || signal.aborted) return;
      place = { time: BigInt(end.time), row: end.row };
      await breath();
    }
  }

  async *#live({ until, matches }: EventQuery, mark: number, signal: AbortSignal): AsyncGenerator<Event, void> {
    let row = mark;
    for (;;) {
      // Asked before the read: what was recorded until then is still delivered.
      const over = until !== undefined && wallClock() > until;
      const page = this.#store.after(row, PAGE);
      for (const event of page) {
        if (signal.aborted) return;
        row = event.row;
        if ((until === undefined || BigInt(event.time) <= until) && matches(event)) yield event;
      }
      if (signal.aborted || (page.length === 0 && over)) return;
      await (page.length === 0 ? this.#sleep(until, signal) : breath());
    }
  }

  /** Until something was recorded, `until` is reached, or the signal aborts. */
  #sleep(until: bigint | undefined, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#sleepers.delete(wake);
        clearTimeout(timer);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      const timer =
        until === undefined
          ? undefined
          : setTimeout(wake, Math.min(Number((until - wallClock()) / 1_000_000n) + 1, MAX_DELAY_MS));
      signal.addEventListener('abort', wake);
      this.#sleepers.add(wake);
    });
  }

  #wakeSoon(): void {
    if (this.#waking) return;
    this.#waking = true;
    setImmediate(() => {
      this.#waking = false;
      // A transaction that is held open over turns of the event loop.
      if (this.#store.pending) return this.#wakeSoon();
      for (const wake of [...this.#sleepers]) wake();
    });
  }
}

/** Lets the event loop do other things between two pages. */
const breath = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
