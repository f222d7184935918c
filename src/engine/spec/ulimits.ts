/** Resource limits of processes. getrlimit(2) */
import { UNLIMITED } from '../../protocol/oci-json.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { Int64, Ulimit } from '../../model/container-config.ts';
import type { Host } from './host.ts';
import type { OciRlimit } from './oci.ts';

const CAP_RAISE = 'CAP_SYS_RESOURCE';

/** Rejects limits that the runtime could not set at start; its error would be less clear. @throws InvalidParameter */
export function checkUlimits(ulimits: readonly Ulimit[], host: Host): void {
  for (const { Name, Soft, Hard } of ulimits) {
    if (!host.limits.has(Name)) throw new InvalidParameter(`invalid ulimit type: ${Name}`);
    const [soft, hard] = [value(Soft), value(Hard)];
    if (soft > hard)
      throw new InvalidParameter(`ulimit soft limit must be less than or equal to hard limit: ${Soft} > ${Hard}`);
    const highest = ceiling(Name, host);
    if (hard > highest) {
      const lacking = host.capabilities.includes(CAP_RAISE) ? '' : ', as it lacks CAP_SYS_RESOURCE';
      throw new InvalidParameter(
        `ulimit ${Name}=${Soft}:${Hard} exceeds the highest hard limit that the daemon can set: ${highest}${lacking}`,
      );
    }
  }
}

/** The container's limits, and the daemon's defaults for others. Defaults above what is possible are lowered. */
export function rlimits(
  own: readonly Ulimit[] | null,
  defaults: Readonly<Record<string, Ulimit>>,
  host: Host,
): OciRlimit[] {
  const explicit = (own ?? []).map(({ Name, Soft, Hard }) => rlimit(Name, value(Soft), value(Hard)));
  const explicitNames = new Set((own ?? []).map(({ Name }) => Name));
  const others = Object.entries(defaults)
    .filter(([name]) => !explicitNames.has(name))
    .map(([name, { Soft, Hard }]) => {
      const highest = ceiling(name, host);
      return rlimit(name, atMost(highest, value(Soft)), atMost(highest, value(Hard)));
    });
  return [...explicit, ...others];
}

const rlimit = (name: string, soft: Int64, hard: Int64): OciRlimit => ({
  type: `RLIMIT_${name.toUpperCase()}`,
  soft: number(soft),
  hard: number(hard),
});

/** Any negative number means unlimited. */
const value = (limit: Int64): Int64 => (limit < 0 ? Infinity : limit);
const number = (limit: Int64): Int64 => (limit === Infinity ? UNLIMITED : limit);
const atMost = (highest: number, limit: Int64): Int64 => (limit < highest ? limit : highest);

/** The highest hard limit that this process may set. */
function ceiling(name: string, host: Host): number {
  if (!host.capabilities.includes(CAP_RAISE)) return host.limits.get(name)?.hard ?? Infinity;
  return name === 'nofile' ? host.maxOpenFiles : Infinity;
}
