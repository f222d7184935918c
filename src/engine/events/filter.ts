/** Which events a client asked for: `docker events --filter`. */
import type { Event } from '../../model/event.ts';

type Filters = ReadonlyMap<string, readonly string[]>;

/**
 * Matched by the beginning of the actor's id or of its name. The last five exist in a swarm only: here they match
 * nothing.
 */
const BY_ACTOR = ['container', 'network', 'volume', 'daemon', 'plugin', 'node', 'service', 'secret', 'config'] as const;

/**
 * Actions that carry more behind a colon (`health_status: healthy`): their bare name stands for all of them
 * (moby#25798).
 */
const WITH_PAYLOAD = new Set(['exec_create', 'exec_start', 'health_status']);

/**
 * Values of one key are alternatives, keys must all match, and labels must all be there. Keys that are unknown are
 * ignored, as dockerd does.
 */
export function matcher(filters: Filters): (event: Event) => boolean {
  const tests: ((event: Event) => boolean)[] = [];
  const on = (key: string, matches: (event: Event, value: string) => boolean): void => {
    const values = filters.get(key);
    if (values?.length) tests.push((event) => values.some((value) => matches(event, value)));
  };

  on('type', (event, value) => event.type === value);
  on('scope', (_, value) => value === 'local');
  on('event', (event, value) => event.action === value || (WITH_PAYLOAD.has(value) && event.action.startsWith(value)));
  on('image', (event, value) => imageNames(event).includes(value));
  for (const key of BY_ACTOR)
    on(key, (event, value) => event.actor.startsWith(value) || (event.attributes.name ?? '').startsWith(value));
  for (const label of filters.get('label') ?? []) tests.push((event) => hasLabel(event.attributes, label));

  return (event) => tests.every((test) => test(event));
}

function imageNames(event: Event): string[] {
  const name = event.attributes[event.type === 'image' ? 'name' : 'image'] ?? '';
  return [event.actor, name, withoutTag(event.actor), withoutTag(name)];
}

/** `registry:5000/app:1` → `registry:5000/app`. */
const withoutTag = (reference: string): string => reference.replace(/@.*$/, '').replace(/:[^/:]*$/, '');

/** `key` or `key=value`. */
export function hasLabel(labels: Record<string, string>, wanted: string): boolean {
  const at = wanted.indexOf('=');
  if (at < 0) return Object.hasOwn(labels, wanted);
  const key = wanted.slice(0, at);
  return Object.hasOwn(labels, key) && labels[key] === wanted.slice(at + 1);
}
