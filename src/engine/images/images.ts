/**
 * Operations on images: import, commit, load, save, tag, remove, prune. Lookup is in catalog.ts, the layer store in
 * layers.ts.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { faultPoint } from '../../sys/fault.ts';
import { Conflict, InvalidParameter } from '../../model/errors.ts';
import { Catalog, type ImagesDeps } from './catalog.ts';
import { applyChanges, type ImageSettings } from './config-changes.ts';
import { childConfig, EMPTY_LAYER } from './child-config.ts';
import { decompress, detectCompression, peek } from './compression.ts';
import { removeTree } from '../remove-tree.ts';
import { parseConfig } from './config-form.ts';
import { sha256 } from './digest.ts';
import { formatRfc3339 } from './go-time.ts';
import { hostArchitecture } from '../architecture.ts';
import type { Image, ImageConfig } from './image.ts';
import type { Layer } from './layers.ts';
import { loadImages } from './load.ts';
import { pruneImages } from './prune.ts';
import { parsePlatform } from './platform.ts';
import type { Platform } from './registry/manifest.ts';
import { canonicalString, type Reference, targetReference } from './reference.ts';
import { planRemoval, untaggedLine, type Deletion, type ImageGraph, type Step } from './removal.ts';
import { savedImages, saveImages, type Saved } from './save.ts';
import { Staging } from './staging.ts';

export interface Commit {
  /** Id of the container's image. */
  parent: string;
  container: string;
  containerConfig: ImageSettings;
  config: ImageSettings;
  author: string;
  comment: string;
  target?: Reference;
}

export class Images extends Catalog {
  #pruning = false;
  /** Spool directories of an earlier daemon. Listed before the first request, which may create new ones. */
  readonly #staleSpools: string[];

  constructor(deps: ImagesDeps) {
    super(deps);
    this.#staleSpools = existsSync(this.#staging()) ? readdirSync(this.#staging()) : [];
  }

  /**
   * Creates a one-layer image from a rootfs tar in any supported compression.
   * @param options.platform `os[/arch[/variant]]`
   * @param signal aborts the unpacking
   */
  async import(
    archive: Readable,
    options: { repo: string; tag: string; message: string; changes: string[]; platform?: string },
    signal?: AbortSignal,
  ): Promise<Image> {
    const target = targetReference(options.repo, options.tag);
    const { os, architecture, variant } = parsePlatform(options.platform || `linux/${hostArchitecture}`);
    if (os !== 'linux') throw new InvalidParameter('operating system is not supported');
    const settings = applyChanges({}, options.changes);
    const comment = options.message || 'Imported from -';
    const pin = this.deps.layers.pin();
    try {
      const layer = await this.deps.layers.add(pin, archive, [], signal);
      faultPoint('import.unpacked');
      const created = formatRfc3339(BigInt(this.deps.now()));
      const config: ImageConfig = {
        architecture,
        ...(variant && { variant }),
        os,
        created,
        comment,
        config: settings,
        rootfs: { type: 'layers', diff_ids: [layer.diffId] },
        history: [{ created, comment }],
      };
      const bytes = Buffer.from(JSON.stringify(config));
      const id = sha256(bytes);
      this.deps.rows.transaction(() => {
        this.insertImage(id, bytes, [layer.chainId]);
        if (target) this.tagImage(id, target);
        this.recordEvent(id, 'import');
      });
      return this.resolve(id);
    } finally {
      pin.release();
      await this.collect();
    }
  }

  /**
   * Creates an image from a parent image and one more layer. Calls `done` with its id in the same transaction.
   * @throws NotFound when the parent was removed
   */
  async commit(layer: AsyncIterable<Buffer>, commit: Commit, done: (id: string) => void): Promise<string> {
    const parent = this.resolve(commit.parent);
    const pin = this.deps.layers.pin();
    for (const chain of parent.chains) pin.chains.add(chain);
    try {
      const { chainId, diffId } = await this.deps.layers.addTar(pin, layer, parent.chains);
      faultPoint('image-commit.unpacked');
      const isEmpty = diffId === EMPTY_LAYER;
      const bytes = childConfig(parseConfig(this.configOf(parent.id)!), {
        ...commit,
        ...(isEmpty ? {} : { diffId }),
        created: formatRfc3339(BigInt(this.deps.now())),
      });
      const id = sha256(bytes);
      this.deps.rows.transaction(() => {
        this.insertImage(id, bytes, isEmpty ? parent.chains : [...parent.chains, chainId]);
        this.deps.rows.setParent(id, parent.id);
        if (commit.target) this.tagImage(id, commit.target);
        done(id);
      });
      return id;
    } finally {
      pin.release();
      await this.collect();
    }
  }

