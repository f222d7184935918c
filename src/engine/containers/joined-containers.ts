/** The containers whose namespaces another one joins: `--network`, `--pid` and `--ipc container:x`. */
import type { HostConfig } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import { dockerStatus, isRunning } from '../../model/container-status.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import { joinedContainer } from '../../model/namespace-mode.ts';
import { isRestarting } from '../../protocol/refusals.ts';
import type { Donors } from '../spec/mounts.ts';
import { hasShareableShm } from '../spec/shm.ts';
import type { ContainerIndex } from './container-index.ts';

/**
 * The containers whose pid or ipc namespace this one joins.
 * @throws when one of them does not run or cannot be joined, with dockerd's texts (moby
 * daemon/container_operations_unix.go)
 */
export async function joinedContainers({ hostConfig }: Container, index: ContainerIndex): Promise<Container[]> {
  const ipc = joinedContainer(hostConfig.IpcMode);
  const pid = joinedContainer(hostConfig.PidMode);
  return [
    ...(ipc === '' ? [] : [await joinedForIpc(ipc, index)]),
    ...(pid === '' ? [] : [await joinedForPid(pid, index)]),
  ];
}

/** The container whose network this one joins. @throws when it does not run or is this one, with dockerd's texts */
export async function joinedForNetwork({ id, hostConfig }: Container, index: ContainerIndex): Promise<Container> {
  const c = await found(
    joinedContainer(hostConfig.NetworkMode),
    index,
    (text) => new SystemFault(`joining network namespace of container: ${text}`),
  );
  if (c.id === id) throw new SystemFault('cannot join own network namespace');
  if (!isRunning(c))
    throw new Conflict(
      `cannot join network namespace of a non running container: container ${c.name} is ${dockerStatus(c)}`,
    );
  if (c.state.status === 'restarting')
    throw new Conflict(`cannot join network namespace of container: ${isRestarting(c.id)}`);
  return c;
}

async function joinedForIpc(id: string, index: ContainerIndex): Promise<Container> {
  const failed = 'failed to join IPC namespace: ';
  const c = await found(id, index, (text) => new InvalidParameter(failed + text));
  if (!isRunning(c)) throw new Conflict(`${failed}container ${id} is not running`);
  if (c.state.status === 'restarting') throw new Conflict(failed + isRestarting(id));
  const { hostConfig: donor, state } = endOfJoins(c, 'IpcMode', index);
  if (donor.IpcMode !== 'host' && !(hasShareableShm(donor) && isRunning({ state })))
    throw new InvalidParameter(
      `${failed}container ${id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
    );
  return c;
}

// dockerd resolves the pid namespace while it generates the OCI spec: every failure there counts as the host's.
async function joinedForPid(id: string, index: ContainerIndex): Promise<Container> {
  const failed = 'failed to join PID namespace: ';
  const c = await found(id, index, (text) => new SystemFault(failed + text));
  if (!isRunning(c)) throw new SystemFault(`${failed}container ${id} is not running`);
  if (c.state.status === 'restarting') throw new SystemFault(failed + isRestarting(id));
  return c;
}

/** The containers whose network files and /dev/shm this one gets. */
export const donorsOf = (c: Container, index: ContainerIndex): Donors => ({
  network: endOfJoins(c, 'NetworkMode', index),
  ipc: endOfJoins(c, 'IpcMode', index),
});

/** The last container of a chain of joins that exists. A name may lead to a container that was made later: no loops. */
function endOfJoins(
  c: Container,
  mode: keyof Pick<HostConfig, 'NetworkMode' | 'IpcMode'>,
  index: ContainerIndex,
): Container {
  const seen = new Set<Container>();
  let end: Container = c;
  for (let next: Container | undefined = c; next && !seen.has(next); next = joinedBy(end.hostConfig[mode], index)) {
    seen.add(next);
    end = next;
  }
  return end;
}

function joinedBy(mode: string, index: ContainerIndex): Container | undefined {
  const reference = joinedContainer(mode);
  try {
    return reference === '' ? undefined : index.lookup(reference).container;
  } catch {
    return undefined;
  }
}

async function found(id: string, index: ContainerIndex, refusal: (text: string) => Error): Promise<Container> {
  try {
    return await index.findContainer(id);
  } catch (error) {
    throw error instanceof NotFound ? refusal(error.message) : error;
  }
}
