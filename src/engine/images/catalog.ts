/**
 * Read access to images: resolving references, listing, history, names; and the row and event primitives that
 * images.ts builds its operations from.
 */
import { matches, platformText, type Platform } from './registry/manifest.ts';
import type { ImageRow, ImageRows } from '../../store/images.ts';
import { NotFound, SystemFault } from '../../model/errors.ts';
import type { NewEvent } from '../../model/event.ts';
import { parseConfig } from './config-form.ts';
import { chainIds, sha256 } from './digest.ts';
import { parseMoment, parseRfc3339 } from './go-time.ts';
import type { Image, ImageConfig } from './image.ts';
import type { Layers } from './layers.ts';
import {
  canonicalString,
  familiarMatch,
  familiarName,
  familiarString,
  parseAnyReference,
  parseReference,
  type Reference,
  repositoryOf,
  tagNameOnly,
} from './reference.ts';
import { withoutTagIfDigest, type ImageUser } from './removal.ts';

export interface ImageFilters {
  dangling?: boolean;
  labels: string[];
  references: string[];
  /** References of images. */
  before: string[];
  since: string[];
  until?: string[];
}

export interface HistoryItem {
  Id: string;
  Created: number;
  CreatedBy: string;
  Tags: string[] | null;
  Size: number;
  Comment: string;
}

export interface ImagesDeps {
  rows: ImageRows;
  layers: Layers;
  events: { record(...events: NewEvent[]): void };
  /** The root directory of image data (paths.images()). */
  directory: string;
  /** Containers created from an image, even if its names have changed since. */
  usersOf: (imageId: string) => ImageUser[];
  /** Chain IDs of the layers below containers (Snapshots.chainsInUse). */
  chainsInUse: () => Set<string>;
  /** Wall ns. */
  now: () => string;
}

const NS_PER_S = 1_000_000_000n;

function forPlatform(image: Image, platform: Platform | undefined, reference: string): Image {
  if (platform && !matches(image.config, platform))
    throw new NotFound(
      `image with reference ${reference} was found but its platform (${platformText(image.config)}) does not match the specified platform (${platformText(platform)})`,
    );
  return image;
}

export class Catalog {
  /** Cache of `idOf`, valid for one revision of the store. */
  readonly #ids = { revision: -1, byReference: new Map<string, string | undefined>() };

  constructor(protected readonly deps: ImagesDeps) {}

  /**
   * Finds an image by digest, name or id prefix, in this order.
   * @throws NotFound `No such image: NAME:TAG`, or when it is not for `platform`; InvalidParameter `invalid reference
   * format`
   */
  resolve(reference: string, platform?: Platform): Image {
    const row = this.#find(reference);
    if (row) return forPlatform(this.image(row), platform, reference);
    const named = parseAnyReference(reference);
    throw new NotFound(`No such image: ${'id' in named ? named.id : familiarString(tagNameOnly(named))}`);
  }

  /** As `resolve`, for use of its layers. @throws SystemFault when its row cannot be read */
  resolveWhole(reference: string, platform?: Platform): Image {
    const image = this.resolve(reference, platform);
    if (image.damaged !== undefined) throw new SystemFault(`cannot use image ${reference}: ${image.damaged}`);
    return image;
  }

  /** As `resolve`, but undefined if there is none. @throws InvalidParameter `invalid reference format` */
  find(reference: string): Image | undefined {
    const row = this.#find(reference);
    return row && this.image(row);
  }

  /** The id alone, cached until an image or a name changes: a container list resolves one per container. */
  idOf(reference: string): string | undefined {
    const ids = this.#ids;
    const { revision } = this.deps.rows;
    if (ids.revision !== revision) {
      ids.byReference.clear();
      ids.revision = revision;
    }
    if (!ids.byReference.has(reference)) ids.byReference.set(reference, this.#find(reference)?.id);
    return ids.byReference.get(reference);
  }

  /** The configuration's bytes, of which the image id is the digest. */
  configOf = (id: string): Buffer | undefined => this.deps.rows.byId(id)?.config;

  #find(text: string): ImageRow | undefined {
    const { rows } = this.deps;
    const reference = parseAnyReference(text);
    if ('id' in reference) return rows.byId(reference.id);
    const named = rows.idByName(storedName(reference));
    if (named !== undefined) return rows.byId(named);
    const prefix = text.replace(/^sha256:/, '');
    if (!/^[0-9a-f]{1,64}$/.test(prefix)) return undefined;
    const ids = rows.idsByPrefix(`sha256:${prefix}`);
    return ids.length === 1 ? rows.byId(ids[0]!) : undefined;
  }