  /**
   * Loads all images of a docker-archive or OCI layout in any supported compression. Yields Docker's lines without a
   * newline: `Loaded image: x:1`.
   * @param signal aborts between and within layers; images that are complete by then stay
   */
  async *load(archive: Readable, signal?: AbortSignal): AsyncGenerator<string> {
    const { head, all, discard } = await peek(archive);
    const plain = decompress(all, detectCompression(head));
    const staging = await Staging.spool(plain, this.#staging(), signal).finally(discard);
    const pin = this.deps.layers.pin();
    try {
      faultPoint('load.spooled');
      yield* loadImages(this, this.deps, { staging, pin, signal });
    } finally {
      pin.release();
      await staging.discard();
      await this.collect();
    }
  }

  /**
   * Yields an archive of images under the requested names; a repository without a tag selects all of its tags.
   * @throws NotFound
   */
  save(references: string[], platform?: Platform): AsyncGenerator<Buffer> {
    return this.#save(savedImages(this, this.deps, references, platform));
  }

  async *#save(images: Saved[]): AsyncGenerator<Buffer> {
    const pin = this.deps.layers.pin();
    for (const { layers } of images) for (const { chainId } of layers) pin.chains.add(chainId);
    try {
      yield* saveImages(images, (layer) => this.deps.layers.archive(layer));
      this.deps.rows.transaction(() => images.forEach(({ id }) => this.recordEvent(id, 'save')));
    } finally {
      pin.release();
      await this.collect();
    }
  }

  /**
   * Removes images without a name (`dangling`), or all that no container uses.
   * @throws InvalidParameter for bad filters, Conflict while another prune runs
   */
  async prune(
    filters: ReadonlyMap<string, readonly string[]>,
    options: { dangling: boolean },
    signal?: AbortSignal,
  ): Promise<{ deleted: Deletion[]; reclaimed: number }> {
    if (this.#pruning) throw new Conflict('a prune operation is already running');
    this.#pruning = true;
    try {
      return await pruneImages(this, this.deps, { filters, ...options }, signal);
    } finally {
      this.#pruning = false;
    }
  }

  /** @throws InvalidParameter for a bad `repo` or `tag`, NotFound */
  async tag(reference: string, repo: string, tag: string): Promise<void> {
    const target = targetReference(repo, tag);
    if (!target) throw new InvalidParameter('invalid reference format');
    const { id } = this.resolve(reference);
    this.deps.rows.transaction(() => this.tagImage(id, target));
  }

  /** Returns what was untagged and deleted, in Docker's order. @throws NotFound, Conflict */
  async remove(reference: string, options: { force: boolean; noprune: boolean }): Promise<Deletion[]> {
    const { rows, layers, usersOf } = this.deps;
    const { id } = this.resolve(reference);
    const graph: ImageGraph = {
      referencesOf: this.references,
      childrenOf: rows.childrenOf,
      parentOf: (image) => rows.byId(image)?.parent ?? '',
      usersOf,
    };
    const steps = planRemoval(id, reference, options, graph);
    const done = rows.transaction(() => steps.map((step) => this.#perform(step)));
    await layers.deleteRetired(done.flatMap(({ retired }) => retired));
    return done.flatMap(({ lines }) => lines);
  }

  #perform(step: Step): { lines: Deletion[]; retired: Layer[] } {
    const { rows, layers, usersOf } = this.deps;
    if ('untag' in step) {
      rows.removeName(canonicalString(step.untag));
      if (!step.silent) this.recordEvent(step.image, 'untag');
      return { lines: [untaggedLine(step.shown ?? step.untag)], retired: [] };
    }
    const chains = rows.byId(step.delete)?.chains ?? [];
    const isUsed = usersOf(step.delete).length > 0;
    rows.delete(step.delete);
    this.recordEvent(step.delete, 'delete');
    // The layers of an image with a container stay until `collect` runs after the container's removal.
    const retired = isUsed ? [] : layers.retire(this.#layerUse(), chains);
    return { lines: [{ Deleted: step.delete }, ...retired.map(({ chainId }) => ({ Deleted: chainId }))], retired };
  }

  /** Deletes layers that no image and no container uses. Call it after removing a container whose image is gone. */
  async collect(): Promise<void> {
    const { layers, rows } = this.deps;
    const retired = rows.transaction(() => layers.retire(this.#layerUse()));
    await layers.deleteRetired(retired);
  }

  /** At start, before the first request: finishes or undoes what an earlier daemon left incomplete. */
  async sweep(): Promise<void> {
    try {
      await this.deps.layers.sweep();
    } finally {
      for (const name of this.#staleSpools) await removeTree(join(this.#staging(), name));
      await this.collect();
    }
  }

  // Whether a layer is in use. Reads the containers' records only for layers that no image uses.
  #layerUse(): (chain: string) => boolean {
    const rows = this.deps.rows.all();
    // Those of a damaged image are unknown.
    if (rows.some(({ chainsLost }) => chainsLost)) return () => true;
    const inImages = new Set(rows.flatMap((row) => row.chains));
    let isBelowContainer: ((chain: string) => boolean) | undefined;
    return (chain) => {
      if (inImages.has(chain)) return true;
      isBelowContainer ??= this.#containerLayerUse();
      return isBelowContainer(chain);
    };
  }

  // If a container's record is unreadable, any layer may be in use.
  #containerLayerUse(): (chain: string) => boolean {
    try {
      const chains = this.deps.chainsInUse();
      return (chain) => chains.has(chain);
    } catch {
      return () => true;
    }
  }

  #staging(): string {
    return join(this.deps.directory, 'tmp');
  }
}
