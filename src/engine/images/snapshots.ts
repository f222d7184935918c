/** A container's writable layer over its image's: overlayfs. */
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
import { lstat, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { unmount } from '../../sys/mount.ts';
import type { Fd } from '../../sys/libc.ts';
import { SystemFault } from '../../model/errors.ts';
import type { Paths } from '../paths.ts';
import { initLayer } from './init-layer.ts';
import type { Layers } from './layers.ts';
import { overlay } from './overlay.ts';

const DRIVER = 'overlay2';

export interface GraphDriver {
  Name: string;
  Data: Record<string, string>;
}

export class Snapshots {
  /** How many look at a container's files, and which of these nobody else needs mounted. */
  readonly #holds = new Map<string, number>();
  readonly #owed = new Set<string>();
  /** What inspect was told; from a container's preparation to the end of its mount it does not change. */
  readonly #described = new Map<string, GraphDriver>();

  constructor(
    private readonly paths: Paths,
    private readonly layers: Layers,
  ) {}

  /**
   * Makes upper and work in the container's directory, and records which layers lie below: they outlive their image
   * with it. Repeatable.
   */
  prepare(containerId: string, chains?: string[]): void {
    this.#described.delete(containerId);
    const home = this.paths.container(containerId);
    mkdirSync(join(home, 'upper'), { recursive: true, mode: 0o755 });
    mkdirSync(join(home, 'work'), { recursive: true, mode: 0o700 });
    if (!chains || existsSync(this.#record(containerId))) return;
    writeDurably(this.#record(containerId), JSON.stringify(chains));
  }

  /**
   * Mounts the container's rootfs at `paths.rootfs(id)`. Repeatable: a mount that is there is left. `chains` are those
   * recorded unless given.
   */
  mount(containerId: string, chains = this.#recorded(containerId)): void {
    if (!chains) throw new SystemFault(`it is not known which layers container ${containerId} is made of`);
    this.prepare(containerId, chains);
    this.#owed.delete(containerId);
    const target = this.paths.rootfs(containerId);
    mkdirSync(target, { recursive: true, mode: 0o755 });
    if (isMountPoint(target)) return;
    const home = this.paths.container(containerId);
    overlay(target, this.#lower(chains), { upper: join(home, 'upper'), work: join(home, 'work') });
  }

  /**
   * Mounts it and keeps it so until the returned function is called, whoever unmounts it meanwhile: two mounts of one
   * writable layer would not know of each other.
   */
  hold(containerId: string): () => void {
    const idle = !this.#holds.has(containerId) && this.openMounted(containerId);
    const mine = idle === undefined;
    if (typeof idle === 'number') closeSync(idle);
    if (mine) this.mount(containerId);
    this.#holds.set(containerId, (this.#holds.get(containerId) ?? 0) + 1);
    if (mine) this.#owed.add(containerId);
    return () => {
      const left = this.#holds.get(containerId)! - 1;
      if (left > 0) return void this.#holds.set(containerId, left);
      this.#holds.delete(containerId);
      if (this.#owed.delete(containerId)) this.unmount(containerId);
    };
  }

  /** Later, when somebody holds it. */
  unmount(containerId: string): void {
    this.#described.delete(containerId);
    if (this.#holds.has(containerId)) return void this.#owed.add(containerId);
    // Once for each mount that lies upon another.
    while (unmount(this.paths.rootfs(containerId)));
  }

  /** Bytes in the writable layer. */
  sizeRw(containerId: string): Promise<number> {
    return sizeOf(Buffer.from(join(this.paths.container(containerId), 'upper')), new Set());
  }

  /** Docker's GraphDriver object of a container. */
  describe(containerId: string): GraphDriver {
    const told = this.#described.get(containerId);
    if (told) return told;
    const home = this.paths.container(containerId);
    const known = (this.#recorded(containerId) ?? []).filter((chain) => this.layers.get(chain));
    const layers = this.#layersOf(known);
    const description = describe({
      lower: [initOf(layers, known), ...layers],
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

  /** Chain IDs of all layers that containers lie upon, also where their image is gone. */
  claimed(): Set<string> {
    const claimed = new Set<string>();
    for (const id of existsSync(this.paths.containers()) ? readdirSync(this.paths.containers()) : []) {
      for (const chain of this.#recorded(id) ?? []) claimed.add(chain);
    }
    return claimed;
  }

  /** What `docker diff` compares: a container's writable layer, and what lies below it (topmost first). */
  parts(containerId: string): { upper: string; lower: string[] } {
    return {
      upper: join(this.paths.container(containerId), 'upper'),
      lower: [...this.#lower(this.#known(containerId)), this.#empty()],
    };
  }

  /** A descriptor of the mounted rootfs; undefined when it is not mounted. */
  openMounted(containerId: string): Fd | undefined {
    const target = this.paths.rootfs(containerId);
    if (!existsSync(target)) return undefined;
    const fd = openSync(target, constants.O_RDONLY | constants.O_DIRECTORY);
    if (fstatSync(fd).dev !== statSync(dirname(target)).dev) return fd;
    closeSync(fd);
    return undefined;
  }

  /** Directories that make up a container's root, topmost first; of a mounted one `paths.rootfs(id)` is the same. */
  stack(containerId: string): string[] {
    const { upper, lower } = this.parts(containerId);
    return [upper, ...lower];
  }

  #known(containerId: string): string[] {
    const chains = this.#recorded(containerId);
    if (!chains) throw new SystemFault(`it is not known which layers container ${containerId} is made of`);
    return chains;
  }

  // The image's layers, and above them what every container has at the places where the engine mounts something.
  #lower(chains: string[]): string[] {
    const layers = this.#layersOf(chains);
    return [initLayer(initOf(layers, chains), layers), ...layers];
  }

  #layersOf = (chains: string[]): string[] => (chains.length === 0 ? [this.#empty()] : this.layers.lower(chains));

  #empty(): string {
    const empty = join(this.paths.images(), 'empty');
    mkdirSync(empty, { recursive: true, mode: 0o755 });
    return empty;
  }

  #record = (containerId: string): string => join(this.paths.container(containerId), 'lower');

  #recorded(containerId: string): string[] | undefined {
    try {
      return JSON.parse(readFileSync(this.#record(containerId), 'utf8')) as string[];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ENOTDIR')
        return undefined;
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

const initOf = ([top]: string[], chains: string[]): string =>
  join(dirname(top!), chains.length === 0 ? 'empty-init' : 'init');

const isMountPoint = (path: string): boolean => statSync(path).dev !== statSync(dirname(path)).dev;

function describe({
  lower,
  merged,
  upper,
  work,
}: {
  lower: string[];
  merged: string;
  upper: string;
  work: string;
}): GraphDriver {
  return {
    Name: DRIVER,
    Data: { ...(lower.length > 0 && { LowerDir: lower.join(':') }), MergedDir: merged, UpperDir: upper, WorkDir: work },
  };
}

// As Docker counts: everything but directories, hard links once. What disappears meanwhile is not counted.
async function sizeOf(directory: Buffer, seen: Set<number>): Promise<number> {
  let size = 0;
  for (const name of await readdir(directory, { encoding: 'buffer' }).catch(gone([] as Buffer[]))) {
    const path = Buffer.concat([directory, Buffer.from('/'), name]);
    const found = await lstat(path).catch(gone(undefined));
    if (!found) continue;
    if (found.isDirectory()) size += await sizeOf(path, seen);
    else if (found.nlink === 1 || !seen.has(found.ino)) {
      if (found.nlink > 1) seen.add(found.ino);
      size += found.size;
    }
  }
  return size;
}

const gone =
  <T>(instead: T) =>
  (error: NodeJS.ErrnoException): T => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return instead;
    throw error;
  };