  /** Converts a row. @param names the names to show */
  image(row: ImageRow, names = this.references(row.id)): Image {
    const { config, damaged } = readable(row);
    return {
      id: row.id,
      parent: row.parent,
      config,
      created: String(creationTime(config.created)),
      tagged: row.tagged,
      size: row.size,
      chains: row.chains,
      repoTags: names.filter((name) => !name.digest).map(familiarString),
      repoDigests: names.filter((name) => name.digest).map(familiarString),
      ...(damaged !== undefined && { damaged }),
    };
  }

  references = (id: string): Reference[] => this.deps.rows.namesOf(id).map(parseReference);

  /** Newest first. @throws NotFound for a missing `before` or `since`, InvalidParameter for bad patterns and times */
  list(filters: ImageFilters, { all }: { all: boolean }): Image[] {
    const isInPeriod = this.#periodFilter(filters);
    const matchesPattern = (name: Reference): boolean =>
      filters.references.length === 0 || filters.references.some((pattern) => familiarMatch(pattern, name));
    const names = this.deps.rows.allNames();
    const rows = this.deps.rows.all();
    const parents = new Set(rows.map((row) => row.parent));
    const images: Image[] = [];
    for (const row of rows) {
      const isParent = parents.has(row.id);
      if (filters.dangling === true && isParent) continue;
      const shown = (names.get(row.id) ?? []).map(parseReference).filter(matchesPattern);
      const hidesUnnamed = (isParent && !all) || filters.dangling === false || filters.references.length > 0;
      if (shown.length === 0 && hidesUnnamed) continue;
      if (filters.dangling === true && shown.some((name) => !name.digest)) continue;
      const image = this.image(row, shown);
      if (isInPeriod(BigInt(image.created)) && hasLabels(image, filters.labels)) images.push(image);
    }
    return images.sort((a, b) => Number(BigInt(b.created) / NS_PER_S - BigInt(a.created) / NS_PER_S));
  }

