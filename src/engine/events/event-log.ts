/** The durable stream of events. */
import type { Event, NewEvent } from './event.ts';

export interface EventQuery {
  /** Wall ns, inclusive; undefined = none. */
  since?: bigint;
  until?: bigint;
  matches: (event: Event) => boolean;
}

export class EventLog {
  /** Stores events (inside the caller's transaction, if one is open) and wakes the subscribers after it commits. */
  record(..._events: NewEvent[]): void { throw new Error('unwritten'); }
  /** Stored events in the order of their time, then (unless until lies in the past) live ones, until the signal aborts or `until` is reached. */
  subscribe(_query: EventQuery, _signal: AbortSignal): AsyncIterable<Event> { throw new Error('unwritten'); }
}
