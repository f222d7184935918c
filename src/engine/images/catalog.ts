/**
 * What images there are, what they are called, and what is told of them: rows, names and events. Images (images.ts)
 * changes the world behind them.
 */
import type { ImageRow, ImageRows } from '../../store/images.ts';
import { NotFound } from '../../model/errors.ts';
import type { NewEvent } from '../../model/event.ts';
import { parseConfig } from './config-form.ts';
import { chainIds, sha256 } from './digest.ts';
import { parseMoment, parseRfc3339 } from './go-time.ts';
import type { Image } from './image.ts';
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
import { withoutTagIfDigest, type User } from './removal.ts';

export interface ImageFilters {
  dangling?: boolean;
  labels: string[];
  references: string[];
  /** Names of images. */
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

export interface ImageParts {
  rows: ImageRows;
  layers: Layers;
  events: { record(...events: NewEvent[]): void };
  /** The directory of all that belongs to images (paths.images()). */
  directory: string;
  /** Containers made from an image, whatever became of its names. */
  usersOf: (imageId: string) => User[];
  /** Chain IDs that containers lie upon (Snapshots.claimed). */
  claimed: () => Set<string>;
  /** Wall ns. */
  now: () => string;
}

const NS_PER_S = 1_000_000_000n;

export class Catalog {
  /** Answers of `idOf` as of a revision of the store. */
  readonly #ids = { revision: -1, byReference: new Map<string, string | undefined>() };

  constructor(protected readonly parts: ImageParts) {}

  /**
   * By digest, name or id prefix, in this order. @throws NotFound `No such image: NAME:TAG`, InvalidParameter `invalid
   * reference format`
   */
  resolve(reference: string): Image {
    const row = this.#find(reference);
    if (row) return this.image(row);
    const named = parseAnyReference(reference);
    throw new NotFound(`No such image: ${'id' in named ? named.id : familiarString(tagNameOnly(named))}`);
  }

  /** @throws InvalidParameter for what is no reference */
  find(reference: string): Image | undefined {
    const row = this.#find(reference);
    return row && this.image(row);
  }

  /** The id alone, remembered until an image or a name changes: a list of containers asks for each of them. */
  idOf(reference: string): string | undefined {
    const ids = this.#ids;
    const { revision } = this.parts.rows;
    if (ids.revision !== revision) {
      ids.byReference.clear();
      ids.revision = revision;
    }
    if (!ids.byReference.has(reference)) ids.byReference.set(reference, this.#find(reference)?.id);
    return ids.byReference.get(reference);
  }

  /** The configuration's bytes, as hashed. */
  configOf = (id: string): Buffer | undefined => this.parts.rows.byId(id)?.config;

  #find(text: string): ImageRow | undefined {
    const { rows } = this.parts;
    const reference = parseAnyReference(text);
    if ('id' in reference) return rows.byId(reference.id);
    const named = rows.idByName(storedName(reference));
    if (named !== undefined) return rows.byId(named);
    const prefix = text.replace(/^sha256:/, '');
    if (!/^[0-9a-f]{1,64}$/.test(prefix)) return undefined;
    const ids = rows.idsByPrefix(`sha256:${prefix}`);
    return ids.length === 1 ? rows.byId(ids[0]!) : undefined;
  }

  /** As the domain sees it; `names` are those to be shown. */
  image(row: ImageRow, names = this.references(row.id)): Image {
    const config = parseConfig(row.config);
    return {
      id: row.id,
      parent: row.parent,
      config,
      created: String((config.created && parseRfc3339(config.created)) || 0n),
      tagged: row.tagged,
      size: row.size,
      chains: row.chains,
      repoTags: names.filter((name) => !name.digest).map(familiarString),
      repoDigests: names.filter((name) => name.digest).map(familiarString),
    };
  }

  references = (id: string): Reference[] => this.parts.rows.namesOf(id).map(parseReference);

  /** Newest first. @throws NotFound for a missing `before` or `since`, InvalidParameter for bad patterns and times */
  list(filters: ImageFilters, { all }: { all: boolean }): Image[] {
    const moments = (filters.until ?? []).map((text) => parseMoment(text, BigInt(this.parts.now())));
    moments.push(...filters.before.map((name) => BigInt(this.resolve(name).created)));
    const since = filters.since
      .map((name) => BigInt(this.resolve(name).created))
      .reduce<bigint | undefined>((most, moment) => (most === undefined || moment > most ? moment : most), undefined);
    const before = moments.reduce<bigint | undefined>(
      (least, moment) => (least === undefined || moment < least ? moment : least),
      undefined,
    );
    const names = this.parts.rows.allNames();
    const rows = this.parts.rows.all();
    const parents = new Set(rows.map((row) => row.parent));
    const images: Image[] = [];
    for (const row of rows) {
      const isParent = parents.has(row.id);
      if (filters.dangling === true && isParent) continue;
      // Only the names that a pattern asks for are shown.
      const shown = (names.get(row.id) ?? [])
        .map(parseReference)
        .filter(
          (name) =>
            filters.references.length === 0 || filters.references.some((pattern) => familiarMatch(pattern, name)),
        );
      if (shown.length === 0 && ((isParent && !all) || filters.dangling === false || filters.references.length > 0))
        continue;
      if (filters.dangling === true && shown.some((name) => !name.digest)) continue;
      const image = this.image(row, shown);
      const created = BigInt(image.created);
      if (before !== undefined && (created >= before || created === 0n)) continue;
      if (since !== undefined && created <= since) continue;
      if (hasLabels(image, filters.labels)) images.push(image);
    }
    return images.sort((a, b) => Number(BigInt(b.created) / NS_PER_S - BigInt(a.created) / NS_PER_S));
  }

