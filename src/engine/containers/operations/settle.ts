/** What follows the end of a container's last run: its resources are released, and an --rm container is removed. */
import type { ContainerHandle } from '../handle/container-handle.ts';
import { removeInTurn, type RemoveDeps } from './remove.ts';
import { tearDown } from './teardown.ts';

export function settle(handle: ContainerHandle, deps: RemoveDeps): void {
  const { container: c, turns } = handle;
  const work = async (): Promise<void> => {
    // Started again, or removed, before this turn came.
    if (c.phase === 'removing' || !c.state.final) return;
    await tearDown(handle, deps);
    if (c.hostConfig.AutoRemove) await removeInTurn(handle, { force: true, volumes: true }, deps);
  };
  turns
    .run(work)
    .catch((err: unknown) => deps.log.error({ container: c.id, err }, 'could not clean up after the container'));
}
