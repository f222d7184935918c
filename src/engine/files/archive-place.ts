/**
 * Unpacks an archive's entries over the existing content of a directory, as `docker cp` does (moby pkg/archive). Runs
 * in the archive worker, whose root is the container's (container-view.ts).
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { makeNode, S_IFBLK, S_IFCHR, S_IFIFO, setTimes, setXattrAt } from '../../sys/inode.ts';
import { bytes, clean } from '../images/byte-path.ts';
import { TarError, type TarEntry } from '../images/tar.ts';

export interface PlaceOptions {
  /** Refuse to replace a directory by another kind of file, or the reverse. */
  noOverwriteDirNonDir: boolean;
  /** Replaces the archive's owners. */
  owner?: { uid: number; gid: number };
}

/** The file system has no such attributes, or setting them needs a privilege we lack. Ignored. */
const IGNORED_XATTR_ERRORS = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EPERM']);

export class Placer {
  readonly #directoryTimes = new Map<string, TarEntry>();
  #file: { fd: number; path: string; entry: TarEntry } | undefined;

  /** Entries go into the working directory; `target` is its path, for error texts. */
  constructor(
    private readonly target: string,
    private readonly options: PlaceOptions,
  ) {}

  /**
   * Creates the entry; a regular file's content follows in `write` until `end`.
   * @throws TarError for a path outside the directory, PlaceTaken
   */
  begin(entry: TarEntry): void {
    const name = this.#clean(entry.path);
    const path = `.${name}`;
    if (name !== '/') this.#makeParents(path);
    if (this.#clear(path, name, entry) === 'leave') return;
    switch (entry.type) {
      case 'file':
        this.#file = {
          fd: openSync(bytes(path), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600),
          path,
          entry,
        };
        return;
      case 'directory':
        try {
          mkdirSync(bytes(path), 0o700);
        } catch (error) {
          if (codeOf(error) !== 'EEXIST') throw error;
        }
        this.#directoryTimes.set(path, entry);
        break;
      case 'hardlink':
        return linkSync(bytes(`.${this.#clean(entry.link.toString('latin1'))}`), bytes(path));
      case 'symlink':
        symlinkSync(entry.link, bytes(path));
        break;
      case 'fifo':
        makeNode(bytes(path), S_IFIFO | 0o600, 0, 0);
        break;
      case 'character':
      case 'block':
        makeNode(bytes(path), (entry.type === 'block' ? S_IFBLK : S_IFCHR) | 0o600, entry.major, entry.minor);
    }
    const { uid, gid } = this.#ownerOf(entry);
    lchownSync(bytes(path), uid, gid);
    if (entry.type !== 'symlink') chmodSync(bytes(path), entry.mode);
    this.#finish(path, entry);
  }

  /** Appends to the current file. */
  write(data: Buffer): void {
    for (let at = 0; this.#file && at < data.length;) at += writeSync(this.#file.fd, data, at);
  }

  /** Completes the current file; does nothing after other entries. */
  end(): void {
    if (!this.#file) return;
    const { fd, path, entry } = this.#file;
    this.#file = undefined;
    const { uid, gid } = this.#ownerOf(entry);
    fchownSync(fd, uid, gid);
    fchmodSync(fd, entry.mode);
    closeSync(fd);
    this.#finish(path, entry);
  }

  /** Sets the directories' times: each entry placed in one has changed them. */
  finish(): void {
    for (const [path, entry] of this.#directoryTimes) {
      try {
        setTimes(bytes(path), ...timesOf(entry));
      } catch (error) {
        if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
      }
    }
  }

  /** Removes what is in the entry's place unless both are directories. `leave`: the target directory itself. */
  #clear(path: string, name: string, entry: TarEntry): 'leave' | 'make' {
    const found = lstatSync(bytes(path), { throwIfNoEntry: false });
    if (!found) return 'make';
    const wasDirectory = found.isDirectory();
    const isDirectory = entry.type === 'directory';
    const shown = Buffer.from(`${this.target === '/' ? '' : this.target}${name}`, 'latin1').toString();
    if (this.options.noOverwriteDirNonDir && wasDirectory && !isDirectory)
      throw new PlaceTaken(
        `cannot overwrite directory ${JSON.stringify(shown)} with non-directory ${JSON.stringify(this.target)}`,
      );
    if (this.options.noOverwriteDirNonDir && !wasDirectory && isDirectory)
      throw new PlaceTaken(
        `cannot overwrite non-directory ${JSON.stringify(shown)} with directory ${JSON.stringify(this.target)}`,
      );
    if (wasDirectory && name === '/') return 'leave';
    if (!(wasDirectory && isDirectory)) {
      if (name === '/') throw new TarError('the target must be a directory');
      rmSync(bytes(path), { recursive: true, force: true });
      this.#directoryTimes.delete(path);
    }
    return 'make';
  }

  #makeParents(path: string): void {
    const parent = path.slice(0, path.lastIndexOf('/'));
    if (parent === '.' || lstatSync(bytes(parent), { throwIfNoEntry: false })) return;
    // One by one: Node's recursive mkdir loops forever if the working directory has been removed.
    for (let end = path.indexOf('/', 2); end >= 0; end = path.indexOf('/', end + 1)) {
      try {
        mkdirSync(bytes(path.slice(0, end)), 0o755);
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw error;
      }
    }
  }

  #clean = (path: string): string => clean(path, JSON.stringify(this.target));

  #ownerOf = (entry: TarEntry): { uid: number; gid: number } => this.options.owner ?? entry;

  #finish(path: string, entry: TarEntry): void {
    for (const [name, value] of entry.xattrs) {
      if (name.startsWith('trusted.overlay.')) continue;
      try {
        setXattrAt(bytes(path), name, value);
      } catch (error) {
        if (!IGNORED_XATTR_ERRORS.has(codeOf(error))) throw error;
      }
    }
    setTimes(bytes(path), ...timesOf(entry));
  }
}

/** The refusal of `noOverwriteDirNonDir`. */
export class PlaceTaken extends Error {}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
const timesOf = ({ mtime, atime = mtime }: TarEntry): [bigint, bigint] => [atime, mtime];
