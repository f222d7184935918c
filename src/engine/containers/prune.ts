/** Which containers a prune takes: stopped ones that pass its filters (moby daemon/prune.go). */
import { InvalidParameter } from '../errors.ts';
import { hasLabel } from '../events/filter.ts';
import { parseRfc3339 } from '../time.ts';
import { wallNow } from '../clock.ts';
import type { Container } from './container.ts';
import { isRunning } from './moves.ts';

const NS_PER: Record<string, bigint> = { h: 3_600_000_000_000n, m: 60_000_000_000n, s: 1_000_000_000n };

/** @throws InvalidParameter for keys and values that are none */
export function prunable(containers: readonly Container[], filters: ReadonlyMap<string, readonly string[]>): Container[] {
  for (const key of filters.keys()) if (!['label', 'label!', 'until'].includes(key)) throw new InvalidParameter(`invalid filter '${key}'`);
  const before = filters.get('until')?.map(moment)[0];
  const wanted = filters.get('label') ?? [];
  const spared = filters.get('label!') ?? [];
  return containers.filter((c) =>
    c.phase === 'ready' && !isRunning(c) && c.state.status !== 'starting' && (before === undefined || BigInt(c.created) <= before)
    && wanted.every((label) => hasLabel(c.config.Labels, label)) && (spared.length === 0 || !spared.every((label) => hasLabel(c.config.Labels, label))));
}

/** A prune's `until`: a duration before now (24h, 1h30m), RFC 3339, or unix seconds. */
function moment(text: string): bigint {
  const parts = [...text.matchAll(/(\d+)([hms])/g)];
  if (parts.length > 0 && parts.map((p) => p[0]).join('') === text) {
    return BigInt(wallNow()) - parts.reduce((sum, [, n, unit]) => sum + BigInt(n!) * NS_PER[unit!]!, 0n);
  }
  return /^\d+$/.test(text) ? BigInt(text) * NS_PER.s! : parseRfc3339(text);
}
