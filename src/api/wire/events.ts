/** JSON of events, one object per line. */
import type { Event } from '../../model/event.ts';
import { unixSeconds } from '../../engine/time.ts';
import type { Schemas } from './schemas.ts';

/** A line of GET /events. */
export function eventLine(event: Event): string {
  const { type, action, actor, attributes, time } = event;
  const message: Omit<Schemas['EventMessage'], 'timeNano'> = {
    ...legacy(event),
    Type: type,
    Action: action,
    Actor: { ID: actor, Attributes: attributes },
    scope: 'local',
    time: unixSeconds(time),
  };
  // Nanoseconds do not fit into a double: insert the digits as text.
  return `${JSON.stringify(message).slice(0, -1)},"timeNano":${time}}\n`;
}

/** Fields from before API 1.22, which current clients still read (docker 24 panics without them). */
function legacy({ type, action, actor, attributes }: Event): Pick<Schemas['EventMessage'], 'status' | 'id' | 'from'> {
  const id = actor || undefined; // A prune has no actor.
  if (type === 'container') return { status: action, id, from: attributes.image || undefined };
  return type === 'image' ? { status: action, id } : {};
}
