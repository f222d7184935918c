/** Events at rest: one row each, in the order of their recording, found again by time. */
import type { Event, EventType, NewEvent } from '../model/event.ts';
import type { Db } from './database.ts';

/** Wall ns, both inclusive. */
export interface TimeSpan {
  since?: bigint;
  until?: bigint;
}

/** A place in the order of time; rows break ties. */
export interface Place {
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

/** Rows deleted in one go, so that no transaction of its caller becomes long. */
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
    // Only the uniqueness may be passed over: OR IGNORE would swallow other constraints too.
    this.#insert = db.prepare(`INSERT INTO events (time, type, action, actor, attributes, origin, seq)
      VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (origin, seq, action) DO NOTHING`);
    // Times do not fit into a double.
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

  /** Stores events; those of a journal record that was recorded before are passed over. Joins the caller's transaction,
   * if one is open.
   *  @returns how many were new */
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

  /** In the order of time: the next `limit` behind `place`, of the rows up to `lastRow`. */
  byTime(place: Place | undefined, span: TimeSpan, lastRow: number, limit: number): Event[] {
    const from = place ?? { time: span.since ?? MIN_TIME, row: -1 };
    return (this.#byTime.all(from.time, from.row, span.until ?? MAX_TIME, lastRow, limit) as Row[]).map(fromRow);
  }

  /** The newest row; 0 when there is none. */
  last(): number {
    return (this.#last.get() as number | null) ?? 0;
  }

  /** Forgets the oldest rows beyond the newest `keep`. */
  prune(keep: number): void {
    this.#prune.run(this.last() - keep, PRUNE_AT_MOST);
  }

  /** Whether a transaction is open whose outcome is not known yet. */
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
    attributes: JSON.parse(r.attributes) as Record<string, string>,
  };
  if (r.origin !== null) event.origin = { container: r.origin, seq: Number(r.seq) };
  return event;
}
