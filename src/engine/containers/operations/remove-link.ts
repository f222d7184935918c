/** `docker rm --link`: a linked container loses one of its link names, and nothing else. */
import { NotFound, SystemFault } from '../../../model/errors.ts';
import type { ContainerDeps } from '../deps.ts';
import { parseLinkName } from '../link-names.ts';
import { parseLink } from '../../spec/links.ts';

/**
 * @param reference `parent/alias`. A running parent keeps its line in /etc/hosts until its next start.
 * @throws NotFound, and SystemFault for a container's own name, as dockerd
 */
export async function removeLink(
  reference: string,
  { index, rows }: Pick<ContainerDeps, 'index' | 'rows'>,
): Promise<void> {
  await index.find(reference);
  const link = parseLinkName(reference);
  if (!link) throw new SystemFault('Conflict, cannot remove the default link name of the container');
  const parent = index.lookup(link.parent);
  await parent.turns.run(() => {
    if (parent.isRetired) throw new NotFound(`No such container: ${reference}`);
    const { container: c } = parent;
    const links = (c.hostConfig.Links ?? []).filter((text) => parseLink(text).alias !== link.alias);
    c.hostConfig = { ...c.hostConfig, Links: links.length > 0 ? links : null };
    rows.transaction(() => rows.setDefinition(c));
    return Promise.resolve();
  });
}
