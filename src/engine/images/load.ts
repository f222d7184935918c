/** `docker load`: creates images from a spooled archive. */
import { InvalidParameter } from '../../model/errors.ts';
import { readImageArchive, type ArchivedImage } from './image-archive.ts';
import type { Catalog, ImagesDeps } from './catalog.ts';
import { chainIds } from './digest.ts';
import { hostArchitecture } from '../architecture.ts';
import { DigestMismatch, type LayerPin } from './layers.ts';
import { isLegacyArchive, loadLegacyImages } from './load-legacy.ts';
import { linkParents, recordLoaded } from './loaded-image.ts';
import type { Staging } from './staging.ts';

interface LoadRequest {
  staging: Staging;
  pin: LayerPin;
  signal: AbortSignal | undefined;
}

/** Yields Docker's lines. On abort, images that are complete by then stay, as in Docker. */
export async function* loadImages(catalog: Catalog, deps: ImagesDeps, request: LoadRequest): AsyncGenerator<string> {
  if (isLegacyArchive(request.staging)) {
    yield* loadLegacyImages(catalog, deps, request);
    return;
  }
  const images = await readImageArchive(request.staging, hostArchitecture);
  let isLastNamed = false;
  for (const image of images) {
    await loadLayers(deps, image, request);
    const lines = recordLoaded(catalog, deps, image);
    isLastNamed = lines.length > 0;
    yield* lines;
  }
  // Docker's archives name an image's parent if both are in the archive.
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
