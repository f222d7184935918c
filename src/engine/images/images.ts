/** Images: import, load, list, tag, remove. What they are made of is in layers.ts, what they are called in reference.ts. */
import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { ImageRow, ImageRows } from '../../store/images.ts';
import { faultPoint } from '../../sys/fault.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../errors.ts';
import type { NewEvent } from '../events/event.ts';
import { pruneMatcher, type Prunable } from '../prune-filter.ts';
import { bundledImages, type Bundled } from './bundle.ts';
import { applyChanges, type ImageSettings } from './changes.ts';
import { childConfig, EMPTY_LAYER } from './child.ts';
import { decompress, detectCompression, peek } from './compression.ts';
import { chainIds, sha256 } from './digest.ts';
import { formatRfc3339, parseMoment, parseRfc3339 } from './go-time.ts';
import type { Image, ImageConfig } from './image.ts';
import { DigestMismatch, type Hold, type Layers } from './layers.ts';
import { canonicalString, familiarMatch, familiarName, familiarString, parseAnyReference, parseReference, type Reference, repositoryOf, tagNameOnly, targetReference } from './reference.ts';
import { planRemoval, untaggedLine, withoutTagIfDigest, type Known, type Step, type User } from './removal.ts';
import { saveImages, type Saved } from './save.ts';
import { Staging } from './staging.ts';

export interface ImageFilters {
  dangling?: boolean;
  labels: string[];
  references: string[];
  /** Names of images. */
  before: string[];
  since: string[];
  until?: string[];
}

export type Deletion = { Untagged: string } | { Deleted: string };

export interface HistoryItem {
  Id: string;
  Created: number;
  CreatedBy: string;
  Tags: string[] | null;
  Size: number;
  Comment: string;
}

export interface Commit {
  /** Id of the image that the container is made from. */
  parent: string;
  container: string;
  containerConfig: ImageSettings;
  config: ImageSettings;
  author: string;
  comment: string;
  target?: Reference;
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

const ARCHITECTURES: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };
/** As images name this host's. */
export const hostArchitecture = ARCHITECTURES[process.arch] ?? process.arch;
/** Other names of theirs. */
export const machines: Record<string, string> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64', i386: '386', armhf: 'arm' };
const NS_PER_S = 1_000_000_000n;

export class Images {
  #pruning = false;

  /** Answers of `idOf` as of a revision of the store. */
  readonly #ids = { revision: -1, byReference: new Map<string, string | undefined>() };

  /** Spooled by an earlier daemon. Known before the first request: what comes later is ours. */
  readonly #leftovers: string[];

  constructor(private readonly parts: ImageParts) {
    this.#leftovers = existsSync(this.#staging()) ? readdirSync(this.#staging()) : [];
  }

  /** By digest, name or id prefix, in this order. @throws NotFound `No such image: NAME:TAG`, InvalidParameter `invalid reference format` */
  resolve(reference: string): Image {
    const row = this.#find(reference);
    if (row) return this.#image(row);
    const named = parseAnyReference(reference);
    throw new NotFound(`No such image: ${'id' in named ? named.id : familiarString(tagNameOnly(named))}`);
  }

  /** @throws InvalidParameter for what is no reference */
  find(reference: string): Image | undefined {
    const row = this.#find(reference);
    return row && this.#image(row);
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

  #image(row: ImageRow, names = this.#references(row.id)): Image {
    const config = JSON.parse(row.config.toString()) as ImageConfig;
    return {
      id: row.id, parent: row.parent, config, created: String((config.created !== undefined && parseRfc3339(config.created)) || 0n), tagged: row.tagged, size: row.size, chains: row.chains,
      repoTags: names.filter((name) => !name.digest).map(familiarString),
      repoDigests: names.filter((name) => name.digest).map(familiarString),
    };
  }

  #references = (id: string): Reference[] => this.parts.rows.namesOf(id).map(parseReference);

