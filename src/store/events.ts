/** The events table: one row per event in the order of recording, with an index by time. */
import type { Event, EventType, NewEvent } from '../model/event.ts';
import type { Db } from './database.ts';

/** Wall ns, both inclusive. */
export interface TimeSpan {
  since?: bigint;
  until?: bigint;
}

/** A position in the order of time; rows break ties. */
export interface Position {
  time: bigint;
  row: number;
}

interface Row {
  row: bigint;
  time: bigint;
  type: EventType;
  action: string;
  actor: string;
  attributes: string;
  origin: string | null;
  seq: bigint | null;
}

const COLUMNS = 'row, time, type, action, actor, attributes, origin, seq';
const MIN_TIME = -(2n ** 63n);
const MAX_TIME = 2n ** 63n - 1n;

/** Rows per `prune`, to keep the caller's transaction short. */
const PRUNE_AT_MOST = 5_000;

export class EventStore {
  readonly #db: Db;
  readonly #insert;
  readonly #after;
  readonly #byTime;
  readonly #last;
  readonly #prune;

  constructor(db: Db) {
    this.#db = db;
    // Only a violation of uniqueness may be ignored: OR IGNORE would also ignore NOT NULL.
    this.#insert = db.prepare(`INSERT INTO events (time, type, action, actor, attributes, origin, seq)
      VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (origin, seq, action) DO NOTHING`);
    // Times exceed the integers that a double can represent.
    this.#after = db
      .prepare<[number, number]>(`SELECT ${COLUMNS} FROM events WHERE row > ? ORDER BY row LIMIT ?`)
      .safeIntegers(true);
    this.#byTime = db
      .prepare<[bigint, number, bigint, number, number]>(
        `SELECT ${COLUMNS} FROM events WHERE (time, row) > (?, ?) AND time <= ? AND row <= ? ORDER BY time, row LIMIT ?`,
      )
      .safeIntegers(true);
    this.#last = db.prepare<[]>(`SELECT max(row) FROM events`).pluck();
    this.#prune = db.prepare<[number, number]>(
      `DELETE FROM events WHERE row IN (SELECT row FROM events WHERE row <= ? ORDER BY row LIMIT ?)`,
    );
  }

  /**
   * Stores events, inside the caller's transaction if one is open. Events of a journal record that were stored before
   * are skipped. Returns the number of new ones.
   */
  insert(events: readonly NewEvent[]): number {
    return this.#db.transaction(() => {
      let added = 0;
      for (const e of events) {
        added += this.#insert.run(
          BigInt(e.time),
          e.type,
          e.action,
          e.actor,
          JSON.stringify(e.attributes),
          e.origin?.container ?? null,
          e.origin?.seq ?? null,
        ).changes;
      }
      return added;
    })();
  }

  /** In the order of recording. */
  after(row: number, limit: number): Event[] {
    return (this.#after.all(row, limit) as Row[]).map(fromRow);
  }

  /** In the order of time: the next `limit` events after `position`, among the rows up to `lastRow`. */
  byTime(position: Position | undefined, span: TimeSpan, lastRow: number, limit: number): Event[] {
    const from = position ?? { time: span.since ?? MIN_TIME, row: -1 };
    return (this.#byTime.all(from.time, from.row, span.until ?? MAX_TIME, lastRow, limit) as Row[]).map(fromRow);
  }

  /** The newest row; 0 when there is none. */
  last(): number {
    return (this.#last.get() as number | null) ?? 0;
  }

  /** Deletes the oldest rows beyond the newest `keep`, PRUNE_AT_MOST at a time. */
  prune(keep: number): void {
    this.#prune.run(this.last() - keep, PRUNE_AT_MOST);
  }

  /** Whether a transaction is open, which may still be rolled back. */
  get pending(): boolean {
    return this.#db.inTransaction;
  }
}

function fromRow(r: Row): Event {
  const event: Event = {
    row: Number(r.row),
    time: String(r.time),
    type: r.type,
    action: r.action,
    actor: r.actor,
    attributes: attributesOf(r),
  };
  if (r.origin !== null) event.origin = { container: r.origin, seq: Number(r.seq) };
  return event;
}

/** None where they cannot be parsed: the other events must be told. */
function attributesOf({ attributes }: Row): Record<string, string> {
  try {
    return (JSON.parse(attributes) as Record<string, string> | null) ?? {};
  } catch {
    return {};
  }
}
