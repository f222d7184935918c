/** `docker kill`: sends a signal; SIGKILL answers when the container is dead. */
import { randomUUID } from 'node:crypto';
import type { Container } from '../../../model/container.ts';
import { assertAllowed, isRunning } from '../../../model/container-status.ts';
import { SIGKILL } from '../../../sys/process.ts';
import { parseSignal } from '../../spec/signals.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { endDecided } from './changed-state.ts';

/** `signalName` '' = SIGKILL. @throws InvalidParameter for a bad signal, Conflict when it does not run */
export async function kill(handle: ContainerHandle, signalName: string): Promise<void> {
  const { container: c, shim, journal } = handle;
  const signal = signalName === '' ? SIGKILL : parseSignal(signalName);
  await endDecided(handle);
  assertAllowed('kill', c);
  const { gen } = c.state;
  const asUser = isUsersStop(c, signal);
  const operation = randomUUID();
  await shim.askToChange(
    (link) => link.request({ op: 'signal', operation, signal, asUser }),
    (state) => state.gen !== gen || !isRunning({ state }),
    { mayKillShim: true },
  );
  if (signal !== SIGKILL) return journal.pull();
  // A concurrent restart replaces the generation; stop waiting then too.
  await journal.until((state) => state.final || state.gen !== gen);
  if (c.state.final) await handle.idle();
}

// With a StopSignal of its own, only that signal and SIGKILL mean that the user stops it (moby daemon/kill.go).
const isUsersStop = ({ config: { StopSignal } }: Container, signal: number): boolean =>
  signal === SIGKILL || !StopSignal || parseSignal(StopSignal) === signal;