  /** Newest first. @throws NotFound */
  history(reference: string): HistoryItem[] {
    const image = this.resolve(reference);
    let layer = 0;
    const items = (image.config.history ?? [])
      .map((entry): HistoryItem => {
        const size = entry.empty_layer ? 0 : (this.parts.layers.get(image.chains[layer++] ?? '')?.size ?? 0);
        const created = (entry.created !== undefined && parseRfc3339(entry.created)) || 0n;
        return {
          Id: '<missing>',
          Created: Number(created / NS_PER_S),
          CreatedBy: entry.created_by ?? '',
          Tags: null,
          Size: size,
          Comment: entry.comment ?? '',
        };
      })
      .reverse();
    // Only the image itself and those that it was made from here have an id.
    let ancestor: Image | undefined = image;
    for (const item of items) {
      if (!ancestor) break;
      item.Id = ancestor.id;
      item.Tags = ancestor.repoTags.length > 0 ? ancestor.repoTags : null;
      ancestor = ancestor.parent ? this.find(ancestor.parent) : undefined;
    }
    return items;
  }

  /** Bytes that each image shares with another, by id. */
  sharedSizes(): Map<string, number> {
    const rows = this.parts.rows.all();
    const uses = new Map<string, number>();
    for (const chain of rows.flatMap((row) => row.chains)) uses.set(chain, (uses.get(chain) ?? 0) + 1);
    const shared = (chains: string[]): number =>
      chains.reduce((sum, chain) => sum + (uses.get(chain)! > 1 ? (this.parts.layers.get(chain)?.size ?? 0) : 0), 0);
    return new Map(rows.map((row) => [row.id, shared(row.chains)]));
  }

  /** Bytes of all layers, each counted once. */
  layersSize = (): number => this.parts.layers.totalSize();

  /** The image of a name that is stored so: `repository@sha256:…` of one that was pulled. */
  named(reference: Reference): Image | undefined {
    const id = this.parts.rows.idByName(storedName(reference));
    const row = id === undefined ? undefined : this.parts.rows.byId(id);
    return row && this.image(row);
  }

  /** All names that a repository's images have, with a tag. */
  tagsOf(repository: string): { reference: Reference; id: string }[] {
    return [...this.parts.rows.allNames()]
      .flatMap(([id, names]) => names.map((name) => ({ reference: parseReference(name), id })))
      .filter(({ reference }) => reference.tag !== undefined && repositoryOf(reference) === repository);
  }

  /**
   * Takes in an image whose layers are here (held by the caller) under the names given, or gives an image that is here
   * those names.
   * Whether that changed what the first name means. `also` is part of the same transaction.
   */
  adopt(
    image: { id: string } | { config: Buffer; diffIds: string[] },
    names: Reference[],
    also: (id: string) => void = () => undefined,
  ): { id: string; changed: boolean } {
    const id = 'id' in image ? image.id : sha256(image.config);
    return this.parts.rows.transaction(() => {
      const changed = this.parts.rows.idByName(storedName(names[0]!)) !== id;
      if ('config' in image) this.insertImage(id, image.config, chainIds(image.diffIds));
      for (const name of names) this.parts.rows.setName(storedName(name), id);
      also(id);
      return { id, changed };
    });
  }

  /** Tells of an image that came from or went to a registry. */
  recordTransfer(id: string, action: 'pull' | 'push', reference: Reference): void {
    this.parts.events.record({
      type: 'image',
      action,
      actor: familiarString(reference),
      attributes: { ...this.#labelsOf(id), name: familiarName(reference) },
      time: this.parts.now(),
    });
  }

  /** Within a transaction of the caller's, like the three below. */
  insertImage(id: string, config: Buffer, chains: string[]): void {
    const size = chains.reduce((sum, chain) => sum + (this.parts.layers.get(chain)?.size ?? 0), 0);
    this.parts.rows.insert({ id, config, created: this.parts.now(), size, chains });
  }

  tagImage(id: string, reference: Reference): void {
    this.nameImage(id, reference);
    this.recordEvent(id, 'tag', familiarString(reference));
  }

  nameImage(id: string, reference: Reference): void {
    this.parts.rows.setName(storedName(reference), id);
    this.parts.rows.setTagged(id, this.parts.now());
  }

  // Docker gives the id for the name in all but a tag's event, and no labels of an image that is gone.
  recordEvent(id: string, action: string, name = id): void {
    this.parts.events.record({
      type: 'image',
      action,
      actor: id,
      attributes: { ...this.#labelsOf(id), name },
      time: this.parts.now(),
    });
  }

  #labelsOf(id: string): Record<string, string> {
    const row = this.parts.rows.byId(id);
    return row ? (parseConfig(row.config).config?.Labels ?? {}) : {};
  }
}

/** A name as the store keeps it. */
export const storedName = (reference: Reference): string => canonicalString(tagNameOnly(withoutTagIfDigest(reference)));

function hasLabels({ config }: Image, wanted: string[]): boolean {
  const labels = config.config?.Labels ?? {};
  return wanted.every((label) => {
    const [key = '', value] = label.split(/=(.*)/s);
    return Object.hasOwn(labels, key) && (value === undefined || labels[key] === value);
  });
}
