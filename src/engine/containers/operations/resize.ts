/** The size of a container's terminal. */
import { assertAllowed } from '../../../model/container-status.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';

/** @throws Conflict when it does not run */
export async function resize(
  { container, shim }: ContainerHandle,
  size: { height: number; width: number },
): Promise<void> {
  assertAllowed('resize', container);
  await (await shim.reach()).request({ op: 'resize', height: size.height, width: size.width });
}
