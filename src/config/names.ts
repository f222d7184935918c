/** Names of host-wide resources. They derive from the daemon's roots, so that two daemons never collide. */
import { createHash } from 'node:crypto';

export const DEFAULT_DATA_ROOT = '/var/lib/holdfast';
export const DEFAULT_EXEC_ROOT = '/run/holdfast';

/** Avoids the defaults of Docker (172.17/16 and up) and podman (10.88/16, pools from 10.89/16). */
const DEFAULT_BIP = '10.77.0.1/16';

export interface Names {
  /** '' for the daemon on the default roots, else eight hex digits: a hash of both roots. */
  instance: string;
  bridge: string;
  cgroupParent: { cgroupfs: string; systemd: string };
  bip: string;
}

export function namesFor(dataRoot: string, execRoot: string): Names {
  if (dataRoot === DEFAULT_DATA_ROOT && execRoot === DEFAULT_EXEC_ROOT) {
    return {
      instance: '',
      bridge: 'holdfast0',
      cgroupParent: { cgroupfs: '/holdfast', systemd: 'holdfast.slice' },
      bip: DEFAULT_BIP,
    };
  }
  const hash = createHash('sha256').update(`${dataRoot}\0${execRoot}`).digest();
  const instance = hash.toString('hex', 0, 4);
  return {
    instance,
    bridge: `hf${instance}`,
    // systemd nests slices by the dashes in their names: this one is in holdfast.slice.
    cgroupParent: { cgroupfs: `/holdfast-${instance}`, systemd: `holdfast-${instance}.slice` },
    // One of 2,048 subnets in 10.64/13, below the default one.
    bip: `10.${64 + (hash[4]! & 7)}.${hash[5]}.1/24`,
  };
}
