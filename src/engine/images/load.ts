/** `docker load`: the images of a spooled archive become images here. */
import type { ImageRow } from '../../store/images.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { bundledImages, type Bundled } from './bundle.ts';
import { storedName, type Catalog, type ImageParts } from './catalog.ts';
import { chainIds } from './digest.ts';
import { hostArchitecture } from '../architecture.ts';
import { DigestMismatch, type Hold } from './layers.ts';
import { familiarString, parseReference } from './reference.ts';
import type { Staging } from './staging.ts';

interface Ask {
  staging: Staging;
  /** Holds the layers. */
  hold: Hold;
  signal: AbortSignal | undefined;
}

/** Yields Docker's lines. When `signal` ends it, the images that are whole by then stay, as in Docker. */
export async function* loadImages(catalog: Catalog, parts: ImageParts, ask: Ask): AsyncGenerator<string> {
  const images = await bundledImages(ask.staging, hostArchitecture);
  let named = false;
  for (const image of images) {
    await loadLayers(parts, image, ask);
    const lines = loadImage(catalog, parts, image);
    named = lines.length > 0;
    yield* lines;
  }
  linkParents(parts, images);
  // Docker looks at the last image only.
  if (!named) for (const { id } of images) yield `Loaded image ID: ${id}`;
}

async function loadLayers(parts: ImageParts, image: Bundled, { staging, hold, signal }: Ask): Promise<void> {
  const chains = chainIds(image.config.rootfs.diff_ids);
  for (const [i, expected] of image.config.rootfs.diff_ids.entries()) {
    try {
      await parts.layers.addFile(hold, () => staging.file(image.layers[i]!), chains.slice(0, i), expected, signal);
    } catch (error) {
      if (!(error instanceof DigestMismatch)) throw error;
      throw new InvalidParameter(`invalid diffID for layer ${i}: expected "${error.expected}", got "${error.actual}"`);
    }
  }
}

function loadImage(catalog: Catalog, parts: ImageParts, { id, config, configBytes, names }: Bundled): string[] {
  const references = names.map((name) => {
    const reference = parseReference(name);
    if (!reference.tag || reference.digest) throw new InvalidParameter(`invalid tag "${name}"`);
    return reference;
  });
  const lines: string[] = [];
  parts.rows.transaction(() => {
    catalog.insertImage(id, configBytes, chainIds(config.rootfs.diff_ids));
    for (const reference of references) {
      const previous = parts.rows.idByName(storedName(reference));
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

// Docker's archives say which image another was built upon, where both are in the archive.
function linkParents(parts: ImageParts, images: Bundled[]): void {
  const ids = new Set(images.map(({ id }) => id));
  for (const { id, parent } of images) {
    const isBelow = (other: ImageRow): boolean =>
      other.chains.every((chain, i) => parts.rows.byId(id)?.chains[i] === chain);
    const found = parent !== id && ids.has(parent) ? parts.rows.byId(parent) : undefined;
    if (found && isBelow(found)) parts.rows.setParent(id, parent);
  }
}
