/** `docker export`: all files of a container as a tar archive (moby daemon/export.go). */
import type { Container } from '../../../model/container.ts';
import { containerEvent } from '../../events/container-event.ts';
import type { ContainerDeps } from '../deps.ts';
import { assertReadable } from './commit.ts';

/** As the container sees them while it runs, else as it left them. @throws Conflict when dead or being removed */
export function exportContainer(
  c: Container,
  { snapshots, archives, events }: Pick<ContainerDeps, 'snapshots' | 'archives' | 'events'>,
): AsyncIterable<Buffer> {
  assertReadable(c, 'export');
  const mounted = snapshots.openMounted(c.id);
  events.record(containerEvent(c, 'export'));
  return mounted === undefined ? archives.stack(snapshots.stack(c.id)) : archives.tree(mounted);
}
