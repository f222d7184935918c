/** `docker network ls --filter`. */
import { anyPattern } from '../filter-values.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { hasLabel } from '../events/filter.ts';
import { isPredefined, type Network } from '../../model/network.ts';

const KEYS = ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type'];

/**
 * All keys must match; the values of a key are alternatives, except that all labels must be present.
 * @throws InvalidParameter for unknown keys and bad values
 */
export function networkFilter(
  filters: ReadonlyMap<string, readonly string[]>,
  isUsed: (network: Network) => boolean,
): (network: Network) => boolean {
  for (const key of filters.keys()) if (!KEYS.includes(key)) throw new InvalidParameter(`invalid filter '${key}'`);
  const values = (key: string): readonly string[] => filters.get(key) ?? [];
  for (const type of values('type'))
    if (type !== 'builtin' && type !== 'custom') throw new InvalidParameter(`invalid filter: 'type'='${type}'`);
  const passes = (key: string, test: (value: string) => boolean): boolean =>
    values(key).length === 0 || values(key).some(test);
  const [names, ids] = [anyPattern(values('name')), anyPattern(values('id'))];
  const dangling = danglingOf(values('dangling'));
  return (network) =>
    passes('name', (name) => name === network.name || names(network.name)) &&
    passes('id', (id) => id === network.id || ids(network.id)) &&
    passes('driver', (driver) => network.driver === driver) &&
    passes('scope', (scope) => scope === 'local') &&
    passes('type', (type) => (type === 'builtin') === isPredefined(network.name)) &&
    values('label').every((label) => hasLabel(network.labels, label)) &&
    (dangling === undefined || dangling === (!isPredefined(network.name) && !isUsed(network)));
}

function danglingOf(values: readonly string[]): boolean | undefined {
  if (values.length > 1) throw new InvalidParameter('got more than one value for filter key "dangling"');
  if (values[0] === undefined) return undefined;
  if (!['0', '1', 'true', 'false'].includes(values[0]))
    throw new InvalidParameter('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")');
  return values[0] === '1' || values[0] === 'true';
}
