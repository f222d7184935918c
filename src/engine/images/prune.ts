/** `docker image prune`: removes unused images. */
import { Conflict, NotFound } from '../../model/errors.ts';
import { pruneMatcher, type Prunable } from '../prune-filter.ts';
import type { Catalog, ImagesDeps } from './catalog.ts';
import { familiarString } from './reference.ts';
import type { Deletion } from './removal.ts';

/** The catalog, with the operation that prune needs of images.ts. */
type RemovableImages = Catalog & {
  remove(reference: string, options: { force: boolean; noprune: boolean }): Promise<Deletion[]>;
};

interface PruneRequest {
  filters: ReadonlyMap<string, readonly string[]>;
  /** Only images without a name; otherwise all that no container uses. */
  dangling: boolean;
}

/** Removes images until `signal` aborts. @throws InvalidParameter for bad filters */
export async function pruneImages(
  images: RemovableImages,
  deps: ImagesDeps,
  { filters, dangling }: PruneRequest,
  signal?: AbortSignal,
): Promise<{ deleted: Deletion[]; reclaimed: number }> {
  const matches = pruneMatcher(filters, ['until', 'label', 'label!', 'dangling']);
  const sizes = deps.layers.sizes();
  const deleted: Deletion[] = [];
  for (const id of candidates(images, deps, matches, { dangling, needsDate: filters.has('until') })) {
    if (signal?.aborted) break;
    const names = images.references(id);
    if (dangling && names.some((name) => !name.digest)) continue;
    for (const reference of names.length > 0 ? names.map(familiarString) : [id.slice('sha256:'.length)]) {
      // A concurrent pull or tag may have moved the name to another image.
      if (images.find(reference)?.id !== id) continue;
      deleted.push(...(await images.remove(reference, { force: false, noprune: false }).catch(nothingIfInUse)));
    }
  }
  const reclaimed = deleted.reduce((sum, line) => sum + ('Deleted' in line ? (sizes.get(line.Deleted) ?? 0) : 0), 0);
  deps.events.record({
    type: 'image',
    action: 'prune',
    actor: '',
    attributes: { reclaimed: String(reclaimed) },
    time: deps.now(),
  });
  return { deleted, reclaimed };
}

// A parent of other images is a candidate only if it has a name, and never with `dangling`.
function candidates(
  catalog: Catalog,
  { rows }: ImagesDeps,
  matches: (thing: Prunable) => boolean,
  { dangling, needsDate }: { dangling: boolean; needsDate: boolean },
): string[] {
  return rows
    .all()
    .filter((row) => {
      const isParent = rows.childrenOf(row.id).length > 0;
      if (isParent && (dangling || rows.namesOf(row.id).length === 0)) return false;
      const { created, config } = catalog.image(row);
      // An `until` filter cannot judge an image without a date.
      if (needsDate && !config.created) return false;
      return matches({ created, labels: config.config?.Labels ?? {} });
    })
    .map((row) => row.id);
}

// Images in use stay.
function nothingIfInUse(error: unknown): Deletion[] {
  if (error instanceof Conflict || error instanceof NotFound) return [];
  throw error;
}
