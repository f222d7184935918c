/** `docker events --filter`. */
import type { Event } from '../../model/event.ts';

type Filters = ReadonlyMap<string, readonly string[]>;

/** Matched by a prefix of the actor's id or name. The last five exist only in a swarm, so they match nothing here. */
const BY_ACTOR = ['container', 'network', 'volume', 'daemon', 'plugin', 'node', 'service', 'secret', 'config'] as const;

/** Actions with a payload after a colon (`health_status: healthy`); the bare name matches all of them (moby#25798). */
const WITH_PAYLOAD = new Set(['exec_create', 'exec_start', 'health_status']);

/**
 * Returns the test for `filters`: all keys must match, each with any of its values, but all labels must be present.
 * Unknown keys are ignored, as in dockerd.
 */
export function matcher(filters: Filters): (event: Event) => boolean {
  const tests: ((event: Event) => boolean)[] = [];
  const addTest = (key: string, matches: (event: Event, value: string) => boolean): void => {
    const values = filters.get(key);
    if (values?.length) tests.push((event) => values.some((value) => matches(event, value)));
  };

  addTest('type', (event, value) => event.type === value);
  addTest('scope', (_, value) => value === 'local');
  addTest(
    'event',
    (event, value) => event.action === value || (WITH_PAYLOAD.has(value) && event.action.startsWith(value)),
  );
  addTest('image', (event, value) => imageNames(event).includes(value));
  for (const key of BY_ACTOR)
    addTest(key, (event, value) => event.actor.startsWith(value) || (event.attributes.name ?? '').startsWith(value));
  for (const label of filters.get('label') ?? []) tests.push((event) => hasLabel(event.attributes, label));

  return (event) => tests.every((test) => test(event));
}

function imageNames(event: Event): string[] {
  const name = event.attributes[event.type === 'image' ? 'name' : 'image'] ?? '';
  return [event.actor, name, withoutTag(event.actor), withoutTag(name)];
}

/** `registry:5000/app:1` → `registry:5000/app`. */
const withoutTag = (reference: string): string => reference.replace(/@.*$/, '').replace(/:[^/:]*$/, '');

/** Whether the labels include `wanted`: `key` or `key=value`. */
export function hasLabel(labels: Record<string, string>, wanted: string): boolean {
  const at = wanted.indexOf('=');
  if (at < 0) return Object.hasOwn(labels, wanted);
  const key = wanted.slice(0, at);
  return Object.hasOwn(labels, key) && labels[key] === wanted.slice(at + 1);
}
