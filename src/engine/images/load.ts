/** `docker load`: creates images from a spooled archive. */
import type { ImageRow } from '../../store/images.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { readImageArchive, type ArchivedImage } from './image-archive.ts';
import { storedName, type Catalog, type ImagesDeps } from './catalog.ts';
import { chainIds } from './digest.ts';
import { hostArchitecture } from '../architecture.ts';
import { DigestMismatch, type LayerPin } from './layers.ts';
import { familiarString, parseReference } from './reference.ts';
import type { Staging } from './staging.ts';

interface LoadRequest {
  staging: Staging;
  pin: LayerPin;
  signal: AbortSignal | undefined;
}

/** Yields Docker's lines. On abort, images that are complete by then stay, as in Docker. */
export async function* loadImages(catalog: Catalog, deps: ImagesDeps, request: LoadRequest): AsyncGenerator<string> {
  const images = await readImageArchive(request.staging, hostArchitecture);
  let isLastNamed = false;
  for (const image of images) {
    await loadLayers(deps, image, request);
    const lines = loadImage(catalog, deps, image);
    isLastNamed = lines.length > 0;
    yield* lines;
  }
  linkParents(deps, images);
  // As Docker: the ids are listed if the last image has no name, whatever the others have.
  if (!isLastNamed) for (const { id } of images) yield `Loaded image ID: ${id}`;
}

async function loadLayers(
  deps: ImagesDeps,
  image: ArchivedImage,
  { staging, pin, signal }: LoadRequest,
): Promise<void> {
  const chains = chainIds(image.config.rootfs.diff_ids);
  for (const [i, expected] of image.config.rootfs.diff_ids.entries()) {
    try {
      await deps.layers.addFile(pin, () => staging.file(image.layers[i]!), chains.slice(0, i), expected, signal);
    } catch (error) {
      if (!(error instanceof DigestMismatch)) throw error;
      throw new InvalidParameter(`invalid diffID for layer ${i}: expected "${error.expected}", got "${error.actual}"`);
    }
  }
}

function loadImage(catalog: Catalog, deps: ImagesDeps, { id, config, configBytes, names }: ArchivedImage): string[] {
  const references = names.map((name) => {
    const reference = parseReference(name);
    if (!reference.tag || reference.digest) throw new InvalidParameter(`invalid tag "${name}"`);
    return reference;
  });
  const lines: string[] = [];
  deps.rows.transaction(() => {
    catalog.insertImage(id, configBytes, chainIds(config.rootfs.diff_ids));
    for (const reference of references) {
      const previous = deps.rows.idByName(storedName(reference));
      if (previous !== undefined && previous !== id)
        lines.push(
          `The image ${familiarString(reference)} already exists, renaming the old one with ID ${previous} to empty string`,
        );
      catalog.nameImage(id, reference);
      lines.push(`Loaded image: ${familiarString(reference)}`);
    }
    catalog.recordEvent(id, 'load');
  });
  return lines;
}

// Docker's archives name an image's parent if both are in the archive.
function linkParents(deps: ImagesDeps, images: ArchivedImage[]): void {
  const ids = new Set(images.map(({ id }) => id));
  for (const { id, parent } of images) {
    const isBelow = (other: ImageRow): boolean =>
      other.chains.every((chain, i) => deps.rows.byId(id)?.chains[i] === chain);
    const found = parent !== id && ids.has(parent) ? deps.rows.byId(parent) : undefined;
    if (found && isBelow(found)) deps.rows.setParent(id, parent);
  }
}