  /** Newest first. @throws NotFound for a missing `before` or `since`, InvalidParameter for bad patterns and times */
  list(filters: ImageFilters, { all }: { all: boolean }): Image[] {
    const moments = (filters.until ?? []).map((text) => parseMoment(text, BigInt(this.parts.now())));
    moments.push(...filters.before.map((name) => BigInt(this.resolve(name).created)));
    const since = filters.since.map((name) => BigInt(this.resolve(name).created)).reduce<bigint | undefined>((most, moment) => (most === undefined || moment > most ? moment : most), undefined);
    const before = moments.reduce<bigint | undefined>((least, moment) => (least === undefined || moment < least ? moment : least), undefined);
    const names = this.parts.rows.allNames();
    const rows = this.parts.rows.all();
    const parents = new Set(rows.map((row) => row.parent));
    const images: Image[] = [];
    for (const row of rows) {
      const isParent = parents.has(row.id);
      if (filters.dangling === true && isParent) continue;
      // Only the names that a pattern asks for are shown.
      const shown = (names.get(row.id) ?? []).map(parseReference).filter((name) => filters.references.length === 0 || filters.references.some((pattern) => familiarMatch(pattern, name)));
      if (shown.length === 0 && ((isParent && !all) || filters.dangling === false || filters.references.length > 0)) continue;
      if (filters.dangling === true && shown.some((name) => !name.digest)) continue;
      const image = this.#image(row, shown);
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
    const items = (image.config.history ?? []).map((entry): HistoryItem => {
      const size = entry.empty_layer ? 0 : this.parts.layers.get(image.chains[layer++] ?? '')?.size ?? 0;
      const created = (entry.created !== undefined && parseRfc3339(entry.created)) || 0n;
      return { Id: '<missing>', Created: Number(created / NS_PER_S), CreatedBy: entry.created_by ?? '', Tags: null, Size: size, Comment: entry.comment ?? '' };
    }).reverse();
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
    const shared = (chains: string[]): number => chains.reduce((sum, chain) => sum + (uses.get(chain)! > 1 ? this.parts.layers.get(chain)?.size ?? 0 : 0), 0);
    return new Map(rows.map((row) => [row.id, shared(row.chains)]));
  }

  /** Bytes of all layers, each counted once. */
  layersSize = (): number => this.parts.layers.totalSize();

  /** A rootfs tar (any compression) becomes a one-layer image. `platform` is `os[/arch[/variant]]`. */
  async import(archive: Readable, options: { repo: string; tag: string; message: string; changes: string[]; platform?: string }): Promise<Image> {
    const target = targetReference(options.repo, options.tag);
    const [os = 'linux', machine = hostArchitecture, variant] = options.platform ? options.platform.toLowerCase().split('/') : [];
    const architecture = machines[machine] ?? machine;
    if (os !== 'linux') throw new InvalidParameter('operating system is not supported');
    const settings = applyChanges({}, options.changes);
    const comment = options.message || 'Imported from -';
    const hold = this.parts.layers.hold();
    try {
      const layer = await this.parts.layers.add(hold, archive, []);
      faultPoint('import.unpacked');
      const created = formatRfc3339(BigInt(this.parts.now()));
      const config: ImageConfig = {
        architecture, ...(variant && { variant }), os, created, comment, config: settings,
        rootfs: { type: 'layers', diff_ids: [layer.diffId] }, history: [{ created, comment }],
      };
      const bytes = Buffer.from(JSON.stringify(config));
      const id = sha256(bytes);
      this.parts.rows.transaction(() => {
        this.#insert(id, bytes, [layer.chainId]);
        if (target) this.#tag(id, target);
        this.#record(id, 'import');
      });
      return this.resolve(id);
    } finally {
      hold.release();
      await this.collect();
    }
  }

  /** A layer upon an image becomes an image. `done` is called with its id when it is made, within the same transaction. */
  async commit(layer: AsyncIterable<Buffer>, commit: Commit, done: (id: string) => void): Promise<string> {
    const parent = this.resolve(commit.parent);
    const hold = this.parts.layers.hold();
    for (const chain of parent.chains) hold.chains.add(chain);
    try {
      const { chainId, diffId } = await this.parts.layers.addTar(hold, layer, parent.chains);
      faultPoint('image-commit.unpacked');
      const isEmpty = diffId === EMPTY_LAYER;
      const bytes = childConfig(JSON.parse(this.configOf(parent.id)!.toString()) as ImageConfig, { ...commit, ...(isEmpty ? {} : { diffId }), created: formatRfc3339(BigInt(this.parts.now())) });
      const id = sha256(bytes);
      this.parts.rows.transaction(() => {
        this.#insert(id, bytes, isEmpty ? parent.chains : [...parent.chains, chainId]);
        this.parts.rows.setParent(id, parent.id);
        if (commit.target) this.#tag(id, commit.target);
        done(id);
      });
      return id;
    } finally {
      hold.release();
      await this.collect();
    }
  }

  /** A docker-archive or OCI layout (any compression, several images). Yields Docker's lines, without a newline: `Loaded image: x:1`. */
  async *load(archive: Readable): AsyncGenerator<string> {
    const { head, all } = await peek(archive);
    // Whatever came before the fault: the sender may listen for the answer only when it has sent all.
    const staging = await Staging.spool(decompress(all, detectCompression(head)), this.#staging()).finally(() => archive.resume());
    const hold = this.parts.layers.hold();
    try {
      faultPoint('load.spooled');
      const images = await bundledImages(staging, hostArchitecture);
      let named = false;
      for (const image of images) {
        await this.#loadLayers(staging, image, hold);
        const lines = this.#loadImage(image);
        named = lines.length > 0;
        yield* lines;
      }
      this.#linkParents(images);
      // Docker looks at the last image only.
      if (!named) for (const { id } of images) yield `Loaded image ID: ${id}`;
    } finally {
      hold.release();
      await staging.discard();
      await this.collect();
    }
  }

  /** The archive of some images, with the names that were asked for: all tags of a repository where no tag is given. @throws NotFound */
  save(references: string[]): AsyncGenerator<Buffer> {
    const asked = new Map<string, Reference[]>();
    for (const text of references) for (const [id, name] of this.#asked(text)) {
      const names = asked.get(id) ?? [];
      asked.set(id, name && !names.some((known) => canonicalString(known) === canonicalString(name)) ? [...names, name] : names);
    }
    const images = [...asked].map(([id, names]): Saved => {
      const { config, parent, created, chains } = this.resolve(id);
      if (config.rootfs.diff_ids.length === 0) throw new SystemFault('empty export - not implemented');
      return { id, configBytes: this.configOf(id)!, names, created: BigInt(created), parent: asked.has(parent) ? parent : '', layers: chains.map((chain) => this.parts.layers.get(chain) ?? missing(chain)) };
    });
    return this.#save(images);
  }

  async *#save(images: Saved[]): AsyncGenerator<Buffer> {
    const hold = this.parts.layers.hold();
    for (const { layers } of images) for (const { chainId } of layers) hold.chains.add(chainId);
    try {
      yield* saveImages(images, (layer) => this.parts.layers.archive(layer));
      this.parts.rows.transaction(() => images.forEach(({ id }) => this.#record(id, 'save')));
    } finally {
      hold.release();
      await this.collect();
    }
  }

  // By repository all its tags; else what it names, with its name if that is a tag.
  #asked(text: string): [string, Reference?][] {
    const reference = parseAnyReference(text);
    const absent = (): never => {
      throw new NotFound('reference does not exist');
    };
    if ('id' in reference) return [[this.parts.rows.byId(reference.id)?.id ?? absent()]];
    if (!reference.tag && !reference.digest) {
      const repository = repositoryOf(reference);
      const named = [...this.parts.rows.allNames()].flatMap(([id, names]) => names.map(parseReference).filter((name) => repositoryOf(name) === repository).map((name): [string, Reference?] => [id, name.digest ? undefined : name]));
      if (named.length > 0) return named;
      const found = this.#find(text);
      if (!found) throw new NotFound(`No such image: ${text}`);
      return [[found.id]];
    }
    const id = this.parts.rows.idByName(storedName(reference)) ?? (reference.digest || familiarName(reference) !== 'sha256' ? absent() : this.resolve(text).id);
    return [[id, reference.digest ? undefined : reference]];
  }

  /** Removes images that nothing needs: those without a name, or all that no container uses. @throws InvalidParameter for bad filters, Conflict when it is being done */
  async prune(filters: ReadonlyMap<string, readonly string[]>, { dangling }: { dangling: boolean }, signal?: AbortSignal): Promise<{ deleted: Deletion[]; reclaimed: number }> {
    const matches = pruneMatcher(filters, ['until', 'label', 'label!', 'dangling']);
    if (this.#pruning) throw new Conflict('a prune operation is already running');
    this.#pruning = true;
    try {
      const sizes = this.parts.layers.sizes();
      const deleted: Deletion[] = [];
      for (const id of this.#prunable(matches, { dangling, dated: filters.has('until') })) {
        if (signal?.aborted) break;
        const names = this.#references(id);
        if (dangling && names.some((name) => !name.digest)) continue;
        for (const each of names.length > 0 ? names.map(familiarString) : [id.slice('sha256:'.length)]) {
          deleted.push(...(await this.remove(each, { force: false, noprune: false }).catch((error: unknown) => refused(error))));
        }
      }
      const reclaimed = deleted.reduce((sum, line) => sum + ('Deleted' in line ? sizes.get(line.Deleted) ?? 0 : 0), 0);
      this.parts.events.record({ type: 'image', action: 'prune', actor: '', attributes: { reclaimed: String(reclaimed) }, time: this.parts.now() });
      return { deleted, reclaimed };
    } finally {
      this.#pruning = false;
    }
  }

  // Of images that others are made of, only those with a name, and never when the nameless alone are meant.
  #prunable(matches: (thing: Prunable) => boolean, { dangling, dated }: { dangling: boolean; dated: boolean }): string[] {
    const { rows } = this.parts;
    return rows.all().filter((row) => {
      const isParent = rows.childrenOf(row.id).length > 0;
      if (isParent && (dangling || rows.namesOf(row.id).length === 0)) return false;
      const { created, config } = this.#image(row);
      // Of one without a date nobody can tell whether it is old enough.
      if (dated && config.created === undefined) return false;
      return matches({ created, labels: config.config?.Labels ?? {} });
    }).map((row) => row.id);
  }

  async #loadLayers(staging: Staging, image: Bundled, hold: Hold): Promise<void> {
    const chains = chainIds(image.config.rootfs.diff_ids);
    for (const [i, expected] of image.config.rootfs.diff_ids.entries()) {
      try {
        await this.parts.layers.addFile(hold, () => staging.file(image.layers[i]!), chains.slice(0, i), expected);
      } catch (error) {
        if (!(error instanceof DigestMismatch)) throw error;
        throw new InvalidParameter(`invalid diffID for layer ${i}: expected "${error.expected}", got "${error.actual}"`);
      }
    }
  }

  #loadImage({ id, config, configBytes, names }: Bundled): string[] {
    const references = names.map((name) => {
      const reference = parseReference(name);
      if (!reference.tag || reference.digest) throw new InvalidParameter(`invalid tag "${name}"`);
      return reference;
    });
    const lines: string[] = [];
    this.parts.rows.transaction(() => {
      this.#insert(id, configBytes, chainIds(config.rootfs.diff_ids));
      for (const reference of references) {
        const previous = this.parts.rows.idByName(storedName(reference));
        if (previous !== undefined && previous !== id) lines.push(`The image ${familiarString(reference)} already exists, renaming the old one with ID ${previous} to empty string`);
        this.#name(id, reference);
        lines.push(`Loaded image: ${familiarString(reference)}`);
      }
      this.#record(id, 'load');
    });
    return lines;
  }

