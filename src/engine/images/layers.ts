/** The layers that images share: directories that overlayfs lays over each other, each unpacked once. */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { LayerRow, LayerRows } from '../../store/layers.ts';
import { faultPoint } from '../../sys/fault.ts';
import type { Fd } from '../../sys/libc.ts';
import { InvalidParameter, SystemFault } from '../../model/errors.ts';
import type { Archives } from './archive.ts';
import { detectCompression, MAGIC_LENGTH, peek, type Compression } from './compression.ts';
import { chainId } from './digest.ts';
import { removeTree } from '../remove-tree.ts';
import { inheritDirectories } from './inherit.ts';
import { REPLACED } from './tar-split.ts';
import type { Unpacker } from './unpack.ts';

export type Layer = LayerRow;

/** Keeps layers that no image names yet: nobody takes them away before it is let go. */
export interface Hold {
  readonly chains: Set<string>;
  release(): void;
}

/** A layer that is being unpacked for whoever wants it. */
interface Coming {
  done: Promise<Layer>;
  /** How many wait for it. */
  waiting: number;
  abort: AbortController;
}

interface Options {
  /** The diff ID that it must have. */
  expected?: string;
  signal?: AbortSignal;
}

/** Short, so that the mount options of many layers fit into a page. */
const NAME_BYTES = 5;
/** Docker's own limit. An image says nothing of how long its list of layers may be. */
const MAX_DEPTH = 125;

export class Layers {
  readonly #root: string;
  readonly #holds = new Set<Hold>();
  readonly #leftOver: Layer[];
  /** Being unpacked, by the chain ID that they must get. */
  readonly #coming = new Map<string, Coming>();

