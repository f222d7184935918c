/**
 * Packs files as Docker does: ordered by name, times in whole seconds, only `security.capability` and `user.*` of the
 * extended attributes, no sockets. Synchronous, for a jailed process (packer-main.ts): it follows no symbolic link and
 * opens only regular files.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type Stats,
} from 'node:fs';
import { deviceNumbers, getXattrAt, listXattrsAt } from '../../sys/inode.ts';
import { bytes, join } from './byte-path.ts';
import { checkPathLength, inDirectory, isDeep } from './deep-path.ts';
import type { TarEntry } from './tar.ts';
import { bodyPadding, encodeHeader, newEntry } from './tar-writer.ts';
import { isWhiteout, OPAQUE, OPAQUE_XATTR, WHITEOUT } from './whiteout.ts';

const READ_SIZE = 1 << 20;
const NS_PER_S = 1_000_000_000n;
/** Errors for a file that was removed or replaced after it was listed; EINVAL is readlink(2)'s, ESTALE overlayfs's. */
const GONE = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EINVAL', 'ESTALE']);

export interface PackOptions {
  /** The tree is an overlay's upper directory: converts its whiteouts to a layer's. */
  whiteouts?: boolean;
}

export class Packer {
  /** The first name of each inode with several links, by `dev:ino`. */
  readonly #firstNames = new Map<string, Buffer>();
  readonly #buffer = Buffer.allocUnsafe(READ_SIZE);

  /** @param out receives the archive's bytes; the buffer is reused after the call */
  constructor(
    private readonly out: (bytes: Buffer) => void,
    private readonly options: PackOptions = {},
  ) {}

  /** Packs a directory's contents under `name`, '' for the archive's root. Paths and names are latin1. */
  children(directory: string, name: string): void {
    if (isDeep(directory)) {
      unlessGone(() => inDirectory(directory, () => this.children('.', name)));
      return;
    }
    for (const child of namesIn(directory)) this.add(join(directory, child), name === '' ? child : `${name}/${child}`);
  }

  /** Packs the root's contents under names with a leading slash. */
  rooted(): void {
    for (const child of namesIn('/')) this.add(`/${child}`, `/${child}`);
  }

  /** Packs the file or directory at `path`. Skips files that disappear meanwhile. */
  add(path: string, name: string): void {
    const found = look(path);
    if (!found) return;
    checkPathLength(name);
    if (this.options.whiteouts && isWhiteout(found)) {
      const slash = name.lastIndexOf('/') + 1;
      this.#whiteout(`${name.slice(0, slash)}${WHITEOUT}${name.slice(slash)}`, found);
      return;
    }
    const entry = this.#describe(path, name, found);
    if (!entry) return;
    if (entry.type === 'file' && entry.size > 0) {
      this.#file(path, entry, found);
      return;
    }
    this.out(encodeHeader(entry));
    if (entry.type !== 'directory') return;
    if (this.options.whiteouts && isOpaque(path)) this.#whiteout(`${name}/${OPAQUE}`, found);
    this.children(path, name);
  }

