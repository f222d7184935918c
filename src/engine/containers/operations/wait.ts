/** `docker wait`: answered here when the condition holds, else by the shim, which outlives the daemon. */
import { isRunning } from '../../../model/container-status.ts';
import type { WaitCondition } from '../../../protocol/messages.ts';
import type { Client } from '../../client.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { waitAnswer } from '../handle/parked-waits.ts';

export async function wait(handle: ContainerHandle, condition: WaitCondition, client: Client): Promise<void> {
  const { container: c, shim, journal, waits } = handle;
  await journal.pull().catch(() => undefined);
  const { state } = c;
  if (condition === 'not-running' && !isRunning(c)) {
    client.answer(waitAnswer(state.exitCode, state.error));
    return;
  }
  const hasNoShim = !shim.link && (state.final || state.gen === 0);
  if (hasNoShim) waits.park(client, condition);
  else await shim.ask((link) => link.handOver<'wait'>({ op: 'wait', condition }, client));
}
