/**
 * Files as tar entries, the way Docker packs them: in order of their names, times in whole seconds,
 * `security.capability` and `user.*` of the
 * extended attributes, no sockets. Synchronous, for a process that is jailed (packer.ts): it follows no link and opens
 * nothing but plain files.
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
import type { TarEntry } from './tar.ts';
import { bodyPadding, encodeHeader, newEntry } from './tar-writer.ts';
import { isWhiteout, OPAQUE, OPAQUE_XATTR, WHITEOUT } from './whiteout.ts';

const READ_SIZE = 1 << 20;
const NS_PER_S = 1_000_000_000n;
/** What became of a file between the look at it and its opening. */
const GONE = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO']);

export interface PackOptions {
  /** The tree is an overlay's upper directory: its marks become a layer's whiteouts. */
  whiteouts?: boolean;
}

export class Packer {
  readonly #links = new Map<string, Buffer>();
  readonly #buffer = Buffer.allocUnsafe(READ_SIZE);

  /** `out` gets the archive's bytes in order, and may not keep the buffer. */
  constructor(
    private readonly out: (bytes: Buffer) => void,
    private readonly options: PackOptions = {},
  ) {}

  /**
   * What lies below a directory, under `name` in the archive ('' for its root), in order. Names have one character a
   * byte.
   */
  children(directory: string, name: string): void {
    for (const child of namesIn(directory)) this.add(join(directory, child), name === '' ? child : `${name}/${child}`);
  }

  /** What lies below the root, under names that begin with a slash. */
  rooted(): void {
    for (const child of namesIn('/')) this.add(`/${child}`, `/${child}`);
  }

  /** The file or directory at `path`, with all below it. What is gone meanwhile is left out. */
  add(path: string, name: string): void {
    const found = look(path);
    if (!found) return;
    if (this.options.whiteouts && isWhiteout(found)) {
      const slash = name.lastIndexOf('/') + 1;
      this.out(
        encodeHeader(
          newEntry('file', bytes(`${name.slice(0, slash)}${WHITEOUT}${name.slice(slash)}`), {
            mode: 0o600,
            mtime: mtimeOf(found),
          }),
        ),
      );
      return;
    }
    const entry = this.#describe(path, name, found);
    if (!entry) return;
    if (entry.type === 'file' && entry.size > 0) return this.#file(path, entry, found);
    this.out(encodeHeader(entry));
    if (entry.type !== 'directory') return;
    if (this.options.whiteouts && isOpaque(path))
      this.out(encodeHeader(newEntry('file', bytes(`${name}/${OPAQUE}`), { mode: 0o600, mtime: mtimeOf(found) })));
    this.children(path, name);
  }

  // undefined for what no archive holds.
  #describe(path: string, name: string, found: Stats): TarEntry | undefined {
    const common = { mode: found.mode & 0o7777, uid: found.uid, gid: found.gid, mtime: mtimeOf(found) };
    if (found.isDirectory()) return newEntry('directory', bytes(`${name}/`), { ...common, xattrs: xattrsOf(path) });
    const first = this.#firstName(path, name, found);
    if (first) return newEntry('hardlink', bytes(name), { ...common, link: first });
    if (found.isSymbolicLink())
      return newEntry('symlink', bytes(name), { ...common, mode: 0o777, link: readlinkSync(bytes(path), 'buffer') });
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

  // An inode that has several names is packed once.
  #firstName(path: string, name: string, { nlink }: Stats): Buffer | undefined {
    if (nlink < 2) return undefined;
    // A double does not hold every inode number (xino of overlayfs uses the upper bits).
    const { dev, ino } = lstatSync(bytes(path), { bigint: true });
    const key = `${dev}:${ino}`;
    const first = this.#links.get(key);
    if (!first) this.#links.set(key, bytes(name));
    return first;
  }

  // As many bytes as its header says, whatever is written to it meanwhile.
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
      for (this.#buffer.fill(0, 0, Math.min(left, READ_SIZE)); left > 0; left -= Math.min(left, READ_SIZE))
        this.out(this.#buffer.subarray(0, Math.min(left, READ_SIZE)));
    } finally {
      closeSync(fd);
    }
    this.out(bodyPadding(entry.size));
  }
}

/** A descriptor of the plain file that `found` told of; undefined when something else is there by now. */
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

/** undefined when there is nothing (any more). Never follows a final link. */
export function look(path: string): Stats | undefined {
  try {
    return lstatSync(bytes(path), { throwIfNoEntry: false });
  } catch (error) {
    if (GONE.has(codeOf(error))) return undefined;
    throw error;
  }
}

/** Names in a directory, one character a byte, in the order of their bytes. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(bytes(directory), 'buffer')
      .map((name) => name.toString('latin1'))
      .sort();
  } catch (error) {
    if (GONE.has(codeOf(error))) return [];
    throw error;
  }
}

/** overlayfs's mark for a directory whose lower ones do not count. */
export const isOpaque = (path: string): boolean => xattr(path, OPAQUE_XATTR)?.toString() === 'y';

function xattrsOf(path: string): Map<string, Buffer> {
  const values = new Map<string, Buffer>();
  for (const name of names(path)
    .filter((each) => each === 'security.capability' || each.startsWith('user.'))
    .sort()) {
    const value = xattr(path, name);
    if (value) values.set(name, value);
  }
  return values;
}

function names(path: string): string[] {
  try {
    return listXattrsAt(bytes(path));
  } catch (error) {
    if (GONE.has(codeOf(error))) return [];
    throw error;
  }
}

function xattr(path: string, name: string): Buffer | undefined {
  try {
    return getXattrAt(bytes(path), name);
  } catch (error) {
    if (GONE.has(codeOf(error))) return undefined;
    throw error;
  }
}

const mtimeOf = (found: Stats): bigint => BigInt(Math.floor(found.mtimeMs / 1000)) * NS_PER_S;
const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
