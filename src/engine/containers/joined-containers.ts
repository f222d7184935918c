/** The containers whose pid or ipc namespace another one joins (`--pid container:x`, `--ipc container:x`). */
import type { Container } from '../../model/container.ts';
import { isRunning } from '../../model/container-status.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import { joinedContainer } from '../../model/namespace-mode.ts';
import { isRestarting } from '../../protocol/refusals.ts';
import { sharesShm } from '../spec/shm.ts';
import type { ContainerIndex } from './container-index.ts';

/**
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

async function joinedForIpc(id: string, index: ContainerIndex): Promise<Container> {
  const failed = 'failed to join IPC namespace: ';
  const c = await found(id, index, (text) => new InvalidParameter(failed + text));
  if (!isRunning(c)) throw new Conflict(`${failed}container ${id} is not running`);
  if (c.state.status === 'restarting') throw new Conflict(failed + isRestarting(id));
  if (!sharesShm(c.hostConfig))
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

async function found(id: string, index: ContainerIndex, refusal: (text: string) => Error): Promise<Container> {
  try {
    return await index.findContainer(id);
  } catch (error) {
    throw error instanceof NotFound ? refusal(error.message) : error;
  }
}