  #whiteout(name: string, found: Stats): void {
    this.out(encodeHeader(newEntry('file', bytes(name), { mode: 0o600, mtime: mtimeOf(found) })));
  }

  // undefined for a socket.
  #describe(path: string, name: string, found: Stats): TarEntry | undefined {
    const common = { mode: found.mode & 0o7777, uid: found.uid, gid: found.gid, mtime: mtimeOf(found) };
    if (found.isDirectory()) return newEntry('directory', bytes(`${name}/`), { ...common, xattrs: xattrsOf(path) });
    const first = this.#firstName(path, name, found);
    if (first) return newEntry('hardlink', bytes(name), { ...common, link: first });
    if (found.isSymbolicLink()) {
      const link = unlessGone(() => readlinkSync(bytes(path), 'buffer'));
      return link && newEntry('symlink', bytes(name), { ...common, mode: 0o777, link });
    }
    if (found.isFile()) return newEntry('file', bytes(name), { ...common, size: found.size, xattrs: xattrsOf(path) });
    if (found.isFIFO()) return newEntry('fifo', bytes(name), { ...common, xattrs: xattrsOf(path) });
    if (found.isCharacterDevice() || found.isBlockDevice()) {
      return newEntry(found.isBlockDevice() ? 'block' : 'character', bytes(name), {
        ...common,
        ...deviceNumbers(found.rdev),
        xattrs: xattrsOf(path),
      });
    }
    return undefined;
  }

  // The name under which an inode with several links was packed already.
  #firstName(path: string, name: string, { nlink }: Stats): Buffer | undefined {
    if (nlink < 2) return undefined;
    // bigint: overlayfs's xino sets the upper bits of inode numbers, which a double cannot represent.
    const exact = unlessGone(() => lstatSync(bytes(path), { bigint: true }));
    if (!exact) return undefined;
    const key = `${exact.dev}:${exact.ino}`;
    const first = this.#firstNames.get(key);
    if (!first) this.#firstNames.set(key, bytes(name));
    return first;
  }

  // Writes as many bytes as the header says, even if the file shrinks or grows meanwhile.
  #file(path: string, entry: TarEntry, found: Stats): void {
    const fd = openPlain(path, found);
    if (fd === undefined) return;
    try {
      this.out(encodeHeader(entry));
      let left = entry.size;
      while (left > 0) {
        const n = readSync(fd, this.#buffer, 0, Math.min(left, READ_SIZE), null);
        if (n === 0) break;
        this.out(this.#buffer.subarray(0, n));
        left -= n;
      }
      this.#zeros(left);
    } finally {
      closeSync(fd);
    }
    this.out(bodyPadding(entry.size));
  }

  #zeros(count: number): void {
    this.#buffer.fill(0, 0, Math.min(count, READ_SIZE));
    for (let left = count; left > 0; left -= READ_SIZE) this.out(this.#buffer.subarray(0, Math.min(left, READ_SIZE)));
  }
}

/** Opens a regular file; undefined if it is missing, of another type, or not the inode in `found`. */
export function openPlain(path: string, found?: Stats): number | undefined {
  let fd: number;
  try {
    fd = openSync(bytes(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (GONE.has(codeOf(error))) return undefined;
    throw error;
  }
  const opened = fstatSync(fd);
  if (opened.isFile() && (!found || opened.ino === found.ino)) return fd;
  closeSync(fd);
  return undefined;
}

/** lstat(2); undefined if there is no such file. */
export const look = (path: string): Stats | undefined =>
  unlessGone(() => lstatSync(bytes(path), { throwIfNoEntry: false }));

/** What `read` returns; undefined if its file was removed or replaced meanwhile. */
export function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (GONE.has(codeOf(error))) return undefined;
    throw error;
  }
}

/** The names in a directory in latin1, in byte order. */
export function namesIn(directory: string): string[] {
  const names = unlessGone(() => readdirSync(bytes(directory), 'buffer')) ?? [];
  return names.map((name) => name.toString('latin1')).sort();
}

/** Whether overlayfs hides the contents of the same directory in the layers below. */
export const isOpaque = (path: string): boolean => xattr(path, OPAQUE_XATTR)?.toString() === 'y';

function xattrsOf(path: string): Map<string, Buffer> {
  const names = xattrNames(path).filter((name) => name === 'security.capability' || name.startsWith('user.'));
  const values = new Map<string, Buffer>();
  for (const name of names.sort()) {
    const value = xattr(path, name);
    if (value) values.set(name, value);
  }
  return values;
}

const xattrNames = (path: string): string[] => unlessGone(() => listXattrsAt(bytes(path))) ?? [];

const xattr = (path: string, name: string): Buffer | undefined => unlessGone(() => getXattrAt(bytes(path), name));

const mtimeOf = (found: Stats): bigint => BigInt(Math.floor(found.mtimeMs / 1000)) * NS_PER_S;
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
