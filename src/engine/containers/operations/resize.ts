/** The size of a container's terminal. */
import type { ContainerHandle } from '../handle/container-handle.ts';
import { whileAllowed } from './changed-state.ts';

/** @throws Conflict when it does not run */
export async function resize(handle: ContainerHandle, size: { height: number; width: number }): Promise<void> {
  await whileAllowed('resize', handle, async () =>
    (await handle.shim.reach()).request({ op: 'resize', height: size.height, width: size.width }),
  );
}
