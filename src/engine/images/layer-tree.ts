/**
 * The directories of a layer that is being unpacked, and what stands where the next entry wants to be. `/` is the
 * layer's root here.
 * An archive may leave out directories, name them through links, and have a path twice: the last one counts.
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
/**
 * Characters in the names of directories that no entry names: they are reported, and looked for in the layers below.
 */
const MAX_IMPLICIT = 8 * 1024 * 1024;

export type Times = [atime: bigint, mtime: bigint];

export class LayerTree {
  /** Bytes in files and links that were taken away again. */
  removed = 0;
  /** Directories that had to be made because no entry names them; their attributes are those of the layers below. */
  readonly #implicit = new Set<string>();
  #implicitLength = 0;
  /** Set at the end: whatever is put into a directory changes its time. */
  readonly #times = new Map<string, Times>();
  #hasLinks = false;
  /** Where directories are that were named through links. */
  readonly #real = new Map<string, string>();

  /**
   * `settle` waits for files that are not written yet, `replaced` is told of each file that is about to be taken away.
   */
  constructor(
    private readonly settle: () => void,
    private readonly replaced: (path: string) => void,
  ) {}

  /** Does `make`, which makes `path`, with its parents there and nothing in its place. */
  make<T>(path: string, make: () => T): T {
    try {
      return this.withParents(path, make);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    this.#takeAway(path);
    return make();
  }

  /** Does `make`, which makes `path`, with its parents there. */
  withParents<T>(path: string, make: () => T): T {
    try {
      return make();
    } catch (error) {
      if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes(codeOf(error))) throw error;
      this.makeDirectories(parentOf(path));
      return make();
    }
  }

  /** Makes the directory of an entry. Upon another directory: what is in it stays. */
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

  /**
   * Makes the directory and those above it, as far as they are not there. @throws TarError when something else is there
   */
  makeDirectories(directory: string): void {
    for (let end = directory.indexOf('/', 1); directory !== '/'; end = directory.indexOf('/', end + 1)) {
      this.#makeImplicit(end < 0 ? directory : directory.slice(0, end));
      if (end < 0) return;
    }
  }

  /** A symbolic link was made: paths may lead through it. */
  linked(): void {
    this.#hasLinks = true;
  }

  /** The same path, its directory told without links. */
  withoutLinks(path: string): string {
    if (!this.#hasLinks) return path;
    const directory = parentOf(path);
    let real = this.#real.get(directory);
    if (real === undefined) this.#real.set(directory, (real = realpathSync.native(bytes(directory), 'latin1')));
    return join(real, nameOf(path));
  }

  /** All is there. Sets the directories' times, and returns those that no entry named, in order of depth. */
  finish(): string[] {
    for (const [path, times] of this.#times) {
      try {
        setTimes(bytes(path), ...times);
      } catch (error) {
        // It was named through a link that a later entry replaced.
        if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
      }
    }
    return [...this.#implicit].sort();
  }

  #makeImplicit(path: string): void {
    try {
      mkdirSync(bytes(path), IMPLICIT_MODE);
      this.#implicit.add(path);
      if ((this.#implicitLength += path.length) > MAX_IMPLICIT)
        throw new TarError('too many directories that no entry names');
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
    if (!leadsToDirectory(path))
      throw new TarError(
        `its directory ${shown(path)} is a symbolic link to ${quote(readlinkSync(bytes(path), 'buffer'))}, which is no directory in this archive`,
      );
  }

  // What a whiteout hid must stay hidden under the directory that takes its place.
  #replaceByDirectory(path: string, found: Stats): void {
    this.#takeAway(path);
    mkdirSync(bytes(path), 0o700);
    if (isWhiteout(found)) makeOpaque(path);
  }

  #takeAway(path: string): void {
    this.settle();
    this.#remove(this.withoutLinks(path));
    this.#real.clear();
  }

  // The path has no links in it.
  #remove(path: string): void {
    const found = lstatSync(bytes(path));
    if (found.isDirectory()) {
      for (const name of readdirSync(bytes(path), 'buffer')) this.#remove(join(path, name.toString('latin1')));
      rmdirSync(bytes(path));
      this.#implicit.delete(path);
      this.#times.delete(path);
      return;
    }
    if (found.isFile() && found.size > 0) this.replaced(path);
    unlinkSync(bytes(path));
    if (found.isSymbolicLink() || (found.isFile() && found.nlink === 1)) this.removed += found.size;
  }
}

/** What the layers below have in this directory is gone. */
export const makeOpaque = (path: string): void => setXattrAt(bytes(path), OPAQUE_XATTR, Buffer.from('y'));

const shown = (path: string): string => quote(path.slice(1));
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

function leadsToDirectory(path: string): boolean {
  try {
    return statSync(bytes(path)).isDirectory();
  } catch {
    // A link to nowhere, or to itself.
    return false;
  }
}
