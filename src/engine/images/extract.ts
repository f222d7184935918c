/**
 * Creates a layer's files from its archive entries, in overlayfs's format. Runs in a process jailed in the layer's
 * directory (unpacker-main.ts): `/` is that directory, so no name or link can lead outside. Attempts to are refused
 * nevertheless, with the entry's name.
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
import { HostError, type FileWriteRing } from './file-write-ring.ts';
import { bytes, clean, join, nameOf, parentOf } from './byte-path.ts';
import { LayerTree, makeOpaque, type Times } from './layer-tree.ts';
import { quote, TarError, type TarEntry } from './tar.ts';
import { OPAQUE, WHITEOUT } from './whiteout.ts';

const WHITEOUT_META = '.wh..wh.';
/** overlayfs's own attributes: bookkeeping of this host, not for archives to set. */
const OVERLAY_XATTRS = 'trusted.overlay.';
const MAX_DEVICES = 16_384;
/** The size from which a file is compared with the free disk space before its first byte is written. */
const LARGE_FILE = 64 * 1024 * 1024;
const NS_PER_S = 1_000_000_000n;
/** Times beyond this, which a filesystem may be unable to store, become the epoch. */
const MAX_TIME = (1n << 40n) * NS_PER_S;
const NON_ASCII = /[\x80-\xff]/;
const S_ISGID = 0o2000;
const O_CREATE_NEW = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
/** Errors of the host, not of the archive. */
const HOST_ERRORS = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'ENOMEM', 'EMFILE', 'ENFILE']);

interface OpenFile {
  fd: number;
  entry: TarEntry;
  path: string;
  /** Its body and close go through the ring: only whole-second times remain to be set after the body. */
  isQueued: boolean;
}

export class Extractor {
  #bytesWritten = 0;
  #file: OpenFile | undefined;
  #devices = 0;
  #hasSetgidDirectory = false;
  readonly #tree: LayerTree;

  /** @param onReplace called before a later entry replaces a file */
  constructor(
    private readonly ring: FileWriteRing,
    onReplace: (path: string) => void,
  ) {
    this.#tree = new LayerTree(() => ring.settle(), onReplace);
  }

  /** Bytes in files and symbolic links, hard links counted once. */
  get size(): number {
    return this.#bytesWritten - this.#tree.bytesRemoved;
  }

  /**
   * Creates the entry's file, but not a regular file's body. Returns the file's path, free of symbolic links, if its
   * body is to be written; otherwise undefined.
   * @throws TarError, HostError
   */
  begin(entry: TarEntry): string | undefined {
    return this.#withEntryName(entry, () => this.#begin(entry));
  }

