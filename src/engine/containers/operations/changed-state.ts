/** A request that fails because the container's state has changed since it was checked. */
import { assertAllowed, isDeadOrRemoving, isRunning, type Operation } from '../../../model/container-status.ts';
import { Conflict, NotFound } from '../../../model/errors.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';

/**
 * Checks that `operation` is allowed and runs `request`. If it fails and the state does not allow the operation any
 * more, that is the reason. @throws Docker's refusal for the present state, else what `request` throws
 */
export async function whileAllowed<T>(
  operation: Operation,
  handle: ContainerHandle,
  request: () => Promise<T>,
): Promise<T> {
  const { container: c, journal } = handle;
  assertAllowed(operation, c);
  try {
    return await request();
  } catch (error) {
    await journal.pull().catch(() => undefined);
    assertNotRemoved(handle);
    assertAllowed(operation, c);
    throw error;
  }
}

/** After this the container counts as what its state says. */
const DECISION_TIMEOUT_MS = 15_000;

/**
 * Resolves when it is decided whether an ended container is restarted by its policy. Shims decide at once, except where
 * one died just then: its successor does.
 */
export async function endDecided({ container: { state }, journal }: ContainerHandle): Promise<void> {
  const isUndecided = state.status === 'exited' && !state.final && state.restartAsked !== true;
  if (!isUndecided) return;
  await journal.until((s) => s.final || isRunning({ state: s }), AbortSignal.timeout(DECISION_TIMEOUT_MS));
}

/** @throws NotFound, Conflict when the container is removed or being removed */
export function assertNotRemoved({ container: c, isRetired }: ContainerHandle): void {
  if (isRetired) throw new NotFound(`No such container: ${c.id}`);
  if (isDeadOrRemoving(c)) throw new Conflict(`container ${c.id} is dead or marked for removal`);
}
