/** `docker restart`: one operation of the shim while the container runs, a start while it does not. */
import { randomUUID } from 'node:crypto';
import { isRunning } from '../../../model/container-status.ts';
import { NotModified, SystemFault } from '../../../model/errors.ts';
import { containerEvent } from '../../events/container-event.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { start, type StartDeps } from './start.ts';
import { resolveStop, type StopOptions } from './stop-options.ts';

/** @throws SystemFault `Cannot restart container …` */
export async function restart(handle: ContainerHandle, options: StopOptions, deps: StartDeps): Promise<void> {
  const { container: c, shim, journal } = handle;
  const prefix = `Cannot restart container ${c.name}: `;
  try {
    if (!isRunning(c)) {
      await startStopped(handle, deps);
      return;
    }
    const { signal, timeout } = resolveStop(c, options, '');
    const operation = randomUUID();
    try {
      await shim.ask((link) => link.request({ op: 'restart', operation, signal, timeout }));
    } catch (error) {
      await journal.pull().catch(() => undefined);
      // It ended before the shim got the request, by a stop say: the start is what is left to do.
      if (!c.state.final) throw error;
      await startStopped(handle, deps);
    }
  } catch (error) {
    throw new SystemFault(prefix + (error as Error).message, { cause: error });
  } finally {
    await journal.pull().catch(() => undefined);
  }
}

async function startStopped(handle: ContainerHandle, deps: StartDeps): Promise<void> {
  await start(handle, deps).catch((error: unknown) => {
    if (!(error instanceof NotModified)) throw error;
  });
  deps.events.record(containerEvent(handle.container, 'restart'));
}