  /** The image of a name that is stored so: `repository@sha256:…` of one that was pulled. */
  named(reference: Reference): Image | undefined {
    const id = this.parts.rows.idByName(storedName(reference));
    const row = id === undefined ? undefined : this.parts.rows.byId(id);
    return row && this.#image(row);
  }

  /** All names that a repository's images have, with a tag. */
  tagsOf(repository: string): { reference: Reference; id: string }[] {
    return [...this.parts.rows.allNames()].flatMap(([id, names]) => names.map((name) => ({ reference: parseReference(name), id }))).filter(({ reference }) => reference.tag !== undefined && repositoryOf(reference) === repository);
  }

  /**
   * Takes in an image whose layers are here (held by the caller) under the names given, or gives an image that is here those names.
   * Whether that changed what the first name means. `also` is part of the same transaction.
   */
  adopt(image: { id: string } | { config: Buffer; diffIds: string[] }, names: Reference[], also: (id: string) => void = () => undefined): { id: string; changed: boolean } {
    const id = 'id' in image ? image.id : sha256(image.config);
    return this.parts.rows.transaction(() => {
      const changed = this.parts.rows.idByName(storedName(names[0]!)) !== id;
      if ('config' in image) this.#insert(id, image.config, chainIds(image.diffIds));
      for (const name of names) this.parts.rows.setName(storedName(name), id);
      also(id);
      return { id, changed };
    });
  }

