/** The disk usage of a directory. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** The sum of the file sizes below `path`, in bytes. Files that are deleted meanwhile count as 0. */
export async function bytesIn(path: string): Promise<number> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  let bytes = 0;
  for (const entry of entries) {
    const inner = join(path, entry.name);
    bytes += entry.isDirectory()
      ? await bytesIn(inner)
      : await lstat(inner).then(
          (s) => s.size,
          () => 0,
        );
  }
  return bytes;
}
