/** The layer store: each layer is unpacked once into its own directory and shared by all images that contain it. */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, createReadStream, mkdirSync, openSync, readSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { LayerRow, LayerRows } from '../../store/layers.ts';
import { faultPoint } from '../../sys/fault.ts';
import type { Fd } from '../../sys/libc.ts';
import { InvalidParameter, SystemFault } from '../../model/errors.ts';
import type { Archives } from './archive.ts';
import { decompress, detectCompression, MAGIC_LENGTH, peek, type Compression } from './compression.ts';
import { chainId } from './digest.ts';
import { removeTree } from '../remove-tree.ts';
import { inheritDirectories } from './inherit.ts';
import { REPLACED_FILE } from './tar-split.ts';
import type { Unpacker } from './unpacker.ts';

export type Layer = LayerRow;

/** Protects layers from `retire` until released, although no image refers to them yet. */
export interface LayerPin {
  readonly chains: Set<string>;
  release(): void;
}

/** An unpacking in progress that several callers may wait for. */
interface PendingUnpack {
  done: Promise<Layer>;
  waiters: number;
  abort: AbortController;
}

interface UnpackOptions {
  /** The diff ID that the archive must have. */
  expected?: string;
  signal?: AbortSignal | undefined;
}

/** Short, because mount(2) takes one page of options and each layer's path is part of them. */
const NAME_BYTES = 5;
const READ_SIZE = 256 * 1024;
/** Docker's own limit (moby layer/layer_store.go, maxLayerDepth). */
const MAX_DEPTH = 125;

export class Layers {
  readonly #root: string;
  readonly #pins = new Set<LayerPin>();
  readonly #unfinished: Layer[];
  /** By expected chain ID. */
  readonly #pending = new Map<string, PendingUnpack>();

