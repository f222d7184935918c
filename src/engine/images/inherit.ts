/**
 * Attributes of directories that a layer does not name but needs (Bazel's and kaniko's layers leave out what is above their files):
 * they are those of the same directory in the layers below, or mounting the layers over each other would change them.
 */
import { chmodSync, closeSync, fsyncSync, lchownSync, lstatSync, openSync, type Stats } from 'node:fs';
import { getXattrAt, setTimes } from '../../sys/inode.ts';

const NS_PER_MS = 1_000_000n;

/** `paths` (`/a`, `/a/b`; one character a byte) lie in the layer at `layer`; `below` are the directories of the layers under it, topmost first. */
export function inheritDirectories(layer: string, paths: string[], below: string[]): void {
  for (const path of paths) {
    const target = walk(layer, path).found;
    const model = target && inLayers(below, path);
    if (!target?.isDirectory() || !model?.isDirectory()) continue;
    const name = under(layer, path);
    lchownSync(name, model.uid, model.gid);
    chmodSync(name, model.mode & 0o7777);
    setTimes(name, BigInt(Math.round(model.atimeMs)) * NS_PER_MS, BigInt(Math.round(model.mtimeMs)) * NS_PER_MS);
    const fd = openSync(name, 'r');
    fsyncSync(fd);
    closeSync(fd);
  }
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
    hidden ||= getXattrAt(name, 'trusted.overlay.opaque')?.toString() === 'y';
    if (end < 0) return { found, hidden };
  }
}

const isWhiteout = (found: Stats): boolean => found.isCharacterDevice() && found.rdev === 0;
const under = (layer: string, path: string): Buffer => Buffer.concat([Buffer.from(layer), Buffer.from(path, 'latin1')]);
