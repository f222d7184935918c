/** The filters of `docker volume ls`. */
import { InvalidParameter } from '../../model/errors.ts';
import { anyPattern, booleanOf } from '../filter-values.ts';
import { hasLabel } from '../events/filter.ts';
import type { StoredVolume } from '../../store/volumes.ts';

const KEYS = new Set(['dangling', 'driver', 'label', 'name']);

/**
 * All keys must match; the values of a key are alternatives, except that all labels must be present.
 * @throws InvalidParameter for unknown keys and bad values
 */
export function volumeFilter(
  filters: ReadonlyMap<string, readonly string[]>,
  isUsed: (name: string) => boolean,
): (volume: StoredVolume) => boolean {
  for (const key of filters.keys()) if (!KEYS.has(key)) throw new InvalidParameter(`invalid filter '${key}'`);
  const names = filters.get('name') ?? [];
  const drivers = filters.get('driver') ?? [];
  const labels = filters.get('label') ?? [];
  const matchesName = anyPattern(names);
  const dangling = filters.has('dangling') ? booleanOf('dangling', filters.get('dangling')!) : undefined;
  return ({ name, driver, labels: own }) =>
    (names.length === 0 || names.includes(name) || matchesName(name)) &&
    (drivers.length === 0 || drivers.includes(driver)) &&
    labels.every((label) => hasLabel(own, label)) &&
    (dangling === undefined || dangling === !isUsed(name));
}