  /** @param images the root directory of image data (paths.images()) */
  constructor(
    private readonly rows: LayerRows,
    images: string,
    private readonly unpacker: Unpacker,
    private readonly archives: Archives,
  ) {
    this.#root = join(images, 'layers');
    // Collected here and not in `sweep`: by then this daemon may be unpacking layers itself.
    this.#unfinished = rows.all().filter(({ phase }) => phase !== 'ready');
    mkdirSync(this.#root, { recursive: true, mode: 0o710 });
  }

  get = (chain: string): Layer | undefined => this.rows.byChain(chain);

  /** The layer's files. */
  directory = (layer: Layer): string => join(this.#root, layer.directory, 'diff');

  /** The layers' directories as overlayfs takes them, topmost first. @throws SystemFault when a layer is missing */
  lower(chains: string[]): string[] {
    return chains.map((chain) => this.directory(this.get(chain) ?? missing(chain))).reverse();
  }

  /**
   * Yields the layer's original archive byte for byte, uncompressed; returns its digest (the diff ID) and length.
   * @throws SystemFault when it cannot be rebuilt
   */
  archive(layer: Layer): ReturnType<Archives['layer']> {
    return this.archives.layer(this.directory(layer), join(this.#root, layer.directory), layer.diffId);
  }

  /** Bytes of all layers, shared ones counted once. */
  totalSize = (): number => this.rows.all().reduce((sum, { phase, size }) => sum + (phase === 'ready' ? size : 0), 0);

  /** Bytes of each complete layer, by chain ID. */
  sizes(): Map<string, number> {
    const ready = this.rows.all().filter(({ phase }) => phase === 'ready');
    return new Map(ready.map(({ chainId, size }) => [chainId, size]));
  }

  /** Creates an empty pin. Layers added through it, or listed in its `chains`, stay until it is released. */
  pin(): LayerPin {
    const pin: LayerPin = { chains: new Set(), release: () => void this.#pins.delete(pin) };
    this.#pins.add(pin);
    return pin;
  }

  /**
   * Unpacks the archive in a file onto the layers `below` (chain IDs, lowest first). If the layer exists already,
   * returns it without calling `file`. Concurrent callers for the same layer share one unpacking; when all of them
   * have aborted, it stops and its files are removed.
   * @param expected the diff ID
   * @throws DigestMismatch
   */
  async addFile(
    pin: LayerPin,
    file: () => string,
    below: string[],
    expected: string,
    signal?: AbortSignal,
  ): Promise<Layer> {
    const chain = chainId(below.at(-1) ?? '', expected);
    pin.chains.add(chain);
    signal?.throwIfAborted();
    // Another caller's unpacking may fail or be aborted; then use this caller's file.
    for (let pending = this.#pending.get(chain); pending; pending = this.#pending.get(chain)) {
      await waitFor(pending, signal).catch(() => undefined);
      signal?.throwIfAborted();
    }
    return this.get(chain) ?? waitFor(this.#startUnpack(pin, file(), below, expected), signal);
  }

  /**
   * Checks that a file is the archive that the layer was unpacked from, in any supported compression.
   * @throws DigestMismatch
   */
  async verifyFile({ diffId, archiveSize }: Layer, file: string, signal?: AbortSignal): Promise<void> {
    const fd = openSync(file, 'r');
    const hash = createHash('sha256');
    try {
      let size = 0;
      const input = createReadStream('', { fd, autoClose: false, start: 0, highWaterMark: READ_SIZE });
      for await (const chunk of decompress(input, compressionOf(fd))) {
        signal?.throwIfAborted();
        hash.update(chunk);
        size += chunk.length;
        // Few compressed bytes may become very many.
        if (size > archiveSize) break;
      }
    } finally {
      closeSync(fd);
    }
    const actual = `sha256:${hash.digest('hex')}`;
    if (actual !== diffId) throw new DigestMismatch(diffId, actual);
  }

  #startUnpack(pin: LayerPin, file: string, below: string[], expected: string): PendingUnpack {
    const chain = chainId(below.at(-1) ?? '', expected);
    const fd = openSync(file, 'r');
    const abort = new AbortController();
    const unpack = async (): Promise<Layer> => {
      try {
        return await this.#unpack(pin, fd, compressionOf(fd), below, { expected, signal: abort.signal });
      } finally {
        this.#pending.delete(chain);
        closeSync(fd);
      }
    };
    const pending = { done: Promise.resolve().then(unpack), waiters: 0, abort };
    this.#pending.set(chain, pending);
    return pending;
  }

  /**
   * Unpacks an archive from a stream, in any supported compression. After a failure, the rest of the stream is drained:
   * its sender may read the response only when it has sent everything.
   */
  async add(pin: LayerPin, archive: Readable, below: string[], signal?: AbortSignal): Promise<Layer> {
    const { head, all, discard } = await peek(archive);
    return this.#unpack(pin, all, detectCompression(head), below, { signal }).finally(discard);
  }

  /** Unpacks a tar that is known to be uncompressed: its first file name may look like a compression magic. */
  addTar = (pin: LayerPin, archive: AsyncIterable<Buffer>, below: string[]): Promise<Layer> =>
    this.#unpack(pin, archive, 'none', below);

  async #unpack(
    pin: LayerPin,
    archive: AsyncIterable<Buffer> | Fd,
    compression: Compression,
    below: string[],
    { expected, signal }: UnpackOptions = {},
  ): Promise<Layer> {
    if (below.length >= MAX_DEPTH) throw new InvalidParameter('max depth exceeded');
    const parent = below.at(-1) ?? '';
    const directory = randomBytes(NAME_BYTES).toString('hex');
    let row: Omit<Layer, 'phase'>;
    this.rows.insertUnpacking(directory);
    faultPoint('layer.intent');
    try {
      const home = join(this.#root, directory);
      const files = join(home, 'diff');
      mkdirSync(home, { mode: 0o710 });
      mkdirSync(files, { mode: 0o755 });
      faultPoint('layer.directory');
      const place = { directory: files, home, signal };
      const { diffId, size, archiveSize, implicit } = await this.unpacker.unpack(archive, compression, place);
      faultPoint('layer.unpacked');
      if (expected !== undefined && diffId !== expected) throw new DigestMismatch(expected, diffId);
      await inheritDirectories(files, implicit, this.lower(below));
      const replaced = join(home, REPLACED_FILE);
      if ((await stat(replaced)).size === 0) await rm(replaced);
      row = { chainId: chainId(parent, diffId), diffId, parent, directory, size, archiveSize };
    } catch (error) {
      await this.#delete(directory);
      signal?.throwIfAborted();
      throw error;
    }
    return this.#register(pin, row);
  }

  // The same layer may have been completed in another way meanwhile (an import, a commit): then keeps that one.
  async #register(pin: LayerPin, row: Omit<Layer, 'phase'>): Promise<Layer> {
    pin.chains.add(row.chainId);
    const existing = this.get(row.chainId);
    if (existing) {
      await this.#delete(row.directory);
      return existing;
    }
    this.rows.ready(row);
    faultPoint('layer.ready');
    return { ...row, phase: 'ready' };
  }

  /**
   * Marks unused, unpinned layers for removal, topmost first. Call it in a transaction, and `deleteRetired` after the
   * commit.
   * @param needed whether an image or container uses a layer
   * @param chains the candidates; all layers by default
   */
  retire(needed: (chain: string) => boolean, chains?: string[]): Layer[] {
    const isPinned = (chain: string): boolean => [...this.#pins].some((pin) => pin.chains.has(chain));
    const candidates = (chains?.map(this.get) ?? this.rows.all()).filter(
      (layer): layer is Layer => layer?.phase === 'ready',
    );
    const unneeded = candidates.filter(({ chainId: chain }) => !needed(chain) && !isPinned(chain)).reverse();
    for (const { directory } of unneeded) this.rows.setRemoving(directory);
    return unneeded;
  }

  /**
   * Deletes files and rows of the layers that `retire` returned.
   * @throws the first error, after trying all; the next start tries again
   */
  async deleteRetired(layers: Layer[]): Promise<void> {
    const errors: unknown[] = [];
    for (const { directory } of layers) await this.#delete(directory).catch((error: unknown) => errors.push(error));
    if (errors.length > 0) throw errors[0];
  }

  /** At start: deletes the layers that an earlier daemon left half unpacked or half deleted. */
  sweep = (): Promise<void> => this.deleteRetired(this.#unfinished);

  // The row says already that the layer is not ready. Its files go first: on a full disk the database cannot grow.
  async #delete(directory: string): Promise<void> {
    faultPoint('layer.removing');
    await removeTree(join(this.#root, directory));
    faultPoint('layer.removed');
    this.rows.delete(directory);
  }
}

// The last waiter to leave aborts the unpacking and waits for its cleanup.
function waitFor(pending: PendingUnpack, signal: AbortSignal | undefined): Promise<Layer> {
  pending.waiters++;
  return new Promise((resolve, reject) => {
    const leave = (): void => {
      if (--pending.waiters === 0) pending.abort.abort(signal!.reason);
      else reject(signal!.reason as Error);
    };
    signal?.addEventListener('abort', leave, { once: true });
    pending.done.then(resolve, reject).finally(() => signal?.removeEventListener('abort', leave));
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
