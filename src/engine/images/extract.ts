/**
 * Turns a layer's entries into files, for overlayfs. Runs jailed in the layer's directory (unpacker.ts): `/` is that
 * directory here,
 * so whatever a name or a link says, it cannot lead out. What tries to is refused all the same, with its name.
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
  openSync,
  statfsSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { MAX_MAJOR, MAX_MINOR, makeNode, S_IFBLK, S_IFCHR, S_IFIFO, setTimes, setXattrAt } from '../../sys/inode.ts';
import { HostError, type Bodies } from './file-write-ring.ts';
import { bytes, clean, join, nameOf, parentOf } from './byte-path.ts';
import { LayerTree, makeOpaque, type Times } from './layer-tree.ts';
import { quote, TarError, type TarEntry } from './tar.ts';
import { OPAQUE, WHITEOUT } from './whiteout.ts';

const WHITEOUT_META = '.wh..wh.';
/** overlayfs's own marks. An archive may not set them: they are this host's bookkeeping. */
const OVERLAY_XATTRS = 'trusted.overlay.';
/** No honest layer has nearly as many device nodes. */
const MAX_DEVICES = 16_384;
/** Claims from this size on are compared with the room on disk before the first byte is written. */
const LARGE = 64 * 1024 * 1024;
const NS_PER_S = 1_000_000_000n;
/** Times that a filesystem may hold; others become the epoch. */
const MAX_TIME = (1n << 40n) * NS_PER_S;
const S_ISGID = 0o2000;
const EXCLUSIVELY = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
/** Errors of the host, not of the archive. */
const HOST_ERRORS = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'ENOMEM', 'EMFILE', 'ENFILE']);

export class Extractor {
  #made = 0;
  /** `isBare`: nothing but a body and times of whole seconds is to come. */
  #file: { fd: number; entry: TarEntry; path: string; isBare: boolean } | undefined;
  #devices = 0;
  #setgid = false;
  readonly #tree: LayerTree;

  /** `replaced` is called for each file that a later entry is about to take the place of. */
  constructor(
    private readonly bodies: Bodies,
    replaced: (path: string) => void,
  ) {
    this.#tree = new LayerTree(() => bodies.settle(), replaced);
  }

  /** Bytes in files and links, as du would have them counted once. */
  get size(): number {
    return this.#made - this.#tree.removed;
  }

  /**
   * Makes the entry; of a file, its beginning. Returns the file's path, without links in it, if its body is to come;
   * undefined if there is none to be kept. @throws TarError, HostError
   */
  begin(entry: TarEntry): string | undefined {
    return this.#named(entry, () => this.#begin(entry));
  }

