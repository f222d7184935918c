/** `docker pause` and `docker unpause`. */
import { randomUUID } from 'node:crypto';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { whileAllowed } from './changed-state.ts';

/** @throws Conflict when it does not run or is paused */
export const pause = (handle: ContainerHandle): Promise<void> => freeze(handle, 'pause', 'pause');

/** @throws SystemFault when it is not paused */
export const unpause = (handle: ContainerHandle): Promise<void> => freeze(handle, 'unpause', 'resume');

function freeze(handle: ContainerHandle, verb: 'pause' | 'unpause', op: 'pause' | 'resume'): Promise<void> {
  const { shim, journal } = handle;
  return whileAllowed(verb, handle, async () => {
    const operation = randomUUID();
    const wanted = op === 'pause' ? 'paused' : 'running';
    await shim.askToChange(
      (link) => link.request({ op, operation }),
      ({ status }) => status === wanted,
    );
    await journal.pull();
  });
}
