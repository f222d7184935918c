/**
 * Attributes of directories that a layer contains without an entry for them (Bazel and kaniko omit the parents of their
 * files). They are copied from the same directory in the layers below, whose attributes the mount would otherwise hide.
 */
import { chmodSync, constants, lchownSync, lstatSync, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { getXattrAt, setTimes } from '../../sys/inode.ts';
import { isWhiteout, OPAQUE_XATTR } from './whiteout.ts';

const NS_PER_MS = 1_000_000n;
/** Directories between two turns of the event loop: an archive may have any number of them. */
const BATCH = 100;

/**
 * Copies the attributes, and syncs them to disk.
 * @param layer the layer's directory
 * @param paths directories in it (`/a`, `/a/b`), parents first, in latin1
 * @param below the directories of the layers below, topmost first
 */
export async function inheritDirectories(layer: string, paths: string[], below: string[]): Promise<void> {
  const onlyHere = new Set<string>();
  for (const [i, path] of paths.entries()) {
    // If no layer below has the parent, none has this directory either.
    if (onlyHere.has(dirname(path)) || !inheritDirectory(layer, path, below)) onlyHere.add(path);
    else await syncDirectory(under(layer, path));
    if (i % BATCH === 0) await nextTurn();
  }
}

/** Copies the attributes of one directory. Returns false if no layer below has it. */
export function inheritDirectory(layer: string, path: string, below: string[]): boolean {
  const target = lookUp(layer, path).found;
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

/** Looks a path up as overlayfs does: from the topmost layer, until a non-directory or an opaque directory is found. */
export function inLayers(layers: string[], path: string): Stats | undefined {
  for (const layer of layers) {
    const { found, hidesBelow } = lookUp(layer, path);
    if (found || hidesBelow) return found;
  }
  return undefined;
}

// Component by component, without following symbolic links, which could lead anywhere on the host.
function lookUp(layer: string, path: string): { found?: Stats; hidesBelow: boolean } {
  let hidesBelow = false;
  for (let end = path.indexOf('/', 1); ; end = path.indexOf('/', end + 1)) {
    const isLast = end < 0;
    const name = under(layer, isLast ? path : path.slice(0, end));
    const found = lstatSync(name, { throwIfNoEntry: false });
    if (!found) return { hidesBelow };
    if (!found.isDirectory()) return isLast && !isWhiteout(found) ? { found, hidesBelow: true } : { hidesBelow: true };
    hidesBelow ||= getXattrAt(name, OPAQUE_XATTR)?.toString() === 'y';
    if (isLast) return { found, hidesBelow };
  }
}

const under = (layer: string, path: string): Buffer => Buffer.concat([Buffer.from(layer), Buffer.from(path, 'latin1')]);
