/** Resource limits of processes. getrlimit(2) */
import { UNLIMITED } from '../../protocol/oci-json.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { Ulimit } from '../../model/container-config.ts';
import type { Host } from './host.ts';
import type { OciRlimit } from './oci.ts';

const RESOURCE = 'CAP_SYS_RESOURCE';

/** What a client asks for must be possible: the runtime would fail later and tell less.
 *  @throws InvalidParameter */
export function checkUlimits(ulimits: readonly Ulimit[], host: Host): void {
  for (const { Name, Soft, Hard } of ulimits) {
    if (!host.limits.has(Name)) throw new InvalidParameter(`invalid ulimit type: ${Name}`);
    const [soft, hard] = [value(Soft), value(Hard)];
    if (soft > hard)
      throw new InvalidParameter(`ulimit soft limit must be less than or equal to hard limit: ${Soft} > ${Hard}`);
    const most = ceiling(Name, host);
    if (hard > most) {
      throw new InvalidParameter(
        `ulimit ${Name}=${Soft}:${Hard} is above what this daemon may give: its own hard limit is ${most}${host.capabilities.includes(RESOURCE) ? '' : ' and it lacks CAP_SYS_RESOURCE'}`,
      );
    }
  }
}

/**
 * A container's own limits, and the daemon's defaults for the others; a default that is too high is lowered to what is
 * possible.
 */
export function rlimits(
  own: readonly Ulimit[] | null,
  defaults: Readonly<Record<string, Ulimit>>,
  host: Host,
): OciRlimit[] {
  const explicit = (own ?? []).map(({ Name, Soft, Hard }) => rlimit(Name, value(Soft), value(Hard)));
  const names = new Set((own ?? []).map(({ Name }) => Name));
  const others = Object.entries(defaults)
    .filter(([name]) => !names.has(name))
    .map(([name, { Soft, Hard }]) => {
      const most = ceiling(name, host);
      return rlimit(name, Math.min(value(Soft), most), Math.min(value(Hard), most));
    });
  return [...explicit, ...others];
}

const rlimit = (name: string, soft: number, hard: number): OciRlimit => ({
  type: `RLIMIT_${name.toUpperCase()}`,
  soft: number(soft),
  hard: number(hard),
});

/** Any negative number means unlimited. */
const value = (limit: number): number => (limit < 0 ? Infinity : limit);
const number = (limit: number): number => (limit === Infinity ? UNLIMITED : limit);

function ceiling(name: string, host: Host): number {
  const own = host.capabilities.includes(RESOURCE) ? Infinity : (host.limits.get(name)?.hard ?? Infinity);
  return name === 'nofile' ? Math.min(own, host.capabilities.includes(RESOURCE) ? host.maxOpenFiles : own) : own;
}
