/**
 * Turns a layer's entries into files, for overlayfs. Runs jailed in the layer's directory (unpacker.ts): `/` is that directory here,
 * so whatever a name or a link says, it cannot lead out. What tries to is refused all the same, with its name.
 */
import {
  chmodSync, closeSync, constants, fchmodSync, fchownSync, lchownSync, linkSync, lstatSync, mkdirSync, openSync, readdirSync, readlinkSync, realpathSync, rmdirSync, statfsSync, statSync, symlinkSync,
  unlinkSync, writeSync, type Stats,
} from 'node:fs';
import { MAX_MAJOR, MAX_MINOR, makeNode, S_IFBLK, S_IFCHR, S_IFIFO, setTimes, setXattrAt } from '../../sys/inode.ts';
import { HostError, type Bodies } from './bodies.ts';
import { quote, TarError, type TarEntry } from './tar.ts';

const WHITEOUT = '.wh.';
const WHITEOUT_META = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
/** overlayfs's own marks. An archive may not set them: they are this host's bookkeeping. */
const OVERLAY_XATTRS = 'trusted.overlay.';
const OPAQUE_XATTR = 'trusted.overlay.opaque';
/** No honest layer has nearly as many device nodes. */
const MAX_DEVICES = 16_384;
/** Claims from this size on are compared with the room on disk before the first byte is written. */
const LARGE = 64 * 1024 * 1024;
const NS_PER_S = 1_000_000_000n;
/** Times that a filesystem may hold; others become the epoch. */
const MAX_TIME = (1n << 40n) * NS_PER_S;
const IMPLICIT_MODE = 0o755;
/** Characters in the names of directories that no entry names: they are reported, and looked for in the layers below. */
const MAX_IMPLICIT = 8 * 1024 * 1024;
const S_ISGID = 0o2000;
const EXCLUSIVELY = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
/** Errors of the host, not of the archive. */
const HOST_ERRORS = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'ENOMEM', 'EMFILE', 'ENFILE']);

interface Times {
  atime: bigint;
  mtime: bigint;
}

export class Extractor {
  /** Bytes in files and links, as du would have them counted once. */
  size = 0;
  /** Directories that had to be made because no entry names them; their attributes are those of the layers below. */
  readonly #implicit = new Set<string>();
  #implicitLength = 0;
  /** Set at the end: whatever is put into a directory changes its time. */
  readonly #directoryTimes = new Map<string, Times>();
  /** `isBare`: nothing but a body and times of whole seconds is to come. */
  #file: { fd: number; entry: TarEntry; path: string; isBare: boolean } | undefined;
  #devices = 0;
  #setgid = false;
  #hasLinks = false;
  /** Where directories are that were named through links. */
  readonly #real = new Map<string, string>();

  /** `replaced` is called for each file that a later entry is about to take the place of. */
  constructor(private readonly bodies: Bodies, private readonly replaced: (path: string) => void) {}

  /** Makes the entry; of a file, its beginning. Returns the file's path, without links in it, if its body is to come; undefined if there is none to be kept. @throws TarError, HostError */
  begin(entry: TarEntry): string | undefined {
    return this.#named(entry, () => this.#begin(entry));
  }

