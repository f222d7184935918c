/** The durable event stream behind `docker events`. */
import type { EventStore, Position } from '../../store/events.ts';
import { wallClock } from '../../sys/clock.ts';
import type { Event, NewEvent } from '../../model/event.ts';

export interface EventQuery {
  /** Wall ns, inclusive; undefined = no bound. */
  since?: bigint;
  until?: bigint;
  matches: (event: Event) => boolean;
}

/** Stored events; dockerd keeps 256, in memory. */
const DEFAULT_KEEP = 100_000;
/** Recorded events between two prunings. */
const PRUNE_EVERY = 1_000;
/** Rows per read. */
const PAGE = 256;
/** The longest delay that setTimeout accepts. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/**
 * A subscriber is only a position in the table, from which it continues whenever it is woken. A slow reader therefore
 * loses no event and costs no memory, and an event that is recorded late (its time lies in the past) still gets a
 * later row.
 */
export class EventLog {
  readonly #store: EventStore;
  readonly #keep: number;
  readonly #sleepers = new Set<() => void>();
  #waking = false;
  #sincePruned = 0;
  #subscribers = 0;

  constructor(store: EventStore, { keep = DEFAULT_KEEP }: { keep?: number } = {}) {
    this.#store = store;
    this.#keep = keep;
  }

  /** Current number of subscribers. */
  get subscribers(): number {
    return this.#subscribers;
  }

  /** Stores events, inside the caller's transaction if one is open, and wakes the subscribers after its commit. */
  record(...events: NewEvent[]): void {
    if (this.#store.insert(events) === 0) return;
    this.#sincePruned += events.length;
    if (this.#sincePruned >= PRUNE_EVERY) {
      this.#sincePruned = 0;
      this.#store.prune(this.#keep);
    }
    this.#wakeSoon();
  }

  /**
   * Yields stored events in the order of their time if `since` or `until` is given, then live ones until `until` is
   * reached or the signal aborts. Includes everything recorded after this call, however late the iteration starts.
   */
  subscribe(query: EventQuery, signal: AbortSignal): AsyncIterable<Event> {
    // The replay reads the rows up to this one, the live part those after it: no gap and no duplicate.
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
    let position: Position | undefined;
    for (;;) {
      const page = this.#store.byTime(position, { since, until }, mark, PAGE);
      for (const event of page) {
        if (signal.aborted) return;
        if (matches(event)) yield event;
      }
      const end = page.at(-1);
      if (!end || signal.aborted) return;
      position = { time: BigInt(end.time), row: end.row };
      await nextTurn();
    }
  }

  async *#live({ until, matches }: EventQuery, mark: number, signal: AbortSignal): AsyncGenerator<Event, void> {
    let row = mark;
    for (;;) {
      // Checked before the read, which then still delivers everything recorded until now.
      const isPast = until !== undefined && wallClock() > until;
      const page = this.#store.after(row, PAGE);
      for (const event of page) {
        if (signal.aborted) return;
        row = event.row;
        if ((until === undefined || BigInt(event.time) <= until) && matches(event)) yield event;
      }
      if (signal.aborted || (page.length === 0 && isPast)) return;
      await (page.length === 0 ? this.#sleep(until, signal) : nextTurn());
    }
  }

  /** Resolves when something has been recorded, `until` is reached, or the signal aborts. */
  #sleep(until: bigint | undefined, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#sleepers.delete(wake);
        clearTimeout(timer);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      const timer = until === undefined ? undefined : setTimeout(wake, delayUntil(until));
      signal.addEventListener('abort', wake);
      this.#sleepers.add(wake);
    });
  }

  #wakeSoon(): void {
    if (this.#waking) return;
    this.#waking = true;
    setImmediate(() => {
      this.#waking = false;
      // The transaction is held open across turns of the event loop.
      if (this.#store.pending) return this.#wakeSoon();
      for (const wake of [...this.#sleepers]) wake();
    });
  }
}

/** Milliseconds, bounded by what setTimeout accepts. */
const delayUntil = (moment: bigint): number => Math.min(Number((moment - wallClock()) / 1_000_000n) + 1, MAX_DELAY_MS);

/** Lets the event loop run between two pages. */
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
