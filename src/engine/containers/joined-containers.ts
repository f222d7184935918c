/** Containers whose namespaces others join. */
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import { joinedContainer } from '../spec/namespaces.ts';
import { sharesShm } from '../spec/shm.ts';
import type { Container } from '../../model/container.ts';
import { isRunning } from './moves.ts';
import type { Supervisor } from './handle/handle.ts';

/**
 * Those whose pid or ipc namespace a container joins. They run. @throws in dockerd's words
 * (daemon/container_operations_unix.go)
 */
export async function namespaceDonors(
  { hostConfig }: Container,
  peer: (reference: string) => Promise<Supervisor>,
): Promise<Container[]> {
  const donors: Container[] = [];
  for (const [kind, donorId] of [
    ['IPC', joinedContainer(hostConfig.IpcMode)],
    ['PID', joinedContainer(hostConfig.PidMode)],
  ] as const) {
    if (donorId === '') continue;
    // The process's namespaces are looked up when the runtime's configuration is made: what fails there is the host's
    // fault.
    const Refusal = kind === 'IPC' ? Conflict : SystemFault;
    const { container: donor } = await peer(donorId).catch((error: unknown) => {
      throw error instanceof NotFound
        ? new (kind === 'IPC' ? InvalidParameter : SystemFault)(`failed to join ${kind} namespace: ${error.message}`)
        : error;
    });
    if (!isRunning(donor)) throw new Refusal(`failed to join ${kind} namespace: container ${donorId} is not running`);
    if (donor.state.status === 'restarting')
      throw new Refusal(
        `failed to join ${kind} namespace: Container ${donorId} is restarting, wait until the container is running`,
      );
    if (kind === 'IPC' && !sharesShm(donor.hostConfig)) {
      throw new InvalidParameter(
        `failed to join IPC namespace: container ${donorId}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
      );
    }
    donors.push(donor);
  }
  return donors;
}