  /** The next bytes of the present file. */
  write(bytes: Buffer): void {
    const { fd, entry, isBare } = this.#file!;
    if (isBare) return this.bodies.write(fd, bytes, entry);
    this.#named(entry, () => {
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    });
  }

  /** The present entry's body is complete. */
  end(): void {
    if (!this.#file) return;
    const { fd, entry, path, isBare } = this.#file;
    this.#file = undefined;
    this.size += entry.size;
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
    for (const [path, { atime, mtime }] of this.#directoryTimes) {
      try {
        setTimes(bytes(path), atime, mtime);
      } catch (error) {
        // It was named through a link that a later entry replaced.
        if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
      }
    }
    return [...this.#implicit].sort();
  }

  #begin(entry: TarEntry): string | undefined {
    const path = clean(entry.path);
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (name === OPAQUE) return this.#opaque(parentOf(path));
    // Other marks of that kind are aufs's own.
    if (path.includes(`/${WHITEOUT_META}`)) return undefined;
    if (name.startsWith(WHITEOUT)) return this.#whiteout(parentOf(path), name.slice(WHITEOUT.length));
    if (path === '/' && entry.type !== 'directory') throw new TarError('the root can only be a directory');
    switch (entry.type) {
      case 'directory': return this.#directory(path, entry);
      case 'file': return this.#openFile(path, entry);
      case 'hardlink': return this.#hardLink(path, entry);
      case 'symlink':
        if (entry.link.length === 0) throw new TarError('a symbolic link to nothing');
        this.#make(path, () => symlinkSync(entry.link, bytes(path)));
        this.#hasLinks = true;
        this.size += entry.link.length;
        break;
      case 'fifo':
        this.#make(path, () => makeNode(bytes(path), S_IFIFO | 0o600, 0, 0));
        break;
      case 'character': case 'block':
        this.#device(path, entry);
    }
    this.#attributes(path, entry);
    return undefined;
  }

  #directory(path: string, entry: TarEntry): undefined {
    if (path !== '/') {
      try {
        this.#withParents(path, () => mkdirSync(bytes(path), 0o700));
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw error;
        const found = lstatSync(bytes(path));
        // A directory upon a directory: what is in it stays.
        if (!found.isDirectory()) this.#replaceByDirectory(path, found);
      }
    }
    this.#implicit.delete(path);
    this.#setgid ||= (entry.mode & S_ISGID) !== 0;
    lchownSync(bytes(path), entry.uid, entry.gid);
    chmodSync(bytes(path), entry.mode);
    this.#xattrs(path, entry);
    const [atime, mtime] = timesOf(entry);
    this.#directoryTimes.set(path, { atime, mtime });
  }

  #openFile(path: string, entry: TarEntry): string {
    if (entry.size >= LARGE) {
      const { bavail, bsize } = statfsSync('/');
      if (entry.size > bavail * bsize) throw new HostError(`${quote(entry.path)} is ${entry.size} bytes, and there is room for ${bavail * bsize}`);
    }
    // Exclusive: an archive cannot write into what it or anybody made before, a device least of all.
    const name = isAscii(path) ? path : bytes(path);
    const fd = this.#make(path, () => openSync(name, EXCLUSIVELY, isPlain(entry.mode) ? entry.mode : 0o600));
    // A capability goes when the file is written to, and so may the set-id bits: what has them gets them behind its body.
    const isBare = entry.xattrs.size === 0 && isPlain(entry.mode) && entry.size > 0 && hasWholeSeconds(entry);
    if (isBare && this.#isForeign(entry)) fchownSync(fd, entry.uid, entry.gid);
    this.#file = { fd, entry, path, isBare };
    return this.#withoutLinks(path);
  }

  /** The same path, its directory told without links. */
  #withoutLinks(path: string): string {
    if (!this.#hasLinks) return path;
    const directory = parentOf(path);
    let real = this.#real.get(directory);
    if (real === undefined) this.#real.set(directory, real = realpathSync.native(bytes(directory), 'latin1'));
    return join(real, path.slice(path.lastIndexOf('/') + 1));
  }

  #hardLink(path: string, entry: TarEntry): undefined {
    const target = clean(entry.link.toString('latin1'));
    if (target === path) return;
    try {
      this.#make(path, () => linkSync(bytes(target), bytes(path)));
    } catch (error) {
      const missing = codeOf(error) === 'ENOENT' && !exists(target);
      throw missing ? new TarError(`a hard link to ${quote(entry.link)}, which is not in this archive`) : error;
    }
  }

  #device(path: string, entry: TarEntry): void {
    if (++this.#devices > MAX_DEVICES) throw new TarError(`more than ${MAX_DEVICES} device nodes`);
    const { major, minor } = entry;
    if (major < 0 || major > MAX_MAJOR || minor < 0 || minor > MAX_MINOR) throw new TarError(`device number ${major}:${minor} is out of range`);
    const type = entry.type === 'block' ? S_IFBLK : S_IFCHR;
    this.#make(path, () => makeNode(bytes(path), type | 0o600, major, minor));
  }

  // `.wh.NAME`: what the layers below have under NAME is gone. An entry of that name in this layer stays.
  #whiteout(directory: string, name: string): undefined {
    if (name === '' || name === '.' || name === '..') throw new TarError('a whiteout of nothing');
    const path = join(directory, name);
    try {
      this.#withParents(path, () => makeNode(bytes(path), S_IFCHR, 0, 0));
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      if (lstatSync(bytes(path)).isDirectory()) setXattrAt(bytes(path), OPAQUE_XATTR, Buffer.from('y'));
    }
  }

  // `.wh..wh..opq`: what the layers below have in this directory is gone.
  #opaque(directory: string): undefined {
    this.#makeDirectories(directory);
    setXattrAt(bytes(directory), OPAQUE_XATTR, Buffer.from('y'));
  }

  /** Does `make`, which makes `path`, with its parents there and nothing in its place. */
  #make<T>(path: string, make: () => T): T {
    try {
      return this.#withParents(path, make);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    this.#takeAway(path);
    return make();
  }

  #withParents<T>(path: string, make: () => T): T {
    try {
      return make();
    } catch (error) {
      if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes(codeOf(error))) throw error;
      this.#makeDirectories(parentOf(path));
      return make();
    }
  }

  #makeDirectories(directory: string): void {
    for (let end = directory.indexOf('/', 1); directory !== '/'; end = directory.indexOf('/', end + 1)) {
      this.#makeDirectory(end < 0 ? directory : directory.slice(0, end));
      if (end < 0) return;
    }
  }

  #makeDirectory(path: string): void {
    try {
      mkdirSync(bytes(path), IMPLICIT_MODE);
      this.#implicit.add(path);
      if ((this.#implicitLength += path.length) > MAX_IMPLICIT) throw new TarError('too many directories that no entry names');
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
    if (!leadsToDirectory(path)) throw new TarError(`its directory ${shown(path)} is a symbolic link to ${quote(readlinkSync(bytes(path), 'buffer'))}, which is no directory in this archive`);
  }

  // What a whiteout hid must stay hidden under the directory that takes its place.
  #replaceByDirectory(path: string, found: Stats): void {
    this.#takeAway(path);
    mkdirSync(bytes(path), 0o700);
    if (isWhiteout(found)) setXattrAt(bytes(path), OPAQUE_XATTR, Buffer.from('y'));
  }

  #takeAway(path: string): void {
    this.bodies.settle();
    this.#remove(this.#withoutLinks(path));
    this.#real.clear();
  }

  // The path has no links in it.
  #remove(path: string): void {
    const found = lstatSync(bytes(path));
    if (found.isDirectory()) {
      for (const name of readdirSync(bytes(path), 'buffer')) this.#remove(join(path, name.toString('latin1')));
      rmdirSync(bytes(path));
      this.#implicit.delete(path);
      this.#directoryTimes.delete(path);
      return;
    }
    if (found.isFile() && found.size > 0) this.replaced(path);
    unlinkSync(bytes(path));
    if (found.isSymbolicLink() || (found.isFile() && found.nlink === 1)) this.size -= found.size;
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

