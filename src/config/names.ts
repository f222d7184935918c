/** What a daemon calls its things on the host. Two daemons never meet, because the names derive from their roots. */
import { createHash } from 'node:crypto';

export const DEFAULT_DATA_ROOT = '/var/lib/holdfast';
export const DEFAULT_EXEC_ROOT = '/run/holdfast';

/** Neither Docker's (172.17/16 and up) nor podman's (10.88/16, pools from 10.89/16). */
const DEFAULT_BIP = '10.77.0.1/16';

export interface Names {
  /** '' for the daemon on the default roots, else eight hex digits that stand for both. */
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
    // A dash in a slice's name nests it: holdfast-1a2b3c4d.slice lies in holdfast.slice.
    cgroupParent: { cgroupfs: `/holdfast-${instance}`, systemd: `holdfast-${instance}.slice` },
    // One of 2,048 small subnets in 10.64/13, below the first daemon's.
    bip: `10.${64 + (hash[4]! & 7)}.${hash[5]}.1/24`,
  };
}