  /** The next bytes of the present file. */
  write(bytes: Buffer): void {
    const { fd, entry, isBare } = this.#file!;
    if (isBare) return this.bodies.write(fd, bytes, entry);
    this.#named(entry, () => {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
    });
  }

  /** The present entry's body is complete. */
  end(): void {
    if (!this.#file) return;
    const { fd, entry, path, isBare } = this.#file;
    this.#file = undefined;
    this.#made += entry.size;
    if (isBare) return this.bodies.close(fd, secondsOf(entry), entry);
    this.#named(entry, () => {
      // Each call saved counts: a layer has fifty thousand files.
      if (this.#isForeign(entry)) fchownSync(fd, entry.uid, entry.gid);
      if (!isPlain(entry.mode)) fchmodSync(fd, entry.mode);
      closeSync(fd);
      this.#xattrs(path, entry);
      setTimes(bytes(path), ...timesOf(entry));
    });
  }

  /** All entries are there. Returns the directories that no entry named, in order of depth. */
  finish(): string[] {
    this.bodies.settle();
    return this.#tree.finish();
  }

  #begin(entry: TarEntry): string | undefined {
    const path = clean(entry.path);
    const name = nameOf(path);
    if (name === OPAQUE) return void this.#opaque(parentOf(path));
    // Other marks of that kind are aufs's own.
    if (path.includes(`/${WHITEOUT_META}`)) return undefined;
    if (name.startsWith(WHITEOUT)) return void this.#whiteout(parentOf(path), name.slice(WHITEOUT.length));
    if (path === '/' && entry.type !== 'directory') throw new TarError('the root can only be a directory');
    switch (entry.type) {
      case 'directory':
        return void this.#directory(path, entry);
      case 'file':
        return this.#openFile(path, entry);
      case 'hardlink':
        return void this.#hardLink(path, entry);
      case 'symlink':
        if (entry.link.length === 0) throw new TarError('a symbolic link to nothing');
        this.#tree.make(path, () => symlinkSync(entry.link, bytes(path)));
        this.#tree.linked();
        this.#made += entry.link.length;
        break;
      case 'fifo':
        this.#tree.make(path, () => makeNode(bytes(path), S_IFIFO | 0o600, 0, 0));
        break;
      case 'character':
      case 'block':
        this.#device(path, entry);
    }
    this.#attributes(path, entry);
    return undefined;
  }

  #directory(path: string, entry: TarEntry): undefined {
    this.#tree.makeDirectory(path, timesOf(entry));
    this.#setgid ||= (entry.mode & S_ISGID) !== 0;
    lchownSync(bytes(path), entry.uid, entry.gid);
    chmodSync(bytes(path), entry.mode);
    this.#xattrs(path, entry);
  }

  #openFile(path: string, entry: TarEntry): string {
    if (entry.size >= LARGE) {
      const { bavail, bsize } = statfsSync('/');
      if (entry.size > bavail * bsize)
        throw new HostError(`${quote(entry.path)} is ${entry.size} bytes, and there is room for ${bavail * bsize}`);
    }
    // Exclusive: an archive cannot write into what it or anybody made before, a device least of all.
    const name = isAscii(path) ? path : bytes(path);
    const fd = this.#tree.make(path, () => openSync(name, EXCLUSIVELY, isPlain(entry.mode) ? entry.mode : 0o600));
    // A capability goes when the file is written to, and so may the set-id bits: what has them gets them behind its
    // body.
    const isBare = entry.xattrs.size === 0 && isPlain(entry.mode) && entry.size > 0 && hasWholeSeconds(entry);
    if (isBare && this.#isForeign(entry)) fchownSync(fd, entry.uid, entry.gid);
    this.#file = { fd, entry, path, isBare };
    return this.#tree.withoutLinks(path);
  }

  #hardLink(path: string, entry: TarEntry): undefined {
    const target = clean(entry.link.toString('latin1'));
    if (target === path) return;
    try {
      this.#tree.make(path, () => linkSync(bytes(target), bytes(path)));
    } catch (error) {
      const missing = codeOf(error) === 'ENOENT' && !exists(target);
      throw missing ? new TarError(`a hard link to ${quote(entry.link)}, which is not in this archive`) : error;
    }
  }

  #device(path: string, entry: TarEntry): void {
    if (++this.#devices > MAX_DEVICES) throw new TarError(`more than ${MAX_DEVICES} device nodes`);
    const { major, minor } = entry;
    if (major < 0 || major > MAX_MAJOR || minor < 0 || minor > MAX_MINOR)
      throw new TarError(`device number ${major}:${minor} is out of range`);
    const type = entry.type === 'block' ? S_IFBLK : S_IFCHR;
    this.#tree.make(path, () => makeNode(bytes(path), type | 0o600, major, minor));
  }

  // `.wh.NAME`: what the layers below have under NAME is gone. An entry of that name in this layer stays.
  #whiteout(directory: string, name: string): undefined {
    if (name === '' || name === '.' || name === '..') throw new TarError('a whiteout of nothing');
    const path = join(directory, name);
    try {
      this.#tree.withParents(path, () => makeNode(bytes(path), S_IFCHR, 0, 0));
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      if (lstatSync(bytes(path)).isDirectory()) makeOpaque(path);
    }
  }

  // `.wh..wh..opq`: what the layers below have in this directory is gone.
  #opaque(directory: string): undefined {
    this.#tree.makeDirectories(directory);
    makeOpaque(directory);
  }

  // Whether it must be given away: what is made here is root's, but for the group below a setgid directory.
  #isForeign({ uid, gid }: TarEntry): boolean {
    return uid !== 0 || gid !== 0 || this.#setgid;
  }

  #attributes(path: string, entry: TarEntry): void {
    if (this.#isForeign(entry)) lchownSync(bytes(path), entry.uid, entry.gid);
    if (entry.type !== 'symlink') chmodSync(bytes(path), entry.mode);
    this.#xattrs(path, entry);
    setTimes(bytes(path), ...timesOf(entry));
  }

  #xattrs(path: string, entry: TarEntry): void {
    for (const [name, value] of entry.xattrs) {
      if (name.startsWith(OVERLAY_XATTRS)) continue;
      try {
        setXattrAt(bytes(path), name, value);
      } catch (error) {
        // A filesystem without xattrs of that kind: Docker goes on too.
        if (codeOf(error) !== 'ENOTSUP' && codeOf(error) !== 'EOPNOTSUPP') throw error;
      }
    }
  }

  // Every failure names its entry.
  #named<T>(entry: TarEntry, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof HostError) throw error;
      const text = `${quote(entry.path)}: ${(error as Error).message}`;
      throw HOST_ERRORS.has(codeOf(error)) ? new HostError(text) : new TarError(text);
    }
  }
}

/** Nothing that open(2) would not set. */
const isPlain = (mode: number): boolean => (mode & ~0o777) === 0;
const isAscii = (path: string): boolean => /^[\x01-\x7f]*$/.test(path);
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
const exists = (path: string): boolean => lstatSync(bytes(path), { throwIfNoEntry: false }) !== undefined;

const bounded = (time: bigint): bigint => (time > MAX_TIME || time < -MAX_TIME ? 0n : time);
const timesOf = ({ mtime, atime = mtime }: TarEntry): Times => [bounded(atime), bounded(mtime)];

// Of these a double says all.
const hasWholeSeconds = ({ mtime, atime }: TarEntry): boolean =>
  atime === undefined && mtime >= 0n && mtime % NS_PER_S === 0n;
const secondsOf = ({ mtime }: TarEntry): number => Number(bounded(mtime) / NS_PER_S);
