/** `docker image prune`: images that nothing needs. */
import { Conflict, NotFound } from '../../model/errors.ts';
import { pruneMatcher, type Prunable } from '../prune-filter.ts';
import type { Catalog, ImageParts } from './catalog.ts';
import type { Deletion, Images } from './images.ts';
import { familiarString } from './reference.ts';

/** Those without a name, or all that no container uses. @throws InvalidParameter for bad filters */
export async function pruneImages(
  images: Images,
  parts: ImageParts,
  filters: ReadonlyMap<string, readonly string[]>,
  { dangling }: { dangling: boolean },
  signal?: AbortSignal,
): Promise<{ deleted: Deletion[]; reclaimed: number }> {
  const matches = pruneMatcher(filters, ['until', 'label', 'label!', 'dangling']);
  const sizes = parts.layers.sizes();
  const deleted: Deletion[] = [];
  for (const id of prunable(images, parts, matches, { dangling, dated: filters.has('until') })) {
    if (signal?.aborted) break;
    const names = images.references(id);
    if (dangling && names.some((name) => !name.digest)) continue;
    for (const each of names.length > 0 ? names.map(familiarString) : [id.slice('sha256:'.length)]) {
      // A pull or a tag may have given it to another meanwhile.
      if (images.find(each)?.id !== id) continue;
      deleted.push(
        ...(await images.remove(each, { force: false, noprune: false }).catch((error: unknown) => refused(error))),
      );
    }
  }
  const reclaimed = deleted.reduce((sum, line) => sum + ('Deleted' in line ? (sizes.get(line.Deleted) ?? 0) : 0), 0);
  parts.events.record({
    type: 'image',
    action: 'prune',
    actor: '',
    attributes: { reclaimed: String(reclaimed) },
    time: parts.now(),
  });
  return { deleted, reclaimed };
}

// Of images that others are made of, only those with a name, and never when the nameless alone are meant.
function prunable(
  catalog: Catalog,
  parts: ImageParts,
  matches: (thing: Prunable) => boolean,
  { dangling, dated }: { dangling: boolean; dated: boolean },
): string[] {
  const { rows } = parts;
  return rows
    .all()
    .filter((row) => {
      const isParent = rows.childrenOf(row.id).length > 0;
      if (isParent && (dangling || rows.namesOf(row.id).length === 0)) return false;
      const { created, config } = catalog.image(row);
      // Of one without a date nobody can tell whether it is old enough.
      if (dated && !config.created) return false;
      return matches({ created, labels: config.config?.Labels ?? {} });
    })
    .map((row) => row.id);
}

// An image that is in use stays, whatever it was that wanted it gone.
function refused(error: unknown): Deletion[] {
  if (error instanceof Conflict || error instanceof NotFound) return [];
  throw error;
}
