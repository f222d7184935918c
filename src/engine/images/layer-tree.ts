/**
 * The directories of a layer that is being unpacked, and the replacement of existing files. `/` is the layer's root
 * (extract.ts). An archive may omit directories, name them through symbolic links, and contain a path more than once:
 * the last entry counts.
 */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmdirSync,
  statSync,
  unlinkSync,
  type Stats,
} from 'node:fs';
import { setTimes, setXattrAt } from '../../sys/inode.ts';
import { bytes, join, nameOf, parentOf } from './byte-path.ts';
import { quote, TarError } from './tar.ts';
import { isWhiteout, OPAQUE_XATTR } from './whiteout.ts';

const IMPLICIT_MODE = 0o755;
/** Limit for the names of directories without an entry, in bytes: they are reported to the daemon. */
const MAX_IMPLICIT_BYTES = 8 * 1024 * 1024;

export type Times = [atime: bigint, mtime: bigint];

export class LayerTree {
  /** Bytes in files and symbolic links that were removed again. */
  bytesRemoved = 0;
  /** Directories without an entry; they get their attributes from the layers below. */
  readonly #implicit = new Set<string>();
  #implicitBytes = 0;
  /** Directory times, set at the end: creating a file in a directory changes its mtime. */
  readonly #times = new Map<string, Times>();
  #hasLinks = false;
  /** Cache of directories' real paths. */
  readonly #real = new Map<string, string>();

  /**
   * @param settle waits for queued writes
   * @param onReplace called before a non-empty regular file is removed
   */
  constructor(
    private readonly settle: () => void,
    private readonly onReplace: (path: string) => void,
  ) {}

  /** Calls `make` to create `path`; creates missing parents and removes an existing file or directory first. */
  make<T>(path: string, make: () => T): T {
    try {
      return this.withParents(path, make);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    this.#removeExisting(path);
    return make();
  }

  /** Calls `make` to create `path`; creates missing parents first. */
  withParents<T>(path: string, make: () => T): T {
    try {
      return make();
    } catch (error) {
      if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes(codeOf(error))) throw error;
      this.makeDirectories(parentOf(path));
      return make();
    }
  }

  /** Creates an entry's directory; an existing directory keeps its contents. */
  makeDirectory(path: string, times: Times): void {
    if (path !== '/') {
      try {
        this.withParents(path, () => mkdirSync(bytes(path), 0o700));
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw error;
        const found = lstatSync(bytes(path));
        if (!found.isDirectory()) this.#replaceByDirectory(path, found);
      }
    }
    this.#implicit.delete(path);
    this.#times.set(path, times);
  }

  /** Creates a directory and its parents if they are missing. @throws TarError when one exists and is no directory */
  makeDirectories(directory: string): void {
    for (let end = directory.indexOf('/', 1); directory !== '/'; end = directory.indexOf('/', end + 1)) {
      this.#makeImplicit(end < 0 ? directory : directory.slice(0, end));
      if (end < 0) return;
    }
  }

  /** To be called after creating a symbolic link: later paths may lead through it. */
  noteSymlink(): void {
    this.#hasLinks = true;
  }

  /** The path with the symbolic links in its directory resolved. */
  withoutLinks(path: string): string {
    if (!this.#hasLinks) return path;
    const directory = parentOf(path);
    let real = this.#real.get(directory);
    if (real === undefined) {
      real = realpathSync.native(bytes(directory), 'latin1');
      this.#real.set(directory, real);
    }
    return join(real, nameOf(path));
  }

  /** Sets the directories' times. Returns the directories without an entry, parents first. */
  finish(): string[] {
    for (const [path, times] of this.#times) {
      try {
        setTimes(bytes(path), ...times);
      } catch (error) {
        // The path led through a symbolic link that a later entry replaced.
        if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
      }
    }
    return [...this.#implicit].sort();
  }

  #makeImplicit(path: string): void {
    try {
      mkdirSync(bytes(path), IMPLICIT_MODE);
      this.#implicit.add(path);
      this.#implicitBytes += path.length;
      if (this.#implicitBytes > MAX_IMPLICIT_BYTES) throw new TarError('too many directories without an entry');
      return;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    const found = lstatSync(bytes(path));
    if (found.isDirectory()) return;
    if (isWhiteout(found)) {
      this.#replaceByDirectory(path, found);
      chmodSync(bytes(path), IMPLICIT_MODE);
      return;
    }
    if (!found.isSymbolicLink()) throw new TarError(`its directory ${shown(path)} is not one`);
    if (leadsToDirectory(path)) return;
    const target = quote(readlinkSync(bytes(path), 'buffer'));
    throw new TarError(
      `its directory ${shown(path)} is a symbolic link to ${target}, which is no directory in this archive`,
    );
  }

  // A directory in place of a whiteout must be opaque, to keep the lower one's contents hidden.
  #replaceByDirectory(path: string, found: Stats): void {
    this.#removeExisting(path);
    mkdirSync(bytes(path), 0o700);
    if (isWhiteout(found)) makeOpaque(path);
  }

  #removeExisting(path: string): void {
    this.settle();
    this.#remove(this.withoutLinks(path));
    this.#real.clear();
  }

  // `path` is free of symbolic links.
  #remove(path: string): void {
    const found = lstatSync(bytes(path));
    if (found.isDirectory()) {
      for (const name of readdirSync(bytes(path), 'buffer')) this.#remove(join(path, name.toString('latin1')));
      rmdirSync(bytes(path));
      this.#implicit.delete(path);
      this.#times.delete(path);
      return;
    }
    if (found.isFile() && found.size > 0) this.onReplace(path);
    unlinkSync(bytes(path));
    if (found.isSymbolicLink() || (found.isFile() && found.nlink === 1)) this.bytesRemoved += found.size;
  }
}

/** Hides what the layers below have in this directory. */
export const makeOpaque = (path: string): void => setXattrAt(bytes(path), OPAQUE_XATTR, Buffer.from('y'));

const shown = (path: string): string => quote(path.slice(1));
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

function leadsToDirectory(path: string): boolean {
  try {
    return statSync(bytes(path)).isDirectory();
  } catch {
    // A dangling or circular link.
    return false;
  }
}