/** An empty component, `.` or `..`. */
const UNCLEAN = /(?:^|\/)\.{0,2}(?:\/|$)/;

/** A name in an archive as an absolute path, one character a byte. @throws TarError when it leads above the root, `whole` in words */
export function clean(path: string, whole = 'the image'): string {
  const plain = path.slice(path.startsWith('./') ? 2 : 0, path.endsWith('/') ? -1 : undefined);
  if (!UNCLEAN.test(plain)) return `/${plain}`;
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) throw new TarError(`${quote(path)} is outside of ${whole}`);
  }
  return `/${parts.join('/')}`;
}

/** Nothing that open(2) would not set. */
const isPlain = (mode: number): boolean => (mode & ~0o777) === 0;
const isAscii = (path: string): boolean => /^[\x01-\x7f]*$/.test(path);
const bytes = (path: string): Buffer => Buffer.from(path, 'latin1');
const shown = (path: string): string => quote(bytes(path.slice(1)));
const join = (directory: string, name: string): string => (directory === '/' ? `/${name}` : `${directory}/${name}`);
const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/';
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
const isWhiteout = (found: Stats): boolean => found.isCharacterDevice() && found.rdev === 0;
const exists = (path: string): boolean => lstatSync(bytes(path), { throwIfNoEntry: false }) !== undefined;

function leadsToDirectory(path: string): boolean {
  try {
    return statSync(bytes(path)).isDirectory();
  } catch {
    // A link to nowhere, or to itself.
    return false;
  }
}

const bounded = (time: bigint): bigint => (time > MAX_TIME || time < -MAX_TIME ? 0n : time);
const timesOf = ({ mtime, atime = mtime }: TarEntry): [atime: bigint, mtime: bigint] => [bounded(atime), bounded(mtime)];

// Of these a double says all.
const hasWholeSeconds = ({ mtime, atime }: TarEntry): boolean => atime === undefined && mtime >= 0n && mtime % NS_PER_S === 0n;
const secondsOf = ({ mtime }: TarEntry): number => Number(bounded(mtime) / NS_PER_S);
