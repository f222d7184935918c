/** Releases what a dead container held: addresses, ports, network namespace, mounts. Repeatable. */
import type { Endpoint } from '../../../model/container.ts';
import { unmountShareableShm } from '../../spec/shm.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { unmountVolumes } from '../volume-mounts.ts';

export type TeardownDeps = Pick<ContainerDeps, 'networks' | 'snapshots' | 'volumes' | 'events' | 'paths' | 'rows'>;

const NO_ADDRESSES = {
  endpointId: '',
  gateway: '',
  ipAddress: '',
  ipPrefixLen: 0,
  ipv6Gateway: '',
  globalIPv6Address: '',
  globalIPv6PrefixLen: 0,
  macAddress: '',
} satisfies Partial<Endpoint>;

/** Does nothing unless the container is final. */
export async function tearDown({ container: c }: ContainerHandle, deps: TeardownDeps): Promise<void> {
  if (!c.state.final) return;
  await deps.networks.detach(c);
  deps.snapshots.unmount(c.id);
  await unmountVolumes(deps, c);
  unmountShareableShm(c.id, deps.paths);
  c.netns = '';
  c.ports = [];
  for (const endpoint of Object.values(c.endpoints)) Object.assign(endpoint, NO_ADDRESSES);
  deps.rows.setNetwork(c);
}