  // An image without a creation date (0) never counts as older than a bound.
  #periodFilter({ until = [], before, since }: ImageFilters): (created: bigint) => boolean {
    const createdOf = (name: string): bigint => BigInt(this.resolve(name).created);
    const upper = until.map((text) => parseMoment(text, BigInt(this.deps.now())));
    upper.push(...before.map(createdOf));
    const lower = since.map(createdOf);
    return (created) =>
      upper.every((bound) => created !== 0n && created < bound) && lower.every((bound) => created > bound);
  }

  /** Newest first. @throws NotFound */
  history(reference: string, platform?: Platform): HistoryItem[] {
    const image = this.resolve(reference, platform);
    let layer = 0;
    const items = (image.config.history ?? [])
      .map((entry): HistoryItem => {
        const size = entry.empty_layer ? 0 : (this.deps.layers.get(image.chains[layer++] ?? '')?.size ?? 0);
        return {
          Id: '<missing>',
          Created: Number(creationTime(entry.created) / NS_PER_S),
          CreatedBy: entry.created_by ?? '',
          Tags: null,
          Size: size,
          Comment: entry.comment ?? '',
        };
      })
      .reverse();
    // Only the image itself and its ancestors that were committed on this host have an id.
    let ancestor: Image | undefined = image;
    for (const item of items) {
      if (!ancestor) break;
      item.Id = ancestor.id;
      item.Tags = ancestor.repoTags.length > 0 ? ancestor.repoTags : null;
      ancestor = ancestor.parent ? this.find(ancestor.parent) : undefined;
    }
    return items;
  }

  /** Bytes that each image shares with others, by image id. */
  sharedSizes(): Map<string, number> {
    const rows = this.deps.rows.all();
    const uses = new Map<string, number>();
    for (const chain of rows.flatMap((row) => row.chains)) uses.set(chain, (uses.get(chain) ?? 0) + 1);
    const shared = (chains: string[]): number =>
      chains.reduce((sum, chain) => sum + (uses.get(chain)! > 1 ? (this.deps.layers.get(chain)?.size ?? 0) : 0), 0);
    return new Map(rows.map((row) => [row.id, shared(row.chains)]));
  }

  /** Bytes of all layers, shared ones counted once. */
  layersSize = (): number => this.deps.layers.totalSize();

  /** The image with exactly this name, e.g. the `repository@sha256:…` of a pulled one. */
  findByName(reference: Reference): Image | undefined {
    const id = this.deps.rows.idByName(storedName(reference));
    const row = id === undefined ? undefined : this.deps.rows.byId(id);
    return row && this.image(row);
  }

  /** All tags of a repository. */
  tagsOf(repository: string): { reference: Reference; id: string }[] {
    return [...this.deps.rows.allNames()]
      .flatMap(([id, names]) => names.map((name) => ({ reference: parseReference(name), id })))
      .filter(({ reference }) => reference.tag !== undefined && repositoryOf(reference) === repository);
  }

  /**
   * Gives names to an existing image, or to a new one whose layers exist (pinned by the caller).
   * @param also runs in the same transaction
   * @returns `changed`: whether the first name referred to another image, or to none
   */
  adopt(
    image: { id: string } | { config: Buffer; diffIds: string[] },
    names: Reference[],
    also: (id: string) => void = () => undefined,
  ): { id: string; changed: boolean } {
    const id = 'id' in image ? image.id : sha256(image.config);
    return this.deps.rows.transaction(() => {
      const changed = this.deps.rows.idByName(storedName(names[0]!)) !== id;
      if ('config' in image) this.insertImage(id, image.config, chainIds(image.diffIds));
      for (const name of names) this.deps.rows.setName(storedName(name), id);
      also(id);
      return { id, changed };
    });
  }

  /** Records the event of a pull or push. */
  recordTransfer(id: string, action: 'pull' | 'push', reference: Reference): void {
    this.deps.events.record({
      type: 'image',
      action,
      actor: familiarString(reference),
      attributes: { ...this.#labelsOf(id), name: familiarName(reference) },
      time: this.deps.now(),
    });
  }

  /** Inserts the row. Call this and the three methods below within a transaction. */
  insertImage(id: string, config: Buffer, chains: string[]): void {
    const size = chains.reduce((sum, chain) => sum + (this.deps.layers.get(chain)?.size ?? 0), 0);
    this.deps.rows.insert({ id, config, created: this.deps.now(), size, chains });
  }

  tagImage(id: string, reference: Reference): void {
    this.nameImage(id, reference);
    this.recordEvent(id, 'tag', familiarString(reference));
  }

  nameImage(id: string, reference: Reference): void {
    this.deps.rows.setName(storedName(reference), id);
    this.deps.rows.setTagged(id, this.deps.now());
  }

  // In Docker's events `name` is the id except for `tag`, and a deleted image has no labels.
  recordEvent(id: string, action: string, name = id): void {
    this.deps.events.record({
      type: 'image',
      action,
      actor: id,
      attributes: { ...this.#labelsOf(id), name },
      time: this.deps.now(),
    });
  }

  #labelsOf(id: string): Record<string, string> {
    const row = this.deps.rows.byId(id);
    return row ? (readable(row).config.config?.Labels ?? {}) : {};
  }
}

/** The form in which names are stored. */
export const storedName = (reference: Reference): string => canonicalString(tagNameOnly(withoutTagIfDigest(reference)));

/** The configuration of an image, or an empty one and why. */
function readable(row: ImageRow): { config: ImageConfig; damaged?: string } {
  const lost = (reason: string): string => `the row of this image in the store cannot be read: ${reason}`;
  try {
    const config = parseConfig(row.config);
    return row.chainsLost ? { config, damaged: lost('its layers are unknown') } : { config };
  } catch (error) {
    const damaged = lost((error as Error).message);
    const rootfs: ImageConfig['rootfs'] = { type: 'layers', diff_ids: [] };
    return { config: { architecture: '', os: 'linux', comment: damaged, rootfs }, damaged };
  }
}

// 0 for a missing or malformed date.
const creationTime = (date: string | undefined): bigint => (date ? parseRfc3339(date) : undefined) ?? 0n;

function hasLabels({ config }: Image, wanted: string[]): boolean {
  const labels = config.config?.Labels ?? {};
  return wanted.every((label) => {
    const [key = '', value] = label.split(/=(.*)/s);
    return Object.hasOwn(labels, key) && (value === undefined || labels[key] === value);
  });
}