  /** `images` is the directory of all that belongs to images. */
  constructor(
    private readonly rows: LayerRows,
    images: string,
    private readonly unpacker: Unpacker,
    private readonly archives: Archives,
  ) {
    this.#root = join(images, 'layers');
    // Looked for now: what is half made when `sweep` runs may be this daemon's own.
    this.#leftOver = rows.all().filter(({ phase }) => phase !== 'ready');
    mkdirSync(this.#root, { recursive: true, mode: 0o710 });
  }

  get = (chain: string): Layer | undefined => this.rows.byChain(chain);

  /** The layer's files. */
  directory = (layer: Layer): string => join(this.#root, layer.directory, 'diff');

  /** Directories for overlayfs, topmost first. @throws SystemFault when one is missing */
  lower(chains: string[]): string[] {
    return chains.map((chain) => this.directory(this.get(chain) ?? missing(chain))).reverse();
  }

  /**
   * The layer's archive, byte for byte as it came; not compressed. Returns its digest (the diff ID) and length. @throws
   * SystemFault when that cannot be had
   */
  archive(layer: Layer): ReturnType<Archives['layer']> {
    return this.archives.layer(this.directory(layer), join(this.#root, layer.directory), layer.diffId);
  }

  /** Bytes of all layers, each counted once. */
  totalSize = (): number => this.rows.all().reduce((sum, { phase, size }) => sum + (phase === 'ready' ? size : 0), 0);

  /** Bytes of each layer that is there, by chain ID. */
  sizes = (): Map<string, number> =>
    new Map(
      this.rows
        .all()
        .filter(({ phase }) => phase === 'ready')
        .map(({ chainId, size }) => [chainId, size]),
    );

  hold(): Hold {
    const hold: Hold = { chains: new Set(), release: () => void this.#holds.delete(hold) };
    this.#holds.add(hold);
    return hold;
  }

  /**
   * Unpacks the archive in a file onto the layers `below` (chain IDs, lowest first), unless that layer is there: then
   * the file need not be.
   * Those who want the same layer share the work; it ends with the last of them, and leaves nothing then.
   * @throws DigestMismatch
   */
  async addFile(
    hold: Hold,
    file: () => string,
    below: string[],
    expected: string,
    signal?: AbortSignal,
  ): Promise<Layer> {
    const chain = chainId(below.at(-1) ?? '', expected);
    hold.chains.add(chain);
    signal?.throwIfAborted();
    // Another's file may turn out bad, or be given up: then one's own counts.
    for (let coming = this.#coming.get(chain); coming; coming = this.#coming.get(chain)) {
      await awaited(coming, signal).catch(() => undefined);
      signal?.throwIfAborted();
    }
    return this.get(chain) ?? awaited(this.#begin(hold, file(), below, expected), signal);
  }

  #begin(hold: Hold, file: string, below: string[], expected: string): Coming {
    const chain = chainId(below.at(-1) ?? '', expected);
    const fd = openSync(file, 'r');
    const abort = new AbortController();
    const unpack = async (): Promise<Layer> => {
      try {
        return await this.#unpack(hold, fd, compressionOf(fd), below, { expected, signal: abort.signal });
      } finally {
        this.#coming.delete(chain);
        closeSync(fd);
      }
    };
    const coming = { done: Promise.resolve().then(unpack), waiting: 0, abort };
    this.#coming.set(chain, coming);
    return coming;
  }

  /** Unpacks an archive that is being received. */
  async add(hold: Hold, archive: Readable, below: string[]): Promise<Layer> {
    const { head, all } = await peek(archive);
    return this.#unpack(hold, all, detectCompression(head), below);
  }

  /** Unpacks an archive of our own making: whatever its first bytes are, it is not compressed. */
  addTar = (hold: Hold, archive: AsyncIterable<Buffer>, below: string[]): Promise<Layer> =>
    this.#unpack(hold, archive, 'none', below);

  async #unpack(
    hold: Hold,
    archive: AsyncIterable<Buffer> | Fd,
    compression: Compression,
    below: string[],
    { expected, signal }: Options = {},
  ): Promise<Layer> {
    if (below.length >= MAX_DEPTH) throw new InvalidParameter('max depth exceeded');
    const directory = randomBytes(NAME_BYTES).toString('hex');
    this.rows.insertUnpacking(directory);
    faultPoint('layer.intent');
    try {
      const home = join(this.#root, directory);
      const files = join(home, 'diff');
      mkdirSync(home, { mode: 0o710 });
      mkdirSync(files, { mode: 0o755 });
      faultPoint('layer.directory');
      const { diffId, size, archiveSize, implicit } = await this.unpacker.unpack(archive, compression, {
        directory: files,
        home,
        signal,
      });
      faultPoint('layer.unpacked');
      if (expected !== undefined && diffId !== expected) throw new DigestMismatch(expected, diffId);
      await inheritDirectories(files, implicit, this.lower(below));
      if ((await stat(join(home, REPLACED))).size === 0) await rm(join(home, REPLACED));
      return this.#ready(hold, {
        chainId: chainId(below.at(-1) ?? '', diffId),
        diffId,
        parent: below.at(-1) ?? '',
        directory,
        size,
        archiveSize,
      });
    } catch (error) {
      await this.#takeAway(directory);
      signal?.throwIfAborted();
      throw error;
    }
  }

  // The same layer may have come by another way meanwhile.
  async #ready(hold: Hold, row: Omit<Layer, 'phase'>): Promise<Layer> {
    hold.chains.add(row.chainId);
    const known = this.get(row.chainId);
    if (known) {
      await this.#takeAway(row.directory);
      return known;
    }
    this.rows.ready(row);
    faultPoint('layer.ready');
    return { ...row, phase: 'ready' };
  }

  /**
   * Marks those of `chains` (default: of all layers) that nothing needs for removal, topmost first; `takeAway` is to
   * follow, once that is committed.
   * @param needed what images and containers are made of
   */
  retire(needed: (chain: string) => boolean, chains?: string[]): Layer[] {
    const held = (chain: string): boolean => [...this.#holds].some((hold) => hold.chains.has(chain));
    const candidates = (chains?.map(this.get) ?? this.rows.all()).filter(
      (layer): layer is Layer => layer?.phase === 'ready',
    );
    const unneeded = candidates.filter(({ chainId: chain }) => !needed(chain) && !held(chain)).reverse();
    for (const { directory } of unneeded) this.rows.setRemoving(directory);
    return unneeded;
  }

  async takeAway(layers: Layer[]): Promise<void> {
    for (const { directory } of layers) await this.#takeAway(directory);
  }

  /** At start: takes away what an earlier daemon left half made or half gone. */
  sweep = (): Promise<void> => this.takeAway(this.#leftOver);

  // Its row says already that it is not ready. The files go first: on a full disk there is no room for a row before.
  async #takeAway(directory: string): Promise<void> {
    faultPoint('layer.removing');
    await removeTree(join(this.#root, directory));
    faultPoint('layer.removed');
    this.rows.delete(directory);
  }
}

// Whoever leaves as the last ends it, and waits for that.
function awaited(coming: Coming, signal: AbortSignal | undefined): Promise<Layer> {
  coming.waiting++;
  return new Promise((resolve, reject) => {
    const leave = (): void => {
      if (--coming.waiting === 0) coming.abort.abort(signal!.reason);
      else reject(signal!.reason as Error);
    };
    signal?.addEventListener('abort', leave, { once: true });
    coming.done.then(resolve, reject).finally(() => signal?.removeEventListener('abort', leave));
  });
}

export class DigestMismatch extends InvalidParameter {
  constructor(
    readonly expected: string,
    readonly actual: string,
  ) {
    super(`invalid digest of a layer: expected ${expected}, got ${actual}`);
  }
}

function missing(chain: string): never {
  throw new SystemFault(`layer ${chain} is missing`);
}

function compressionOf(fd: Fd): Compression {
  const head = Buffer.alloc(MAGIC_LENGTH);
  return detectCompression(head.subarray(0, readSync(fd, head, 0, MAGIC_LENGTH, 0)));
}
