/** Records the images of an archive whose layers are in place. */
import type { ImageRow } from '../../store/images.ts';
import { InvalidParameter } from '../../model/errors.ts';
import { storedName, type Catalog, type ImagesDeps } from './catalog.ts';
import { chainIds } from './digest.ts';
import type { ArchivedImage } from './image-archive.ts';
import { familiarString, parseReference } from './reference.ts';

export type LoadedImage = Omit<ArchivedImage, 'layers'>;

/** Creates the image and gives it its names. @returns Docker's lines @throws InvalidParameter for a bad name */
export function recordLoaded(catalog: Catalog, deps: ImagesDeps, image: LoadedImage): string[] {
  const { id, config, configBytes, names } = image;
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

/** Makes each image's parent known if it is in the archive too and its layers are the image's lower ones. */
export function linkParents(deps: ImagesDeps, images: readonly LoadedImage[]): void {
  const ids = new Set(images.map(({ id }) => id));
  for (const { id, parent } of images) {
    const isBelow = (other: ImageRow): boolean =>
      other.chains.every((chain, i) => deps.rows.byId(id)?.chains[i] === chain);
    const found = parent !== id && ids.has(parent) ? deps.rows.byId(parent) : undefined;
    if (found && isBelow(found)) deps.rows.setParent(id, parent);
  }
}
