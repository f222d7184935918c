/** The capabilities of a container's processes. capabilities(7) */
import { InvalidParameter } from '../../model/errors.ts';
import type { HostConfig } from '../../model/container-config.ts';
import { CAPABILITIES, type Host } from './host.ts';
import type { OciCapabilities } from './oci.ts';

/** Docker's default set (moby oci/caps/defaults.go). */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

const ALL = 'ALL';

type Request = Pick<HostConfig, 'CapAdd' | 'CapDrop' | 'Privileged'>;

/** @throws InvalidParameter `invalid CapAdd: unknown capability: "CAP_X"` */
export function checkCapabilities(request: Request, host: Host): void {
  for (const field of ['CapAdd', 'CapDrop'] as const) {
    for (const name of normalized(request[field])) {
      if (name !== ALL && !CAPABILITIES.includes(name))
        throw new InvalidParameter(`invalid ${field}: unknown capability: ${JSON.stringify(name)}`);
      if (name !== ALL && field === 'CapAdd' && !host.capabilities.includes(name)) {
        throw new InvalidParameter(
          `invalid ${field}: capability not supported by kernel or not available in the current environment: ${JSON.stringify(name)}`,
        );
      }
    }
  }
}

/** The capabilities of the container's root user. Those that this process lacks cannot be granted and are left out. */
export function capabilitySet(request: Request, host: Host): string[] {
  if (request.Privileged) return [...host.capabilities];
  const add = normalized(request.CapAdd);
  const drop = normalized(request.CapDrop);
  const without = (names: readonly string[]): string[] => names.filter((name) => !drop.includes(name));
  if (add.includes(ALL)) return without(host.capabilities);
  const base = drop.includes(ALL) ? [] : without(DEFAULT_CAPABILITIES);
  return [...new Set([...base, ...add])].filter((name) => host.capabilities.includes(name));
}

/** As after an execve(2): only root gets the set; for others it bounds what set-user-ID programs can obtain. */
export function capabilitiesFor(uid: number, set: string[]): OciCapabilities {
  return uid === 0 ? { bounding: set, effective: set, permitted: set } : { bounding: set };
}

function normalized(names: readonly string[] | null): string[] {
  return (names ?? [])
    .map((name) => name.toUpperCase())
    .map((name) => (name === ALL || name.startsWith('CAP_') ? name : `CAP_${name}`));
}
