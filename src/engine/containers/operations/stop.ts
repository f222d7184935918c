/** `docker stop`: the stop signal, then SIGKILL at the deadline. The shim keeps the deadline. */
import { randomUUID } from 'node:crypto';
import { assertAllowed, isRunning } from '../../../model/container-status.ts';
import { SystemFault } from '../../../model/errors.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { endDecided } from './changed-state.ts';
import { resolveStop, type StopOptions } from './stop-options.ts';

/** @throws NotModified when it does not run */
export async function stop(handle: ContainerHandle, options: StopOptions): Promise<void> {
  const { container: c, shim, journal } = handle;
  await endDecided(handle);
  assertAllowed('stop', c);
  const { signal, timeout } = resolveStop(c, options, `cannot stop container: ${c.name}: `);
  const operation = randomUUID();
  try {
    await shim.ask((link) => link.request({ op: 'stop', operation, signal, timeout }));
  } catch (error) {
    await journal.pull().catch(() => undefined);
    if (isRunning(c))
      throw new SystemFault(`cannot stop container: ${c.id}: ${(error as Error).message}`, { cause: error });
  }
  await journal.pull();
  // The client's next request must find addresses and ports released.
  if (c.state.final) await handle.idle();
}
