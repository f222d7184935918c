/**
 * Images and what is done with them: import, commit, load, save, tag, remove, prune. What there is, is in catalog.ts;
 * what they are made of, in layers.ts.
 */
import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { faultPoint } from '../../sys/fault.ts';
import { Conflict, InvalidParameter } from '../../model/errors.ts';
import { Catalog, type ImageParts } from './catalog.ts';
import { applyChanges, type ImageSettings } from './changes.ts';
import { childConfig, EMPTY_LAYER } from './child.ts';
import { decompress, detectCompression, peek } from './compression.ts';
import { parseConfig } from './config-form.ts';
import { sha256 } from './digest.ts';
import { formatRfc3339 } from './go-time.ts';
import { hostArchitecture, machines } from '../architecture.ts';
import type { Image, ImageConfig } from './image.ts';
import type { Layers } from './layers.ts';
import { loadImages } from './load.ts';
import { pruneImages } from './prune.ts';
import { canonicalString, type Reference, targetReference } from './reference.ts';
import { planRemoval, untaggedLine, type Known, type Step } from './removal.ts';
import { savedImages, saveImages, type Saved } from './save.ts';
import { Staging } from './staging.ts';

export type Deletion = { Untagged: string } | { Deleted: string };

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

export class Images extends Catalog {
  #pruning = false;
  /** Spooled by an earlier daemon. Known before the first request: what comes later is ours. */
  readonly #leftovers: string[];

  constructor(parts: ImageParts) {
    super(parts);
    this.#leftovers = existsSync(this.#staging()) ? readdirSync(this.#staging()) : [];
  }

  /** A rootfs tar (any compression) becomes a one-layer image. `platform` is `os[/arch[/variant]]`. */
  async import(
    archive: Readable,
    options: { repo: string; tag: string; message: string; changes: string[]; platform?: string },
  ): Promise<Image> {
    const target = targetReference(options.repo, options.tag);
    const [os = 'linux', machine = hostArchitecture, variant] = options.platform
      ? options.platform.toLowerCase().split('/')
      : [];
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
      this.parts.rows.transaction(() => {
        this.insertImage(id, bytes, [layer.chainId]);
        if (target) this.tagImage(id, target);
        this.recordEvent(id, 'import');
      });
      return this.resolve(id);
    } finally {
      hold.release();
      await this.collect();
    }
  }

  /**
   * A layer upon an image becomes an image. `done` is called with its id when it is made, within the same transaction.
   */
  async commit(layer: AsyncIterable<Buffer>, commit: Commit, done: (id: string) => void): Promise<string> {
    const parent = this.resolve(commit.parent);
    const hold = this.parts.layers.hold();
    for (const chain of parent.chains) hold.chains.add(chain);
    try {
      const { chainId, diffId } = await this.parts.layers.addTar(hold, layer, parent.chains);
      faultPoint('image-commit.unpacked');
      const isEmpty = diffId === EMPTY_LAYER;
      const bytes = childConfig(parseConfig(this.configOf(parent.id)!), {
        ...commit,
        ...(isEmpty ? {} : { diffId }),
        created: formatRfc3339(BigInt(this.parts.now())),
      });
      const id = sha256(bytes);
      this.parts.rows.transaction(() => {
        this.insertImage(id, bytes, isEmpty ? parent.chains : [...parent.chains, chainId]);
        this.parts.rows.setParent(id, parent.id);
        if (commit.target) this.tagImage(id, commit.target);
        done(id);
      });
      return id;
    } finally {
      hold.release();
      await this.collect();
    }
  }

  /**
   * A docker-archive or OCI layout (any compression, several images). Yields Docker's lines, without a newline: `Loaded
   * image: x:1`. `signal`: nobody waits for it any more.
   */
  async *load(archive: Readable, signal?: AbortSignal): AsyncGenerator<string> {
    const { head, all } = await peek(archive);
    // Whatever came before the fault: the sender may listen for the answer only when it has sent all.
    const staging = await Staging.spool(decompress(all, detectCompression(head)), this.#staging()).finally(() =>
      archive.resume(),
    );
    const hold = this.parts.layers.hold();
    try {
      faultPoint('load.spooled');
      yield* loadImages(this, this.parts, { staging, hold, signal });
    } finally {
      hold.release();
      await staging.discard();
      await this.collect();
    }
  }

  /**
   * The archive of some images, with the names that were asked for: all tags of a repository where no tag is given.
   * @throws NotFound
   */
  save(references: string[]): AsyncGenerator<Buffer> {
    return this.#save(savedImages(this, this.parts, references));
  }

  async *#save(images: Saved[]): AsyncGenerator<Buffer> {
    const hold = this.parts.layers.hold();
    for (const { layers } of images) for (const { chainId } of layers) hold.chains.add(chainId);
    try {
      yield* saveImages(images, (layer) => this.parts.layers.archive(layer));
      this.parts.rows.transaction(() => images.forEach(({ id }) => this.recordEvent(id, 'save')));
    } finally {
      hold.release();
      await this.collect();
    }
  }

  /**
   * Removes images that nothing needs: those without a name, or all that no container uses. @throws InvalidParameter
   * for bad filters, Conflict when it is being done
   */
  async prune(
    filters: ReadonlyMap<string, readonly string[]>,
    options: { dangling: boolean },
    signal?: AbortSignal,
  ): Promise<{ deleted: Deletion[]; reclaimed: number }> {
    if (this.#pruning) throw new Conflict('a prune operation is already running');
    this.#pruning = true;
    try {
      return await pruneImages(this, this.parts, filters, options, signal);
    } finally {
      this.#pruning = false;
    }
  }

  /** @throws InvalidParameter for the new name, NotFound for the image */
  async tag(reference: string, repo: string, tag: string): Promise<void> {
    const target = targetReference(repo, tag);
    if (!target) throw new InvalidParameter('invalid reference format');
    const { id } = this.resolve(reference);
    this.parts.rows.transaction(() => this.tagImage(id, target));
  }

  /** Docker's lines in Docker's order. @throws NotFound, Conflict */
  async remove(reference: string, options: { force: boolean; noprune: boolean }): Promise<Deletion[]> {
    const { rows, layers, usersOf } = this.parts;
    const { id } = this.resolve(reference);
    const known: Known = {
      referencesOf: this.references,
      childrenOf: rows.childrenOf,
      parentOf: (image) => rows.byId(image)?.parent ?? '',
      usersOf,
    };
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
      if (!step.silent) this.recordEvent(step.image, 'untag');
      return { lines: [untaggedLine(step.shown ?? step.untag)], retired: [] };
    }
    const chains = rows.byId(step.delete)?.chains ?? [];
    const isUsed = usersOf(step.delete).length > 0;
    rows.delete(step.delete);
    this.recordEvent(step.delete, 'delete');
    // A container made from it goes on: its layers stay until `collect` finds that it is gone.
    const retired = isUsed ? [] : layers.retire(this.#needed(), chains);
    return { lines: [{ Deleted: step.delete }, ...retired.map(({ chainId }) => ({ Deleted: chainId }))], retired };
  }

  /**
   * Takes away layers that neither an image nor a container needs any more. To be called when a container is gone whose
   * image was removed before it.
   */
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

  #staging(): string {
    return join(this.parts.directory, 'tmp');
  }
}
