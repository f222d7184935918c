/** `docker pause` and `docker unpause`. */
import { randomUUID } from 'node:crypto';
import { assertAllowed } from '../../../model/container-status.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';

/** @throws Conflict when it does not run or is paused */
export async function pause({ container, shim, journal }: ContainerHandle): Promise<void> {
  assertAllowed('pause', container);
  await (await shim.reach()).request({ op: 'pause', operation: randomUUID() });
  await journal.pull();
}

/** @throws SystemFault when it is not paused */
export async function unpause({ container, shim, journal }: ContainerHandle): Promise<void> {
  assertAllowed('unpause', container);
  await (await shim.reach()).request({ op: 'resume', operation: randomUUID() });
  await journal.pull();
}
