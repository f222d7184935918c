/** `docker pause` and `docker unpause`. */
import { randomUUID } from 'node:crypto';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { whileAllowed } from './changed-state.ts';

/** @throws Conflict when it does not run or is paused */
export const pause = (handle: ContainerHandle): Promise<void> => freeze(handle, 'pause', 'pause');

/** @throws SystemFault when it is not paused */
export const unpause = (handle: ContainerHandle): Promise<void> => freeze(handle, 'unpause', 'resume');

function freeze(handle: ContainerHandle, operation: 'pause' | 'unpause', op: 'pause' | 'resume'): Promise<void> {
  const { shim, journal } = handle;
  return whileAllowed(operation, handle, async () => {
    await (await shim.reach()).request({ op, operation: randomUUID() });
    await journal.pull();
  });
}
