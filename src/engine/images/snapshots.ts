/** Container root filesystems: an overlayfs mount of the image's layers and the container's writable layer. */
import {
  closeSync,
  constants,
  existsSync,
  fdatasyncSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { unmount } from '../../sys/mount.ts';
import type { Fd } from '../../sys/libc.ts';
import { SystemFault } from '../../model/errors.ts';
import type { Paths } from '../paths.ts';
import { treeSize } from '../tree-size.ts';
import { initLayer } from './init-layer.ts';
import type { Layers } from './layers.ts';
import { overlay } from './overlay.ts';

const DRIVER = 'overlay2';

export interface GraphDriver {
  Name: string;
  Data: Record<string, string>;
}

export class Snapshots {
  /** Number of pins per container. */
  readonly #pins = new Map<string, number>();
  /** Containers to unmount when their last pin is released. */
  readonly #unmountOnRelease = new Set<string>();
  /** GraphDriver objects; constant from a container's preparation until its unmount. */
  readonly #described = new Map<string, GraphDriver>();

  constructor(
    private readonly paths: Paths,
    private readonly layers: Layers,
  ) {}

  /**
   * Creates the writable layer in the container's directory and records the layers below it, which keeps them when
   * their image is removed. Idempotent.
   */
  prepare(containerId: string, chains?: string[]): void {
    this.#described.delete(containerId);
    const home = this.paths.container(containerId);
    mkdirSync(join(home, 'upper'), { recursive: true, mode: 0o755 });
    mkdirSync(join(home, 'work'), { recursive: true, mode: 0o700 });
    const record = this.#recordPath(containerId);
    if (chains && !existsSync(record)) writeDurably(record, JSON.stringify(chains));
  }

  /**
   * Mounts the container's rootfs at `paths.rootfs(id)` unless it is mounted.
   * @param chains default: those recorded by `prepare`
   * @throws SystemFault
   */
  mount(containerId: string, chains = this.#requireChains(containerId)): void {
    this.prepare(containerId, chains);
    this.#unmountOnRelease.delete(containerId);
    const target = this.paths.rootfs(containerId);
    mkdirSync(target, { recursive: true, mode: 0o755 });
    if (isMountPoint(target)) return;
    const home = this.paths.container(containerId);
    overlay(target, this.#lower(chains), { upper: join(home, 'upper'), work: join(home, 'work') });
  }

  /**
   * Mounts the rootfs if necessary and defers every `unmount` until the returned function is called: overlayfs does not
   * support two mounts of one upper directory.
   */
  pinMount(containerId: string): () => void {
    const pins = this.#pins.get(containerId) ?? 0;
    if (pins === 0 && !this.#isMounted(containerId)) {
      this.mount(containerId);
      this.#unmountOnRelease.add(containerId);
    }
    this.#pins.set(containerId, pins + 1);
    return () => this.#unpinMount(containerId);
  }

  #unpinMount(containerId: string): void {
    const left = this.#pins.get(containerId)! - 1;
    if (left > 0) {
      this.#pins.set(containerId, left);
      return;
    }
    this.#pins.delete(containerId);
    if (this.#unmountOnRelease.delete(containerId)) this.unmount(containerId);
  }

  /** Unmounts the rootfs, or arranges for it when the last pin is released. */
  unmount(containerId: string): void {
    this.#described.delete(containerId);
    if (this.#pins.has(containerId)) {
      this.#unmountOnRelease.add(containerId);
      return;
    }
    unmountAll(this.paths.rootfs(containerId));
  }

  /** Bytes in the writable layer, or UNKNOWN_SIZE. */
  sizeRw(containerId: string): Promise<number> {
    return treeSize(join(this.paths.container(containerId), 'upper'));
  }

  /** Docker's GraphDriver object of a container. */
  describe(containerId: string): GraphDriver {
    const cached = this.#described.get(containerId);
    if (cached) return cached;
    const home = this.paths.container(containerId);
    const chains = (this.#recordedChains(containerId) ?? []).filter((chain) => this.layers.get(chain));
    const layers = this.#layersOf(chains);
    const description = describe({
      lower: [initDirectory(layers, chains), ...layers],
      merged: this.paths.rootfs(containerId),
      upper: join(home, 'upper'),
      work: join(home, 'work'),
    });
    this.#described.set(containerId, description);
    return description;
  }

  /** Docker's GraphDriver object of an image. */
  describeImage(chains: string[]): GraphDriver {
    const [upper, ...lower] = this.layers.lower(chains.filter((chain) => this.layers.get(chain)));
    if (!upper) return { Name: DRIVER, Data: {} };
    return describe({ lower, merged: join(dirname(upper), 'merged'), upper, work: join(dirname(upper), 'work') });
  }

  /** Chain IDs of the layers below all containers, including those whose image was removed. */
  chainsInUse(): Set<string> {
    const chains = new Set<string>();
    for (const id of existsSync(this.paths.containers()) ? readdirSync(this.paths.containers()) : []) {
      for (const chain of this.#recordedChains(id) ?? []) chains.add(chain);
    }
    return chains;
  }

  /** The container's writable layer, and the directories below it, topmost first. */
  layerDirectories(containerId: string): { upper: string; lower: string[] } {
    return {
      upper: join(this.paths.container(containerId), 'upper'),
      lower: [...this.#lower(this.#requireChains(containerId)), this.#empty()],
    };
  }

  #isMounted(containerId: string): boolean {
    const target = this.paths.rootfs(containerId);
    return existsSync(target) && isMountPoint(target);
  }

  /** Opens the mounted rootfs; undefined when it is not mounted. The caller closes the descriptor. */
  openMounted(containerId: string): Fd | undefined {
    const target = this.paths.rootfs(containerId);
    if (!existsSync(target)) return undefined;
    const fd = openSync(target, constants.O_RDONLY | constants.O_DIRECTORY);
    if (fstatSync(fd).dev !== statSync(dirname(target)).dev) return fd;
    closeSync(fd);
    return undefined;
  }

  /** All directories that make up the container's root, topmost first. */
  stack(containerId: string): string[] {
    const { upper, lower } = this.layerDirectories(containerId);
    return [upper, ...lower];
  }

  #requireChains(containerId: string): string[] {
    const chains = this.#recordedChains(containerId);
    if (!chains) throw new SystemFault(`the layers of container ${containerId} are not recorded`);
    return chains;
  }

  // The image's layers, and above them the init layer with the engine's own mount points.
  #lower(chains: string[]): string[] {
    const layers = this.#layersOf(chains);
    return [initLayer(initDirectory(layers, chains), layers), ...layers];
  }

  #layersOf = (chains: string[]): string[] => (chains.length === 0 ? [this.#empty()] : this.layers.lower(chains));

  #empty(): string {
    const empty = join(this.paths.images(), 'empty');
    mkdirSync(empty, { recursive: true, mode: 0o755 });
    return empty;
  }

  #recordPath = (containerId: string): string => join(this.paths.container(containerId), 'lower');

  #recordedChains(containerId: string): string[] | undefined {
    try {
      return JSON.parse(readFileSync(this.#recordPath(containerId), 'utf8')) as string[];
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }
}

function writeDurably(path: string, text: string): void {
  const fd = openSync(`${path}.new`, 'w', 0o600);
  try {
    writeSync(fd, text);
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.new`, path);
}

const initDirectory = ([top]: string[], chains: string[]): string =>
  join(dirname(top!), chains.length === 0 ? 'empty-init' : 'init');

const isMountPoint = (path: string): boolean => statSync(path).dev !== statSync(dirname(path)).dev;

// Mounts may be stacked on one mount point; unmount(2) removes the topmost.
function unmountAll(target: string): void {
  let wasMounted = true;
  while (wasMounted) wasMounted = unmount(target);
}

interface OverlayDirectories {
  /** Topmost first. */
  lower: string[];
  merged: string;
  upper: string;
  work: string;
}

function describe({ lower, merged, upper, work }: OverlayDirectories): GraphDriver {
  return {
    Name: DRIVER,
    Data: { ...(lower.length > 0 && { LowerDir: lower.join(':') }), MergedDir: merged, UpperDir: upper, WorkDir: work },
  };
}

const isMissing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
