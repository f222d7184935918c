/**
 * `docker diff`: compares an overlay's upper directory with the tree below it (moby pkg/archive/changes.go). Runs in
 * the jailed packer (packer-main.ts).
 */
import type { Stats } from 'node:fs';
import { getXattrAt } from '../../sys/inode.ts';
import { bytes } from './byte-path.ts';
import { checkPathLength, inDirectory, isDeep } from './deep-path.ts';
import { isOpaque, look, namesIn, unlessGone } from './pack.ts';
import { isWhiteout } from './whiteout.ts';

/** The API's change kinds. */
const MODIFIED = 0;
const ADDED = 1;
const DELETED = 2;

export interface Change {
  /** In latin1. */
  path: string;
  kind: typeof MODIFIED | typeof ADDED | typeof DELETED;
}

/**
 * Lists the changes, parents before children; a directory with changes in it counts as modified.
 * @param upper an overlay's upper directory
 * @param lower the merged tree below it
 */
export function diffUpper(upper: string, lower: string): Change[] {
  const changes: Change[] = [];
  diffDirectory({ upper, lower, path: '' }, true, changes);
  return changes;
}

/** A file in both trees. */
interface Place {
  /** In the upper tree, perhaps from the working directory. */
  upper: string;
  /** The lower tree's root: images have no paths longer than PATH_MAX. */
  lower: string;
  /** From the root of both. */
  path: string;
}

// Appends to `changes`, with few stack frames per directory. `existsBelow`: the lower tree has this directory too.
function diffDirectory(place: Place, existsBelow: boolean, changes: Change[]): void {
  const { upper, lower, path } = place;
  if (isDeep(upper)) {
    unlessGone(() => inDirectory(upper, () => diffDirectory({ ...place, upper: '.' }, existsBelow, changes)));
    return;
  }
  const own = new Set(namesIn(upper));
  const hidesLower = existsBelow && isOpaque(upper);
  const hidden = hidesLower ? namesIn(lower + path).filter((name) => !own.has(name)) : [];
  for (const name of [...own, ...hidden].sort()) {
    const inner = `${path}/${name}`;
    checkPathLength(inner);
    if (own.has(name)) diffFile({ upper: `${upper}/${name}`, lower, path: inner }, existsBelow, changes);
    else changes.push({ path: inner, kind: DELETED });
  }
}

function diffFile(place: Place, parentExistsBelow: boolean, changes: Change[]): void {
  const { upper, lower, path } = place;
  const now = look(upper);
  if (!now) return;
  const before = parentExistsBelow ? look(lower + path) : undefined;
  if (isWhiteout(now)) {
    if (before) changes.push({ path, kind: DELETED });
    return;
  }
  const count = changes.push({ path, kind: before ? MODIFIED : ADDED });
  if (now.isDirectory()) diffDirectory(place, before?.isDirectory() === true, changes);
  const hasInside = changes.length > count;
  if (before && !hasInside && !differ(before, now) && sameCapability(lower + path, upper)) changes.pop();
}

// A directory's size and mtime reflect changes in it, which are reported themselves.
function differ(before: Stats, now: Stats): boolean {
  if (before.mode !== now.mode || before.uid !== now.uid || before.gid !== now.gid || before.rdev !== now.rdev)
    return true;
  return !now.isDirectory() && (before.size !== now.size || before.mtimeMs !== now.mtimeMs);
}

function sameCapability(before: string, now: string): boolean {
  const [a, b] = [before, now].map((path) => unlessGone(() => getXattrAt(bytes(path), 'security.capability')));
  return a === undefined || b === undefined ? a === b : a.equals(b);
}
