/**
 * Attributes of directories that a layer does not name but needs (Bazel's and kaniko's layers leave out what is above
 * their files):
 * they are those of the same directory in the layers below, or mounting the layers over each other would change them.
 */
import { chmodSync, constants, lchownSync, lstatSync, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { getXattrAt, setTimes } from '../../sys/inode.ts';
import { isWhiteout, OPAQUE_XATTR } from './whiteout.ts';

const NS_PER_MS = 1_000_000n;
const AT_ONCE = 100;

/**
 * `paths` (`/a`, `/a/b`; parents first, one character a byte) lie in the layer at `layer`; `below` are the directories
 * of the layers under it, topmost first. On disk afterwards.
 */
export async function inheritDirectories(layer: string, paths: string[], below: string[]): Promise<void> {
  const own = new Set<string>();
  for (const [i, path] of paths.entries()) {
    // What is in a directory that no layer below has, none has either.
    if (own.has(dirname(path)) || !inheritDirectory(layer, path, below)) own.add(path);
    else await syncDirectory(under(layer, path));
    // An archive may have any number of them, and this process others to serve.
    if (i % AT_ONCE === 0) await turn();
  }
}

/** Whether the directory is one below as well: then it has the same attributes now. */
export function inheritDirectory(layer: string, path: string, below: string[]): boolean {
  const target = walk(layer, path).found;
  const model = target && inLayers(below, path);
  if (!target?.isDirectory() || !model?.isDirectory()) return false;
  const name = under(layer, path);
  lchownSync(name, model.uid, model.gid);
  chmodSync(name, model.mode & 0o7777);
  setTimes(name, BigInt(Math.round(model.atimeMs)) * NS_PER_MS, BigInt(Math.round(model.mtimeMs)) * NS_PER_MS);
  return true;
}

async function syncDirectory(path: Buffer): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  await directory.sync().finally(() => directory.close());
}

/** As overlayfs looks a name up: from the top, until something is no directory, or opaque. */
export function inLayers(layers: string[], path: string): Stats | undefined {
  for (const layer of layers) {
    const { found, hidden } = walk(layer, path);
    if (found || hidden) return found;
  }
  return undefined;
}

// One component at a time: the layer's own links are never followed, they could lead anywhere on this host.
function walk(layer: string, path: string): { found?: Stats; hidden: boolean } {
  let found: Stats | undefined;
  let hidden = false;
  for (let end = path.indexOf('/', 1); ; end = path.indexOf('/', end + 1)) {
    const name = under(layer, end < 0 ? path : path.slice(0, end));
    found = lstatSync(name, { throwIfNoEntry: false });
    if (!found) return { hidden };
    if (!found.isDirectory()) return end < 0 && !isWhiteout(found) ? { found, hidden: true } : { hidden: true };
    hidden ||= getXattrAt(name, OPAQUE_XATTR)?.toString() === 'y';
    if (end < 0) return { found, hidden };
  }
}

const under = (layer: string, path: string): Buffer => Buffer.concat([Buffer.from(layer), Buffer.from(path, 'latin1')]);