  /** Tells of an image that came from or went to a registry. */
  recordTransfer(id: string, action: 'pull' | 'push', reference: Reference): void {
    const row = this.parts.rows.byId(id);
    const labels = row ? (JSON.parse(row.config.toString()) as ImageConfig).config?.Labels ?? {} : {};
    this.parts.events.record({ type: 'image', action, actor: familiarString(reference), attributes: { ...labels, name: familiarName(reference) }, time: this.parts.now() });
  }

  // Docker's archives say which image another was built upon, where both are in the archive.
  #linkParents(images: Bundled[]): void {
    const ids = new Set(images.map(({ id }) => id));
    for (const { id, parent } of images) {
      const isBelow = (other: ImageRow): boolean => other.chains.every((chain, i) => this.parts.rows.byId(id)?.chains[i] === chain);
      const found = parent !== id && ids.has(parent) ? this.parts.rows.byId(parent) : undefined;
      if (found && isBelow(found)) this.parts.rows.setParent(id, parent);
    }
  }

  /** @throws InvalidParameter for the new name, NotFound for the image */
  async tag(reference: string, repo: string, tag: string): Promise<void> {
    const target = targetReference(repo, tag);
    if (!target) throw new InvalidParameter('invalid reference format');
    const { id } = this.resolve(reference);
    this.parts.rows.transaction(() => this.#tag(id, target));
  }

  /** Docker's lines in Docker's order. @throws NotFound, Conflict */
  async remove(reference: string, options: { force: boolean; noprune: boolean }): Promise<Deletion[]> {
    const { rows, layers, usersOf } = this.parts;
    const { id } = this.resolve(reference);
    const known: Known = { referencesOf: this.#references, childrenOf: rows.childrenOf, parentOf: (image) => rows.byId(image)?.parent ?? '', usersOf };
    const steps = planRemoval(id, reference, options, known);
    const { lines, retired } = rows.transaction(() => {
      const done = steps.map((step) => this.#take(step));
      return { lines: done.flatMap((each) => each.lines), retired: done.flatMap((each) => each.retired) };
    });
    await layers.takeAway(retired);
    return lines;
  }

  #take(step: Step): { lines: Deletion[]; retired: ReturnType<Layers['retire']> } {
    const { rows, layers, usersOf } = this.parts;
    if ('untag' in step) {
      rows.removeName(canonicalString(step.untag));
      if (!step.silent) this.#record(step.image, 'untag');
      return { lines: [untaggedLine(step.untag)], retired: [] };
    }
    const chains = rows.byId(step.delete)?.chains ?? [];
    const isUsed = usersOf(step.delete).length > 0;
    rows.delete(step.delete);
    this.#record(step.delete, 'delete');
    // A container made from it goes on: its layers stay until `collect` finds that it is gone.
    const retired = isUsed ? [] : layers.retire(this.#needed(), chains);
    return { lines: [{ Deleted: step.delete }, ...retired.map(({ chainId }) => ({ Deleted: chainId }))], retired };
  }

  /** Takes away layers that neither an image nor a container needs any more. To be called when a container is gone whose image was removed before it. */
  async collect(): Promise<void> {
    const { layers, rows } = this.parts;
    const retired = rows.transaction(() => layers.retire(this.#needed()));
    await layers.takeAway(retired);
  }

  /** At start, before anything else: finishes or undoes what an earlier daemon left half done. */
  async sweep(): Promise<void> {
    await this.parts.layers.sweep();
    for (const name of this.#leftovers) await rm(join(this.#staging(), name), { recursive: true, force: true });
    await this.collect();
  }

  #needed(): (chain: string) => boolean {
    const needed = new Set(this.parts.rows.all().flatMap((row) => row.chains));
    let claimed: ((chain: string) => boolean) | undefined;
    return (chain) => needed.has(chain) || (claimed ??= this.#claimed())(chain);
  }

  // What a container lies upon and cannot be read: then every layer may be it.
  #claimed(): (chain: string) => boolean {
    try {
      const claimed = this.parts.claimed();
      return (chain) => claimed.has(chain);
    } catch {
      return () => true;
    }
  }

  #insert(id: string, config: Buffer, chains: string[]): void {
    const size = chains.reduce((sum, chain) => sum + (this.parts.layers.get(chain)?.size ?? 0), 0);
    this.parts.rows.insert({ id, config, created: this.parts.now(), size, chains });
  }

  #tag(id: string, reference: Reference): void {
    this.#name(id, reference);
    this.#record(id, 'tag', familiarString(reference));
  }

  #name(id: string, reference: Reference): void {
    this.parts.rows.setName(storedName(reference), id);
    this.parts.rows.setTagged(id, this.parts.now());
  }

  // Docker gives the id for the name in all but a tag's event, and no labels of an image that is gone.
  #record(id: string, action: string, name = id): void {
    const row = this.parts.rows.byId(id);
    const labels = row ? (JSON.parse(row.config.toString()) as ImageConfig).config?.Labels ?? {} : {};
    this.parts.events.record({ type: 'image', action, actor: id, attributes: { ...labels, name }, time: this.parts.now() });
  }

  #staging(): string {
    return join(this.parts.directory, 'tmp');
  }
}

const storedName = (reference: Reference): string => canonicalString(tagNameOnly(withoutTagIfDigest(reference)));

// An image that is in use stays, whatever it was that wanted it gone.
function refused(error: unknown): Deletion[] {
  if (error instanceof Conflict || error instanceof NotFound) return [];
  throw error;
}

function missing(chain: string): never {
  throw new SystemFault(`layer ${chain} is missing`);
}

function hasLabels({ config }: Image, wanted: string[]): boolean {
  const labels = config.config?.Labels ?? {};
  return wanted.every((label) => {
    const [key = '', value] = label.split(/=(.*)/s);
    return Object.hasOwn(labels, key) && (value === undefined || labels[key] === value);
  });
}
