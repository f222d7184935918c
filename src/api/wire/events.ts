/** Events as Docker's JSON: one object a line. */
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
  // Numbers of nanoseconds do not fit into a double: the digits are put in as text.
  return `${JSON.stringify(message).slice(0, -1)},"timeNano":${time}}\n`;
}

/** Fields of before API 1.22, which clients of today still read (docker 24 panics without them). */
function legacy({ type, action, actor, attributes }: Event): Pick<Schemas['EventMessage'], 'status' | 'id' | 'from'> {
  const { image } = attributes;
  if (type === 'container') return { status: action, ...whose(actor), ...(image && { from: image }) };
  return type === 'image' ? { status: action, ...whose(actor) } : {};
}

// Of a prune it is nobody's.
const whose = (actor: string): { id?: string } => (actor === '' ? {} : { id: actor });
