/** The disk usage of directories that containers write to. */
import { lstat, opendir } from 'node:fs/promises';

/** In place of a size: the tree could not be read, because a path in it is longer than PATH_MAX for example. */
export const UNKNOWN_SIZE = -1;

const BATCH = 100;
const SLASH = Buffer.from('/');

/**
 * Bytes below `path`, or UNKNOWN_SIZE. Counts as Docker does: everything but directories, hard links once. Ignores what
 * disappears during the walk.
 */
export async function treeSize(path: string): Promise<number> {
  try {
    return await sizeOf(Buffer.from(path), new Set());
  } catch {
    return UNKNOWN_SIZE;
  }
}

async function sizeOf(path: Buffer, seen: Set<number>): Promise<number> {
  // Read in batches: a directory may have any number of entries.
  const directory = await opendir(path, { encoding: 'buffer' as BufferEncoding, bufferSize: BATCH }).catch(ifMissing);
  if (!directory) return 0;
  let size = 0;
  for await (const entry of directory) {
    const inner = Buffer.concat([path, SLASH, Buffer.from(entry.name)]);
    const found = await lstat(inner).catch(ifMissing);
    if (!found) continue;
    if (found.isDirectory()) size += await sizeOf(inner, seen);
    else if (found.nlink === 1 || !seen.has(found.ino)) {
      if (found.nlink > 1) seen.add(found.ino);
      size += found.size;
    }
  }
  return size;
}

function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}