  /** Writes the next bytes of the current file's body. */
  write(bytes: Buffer): void {
    const { fd, entry, isQueued } = this.#file!;
    if (isQueued) {
      this.ring.queueWrite(fd, bytes, entry);
      return;
    }
    this.#withEntryName(entry, () => {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
    });
  }

  /** Completes the current entry. */
  end(): void {
    if (!this.#file) return;
    const { fd, entry, path, isQueued } = this.#file;
    this.#file = undefined;
    this.#bytesWritten += entry.size;
    if (isQueued) {
      this.ring.queueClose(fd, secondsOf(entry), entry);
      return;
    }
    this.#withEntryName(entry, () => {
      // Calls are skipped where possible: a layer may have fifty thousand files.
      if (this.#needsChown(entry)) fchownSync(fd, entry.uid, entry.gid);
      if (!hasOnlyPermissionBits(entry.mode)) fchmodSync(fd, entry.mode);
      closeSync(fd);
      this.#setXattrs(path, entry);
      setTimes(bytes(path), ...timesOf(entry));
    });
  }

  /** Completes the layer. Returns the directories without an entry of their own, parents first. */
  finish(): string[] {
    this.ring.settle();
    return this.#tree.finish();
  }

  #begin(entry: TarEntry): string | undefined {
    const path = clean(entry.path);
    const name = nameOf(path);
    if (name === OPAQUE) {
      this.#markOpaque(parentOf(path));
      return undefined;
    }
    // Other `.wh..wh.` names are aufs's own files.
    if (path.includes(`/${WHITEOUT_META}`)) return undefined;
    if (name.startsWith(WHITEOUT)) {
      this.#makeWhiteout(parentOf(path), name.slice(WHITEOUT.length));
      return undefined;
    }
    if (isLinkToRoot(entry)) return undefined;
    if (path === '/' && entry.type !== 'directory') throw new TarError('the root can only be a directory');
    switch (entry.type) {
      case 'directory':
        this.#makeDirectory(path, entry);
        return undefined;
      case 'file':
        return this.#openFile(path, entry);
      case 'hardlink':
        this.#makeHardLink(path, entry);
        return undefined;
      case 'symlink':
        if (entry.link.length === 0) throw new TarError('a symbolic link to nothing');
        this.#tree.make(path, () => symlinkSync(entry.link, bytes(path)));
        this.#tree.noteSymlink();
        this.#bytesWritten += entry.link.length;
        break;
      case 'fifo':
        this.#tree.make(path, () => makeNode(bytes(path), S_IFIFO | 0o600, 0, 0));
        break;
      case 'character':
      case 'block':
        this.#makeDevice(path, entry);
    }
    this.#setAttributes(path, entry);
    return undefined;
  }

  #makeDirectory(path: string, entry: TarEntry): void {
    this.#tree.makeDirectory(path, timesOf(entry));
    this.#hasSetgidDirectory ||= (entry.mode & S_ISGID) !== 0;
    lchownSync(bytes(path), entry.uid, entry.gid);
    chmodSync(bytes(path), entry.mode);
    this.#setXattrs(path, entry);
  }

  #openFile(path: string, entry: TarEntry): string {
    const { mode, size } = entry;
    if (size >= LARGE_FILE) requireDiskSpace(entry);
    const isPlain = hasOnlyPermissionBits(mode);
    const name = isAscii(path) ? path : bytes(path);
    // O_EXCL: an archive cannot write into an existing file, in particular not into a device.
    const fd = this.#tree.make(path, () => openSync(name, O_CREATE_NEW, isPlain ? mode : 0o600));
    // A write clears capabilities and may clear set-id bits (write(2)): they are set after the body.
    const isQueued = entry.xattrs.size === 0 && isPlain && size > 0 && hasWholeSeconds(entry);
    if (isQueued && this.#needsChown(entry)) fchownSync(fd, entry.uid, entry.gid);
    this.#file = { fd, entry, path, isQueued };
    return this.#tree.withoutLinks(path);
  }

  #makeHardLink(path: string, entry: TarEntry): void {
    const target = clean(entry.link.toString('latin1'));
    if (target === path) return;
    try {
      this.#tree.make(path, () => linkSync(bytes(target), bytes(path)));
    } catch (error) {
      const missing = codeOf(error) === 'ENOENT' && !exists(target);
      throw missing ? new TarError(`a hard link to ${quote(entry.link)}, which is not in this archive`) : error;
    }
  }

  #makeDevice(path: string, entry: TarEntry): void {
    if (++this.#devices > MAX_DEVICES) throw new TarError(`more than ${MAX_DEVICES} device nodes`);
    const { major, minor } = entry;
    if (major < 0 || major > MAX_MAJOR || minor < 0 || minor > MAX_MINOR)
      throw new TarError(`device number ${major}:${minor} is out of range`);
    const type = entry.type === 'block' ? S_IFBLK : S_IFCHR;
    this.#tree.make(path, () => makeNode(bytes(path), type | 0o600, major, minor));
  }

  // `.wh.NAME` hides NAME in the layers below. An entry NAME of this layer itself stays (OCI image-spec, layer.md).
  #makeWhiteout(directory: string, name: string): void {
    if (name === '' || name === '.' || name === '..') throw new TarError('a whiteout of nothing');
    const path = join(directory, name);
    try {
      this.#tree.withParents(path, () => makeNode(bytes(path), S_IFCHR, 0, 0));
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      if (lstatSync(bytes(path)).isDirectory()) makeOpaque(path);
    }
  }

  // `.wh..wh..opq` hides what the layers below have in this directory.
  #markOpaque(directory: string): void {
    this.#tree.makeDirectories(directory);
    makeOpaque(directory);
  }

  // New files belong to root, except for their group in a setgid directory.
  #needsChown({ uid, gid }: TarEntry): boolean {
    return uid !== 0 || gid !== 0 || this.#hasSetgidDirectory;
  }

  #setAttributes(path: string, entry: TarEntry): void {
    if (this.#needsChown(entry)) lchownSync(bytes(path), entry.uid, entry.gid);
    if (entry.type !== 'symlink') chmodSync(bytes(path), entry.mode);
    this.#setXattrs(path, entry);
    setTimes(bytes(path), ...timesOf(entry));
  }

  #setXattrs(path: string, entry: TarEntry): void {
    for (const [name, value] of entry.xattrs) {
      if (name.startsWith(OVERLAY_XATTRS)) continue;
      try {
        setXattrAt(bytes(path), name, value);
      } catch (error) {
        // Docker ignores filesystems without support for such attributes, too.
        if (codeOf(error) !== 'ENOTSUP' && codeOf(error) !== 'EOPNOTSUPP') throw error;
      }
    }
  }

  // Adds the entry's name to errors, and classifies them.
  #withEntryName<T>(entry: TarEntry, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof HostError) throw error;
      const text = `${quote(entry.path)}: ${(error as Error).message}`;
      throw HOST_ERRORS.has(codeOf(error)) ? new HostError(text) : new TarError(text);
    }
  }
}

function requireDiskSpace({ path, size }: TarEntry): void {
  const { bavail, bsize } = statfsSync('/');
  if (size > bavail * bsize)
    throw new HostError(`${quote(path)} is ${size} bytes, and there is room for ${bavail * bsize}`);
}

/** Old kaniko writes such entries. No hard link to a directory can exist: skipped, as containerd does. */
const isLinkToRoot = ({ type, link }: TarEntry): boolean =>
  type === 'hardlink' && link.length > 0 && clean(link.toString('latin1')) === '/';

/** Whether open(2) can set the mode. */
const hasOnlyPermissionBits = (mode: number): boolean => (mode & ~0o777) === 0;
// A string path is cheaper than a Buffer, but Node encodes it as UTF-8.
const isAscii = (path: string): boolean => !NON_ASCII.test(path);
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
const exists = (path: string): boolean => lstatSync(bytes(path), { throwIfNoEntry: false }) !== undefined;

const bounded = (time: bigint): bigint => (time > MAX_TIME || time < -MAX_TIME ? 0n : time);
const timesOf = ({ mtime, atime = mtime }: TarEntry): Times => [bounded(atime), bounded(mtime)];

// futimes(2) takes a double, which is exact for whole seconds only.
const hasWholeSeconds = ({ mtime, atime }: TarEntry): boolean =>
  atime === undefined && mtime >= 0n && mtime % NS_PER_S === 0n;
const secondsOf = ({ mtime }: TarEntry): number => Number(bounded(mtime) / NS_PER_S);
