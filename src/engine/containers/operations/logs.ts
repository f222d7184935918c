/** `docker logs`: the container's log file; `follow` ends with the run. */
import type { Container } from '../../../model/container.ts';
import { isDeadOrRemoving, isRunning, isStarting } from '../../../model/container-status.ts';
import { Conflict } from '../../../model/errors.ts';
import type { LogEntry } from '../../logs/log-entry.ts';
import { readLog, type LogQuery } from '../../logs/logs.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { logPath } from '../shim-spec.ts';

/** @throws NotImplemented for drivers that cannot be read, Conflict when it is dead or being removed */
export function logs(
  { container: c, journal }: ContainerHandle,
  query: LogQuery,
  signal: AbortSignal,
  { paths }: Pick<ContainerDeps, 'paths'>,
): { container: Container; batches: AsyncIterable<LogEntry[]> } {
  if (isDeadOrRemoving(c)) throw new Conflict('can not get logs from container which is dead or marked for removal');
  const { gen } = c.state;
  const follows = query.follow && (isRunning(c) || isStarting(c));
  const runEnded = follows
    ? journal.until((state) => state.gen !== gen || !['starting', 'running', 'paused'].includes(state.status), signal)
    : Promise.resolve();
  return { container: c, batches: readLog(logPath(c, paths), query, runEnded, signal) };
}
