/**
 * `docker diff`: compares an overlay's upper directory with the tree below it (moby pkg/archive/changes.go). Runs in
 * the jailed packer (packer-main.ts).
 */
import type { Stats } from 'node:fs';
import { getXattrAt } from '../../sys/inode.ts';
import { isOpaque, look, namesIn } from './pack.ts';
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
  return diffDirectory(upper, lower, '', true);
}

// `existsBelow`: the lower tree has this directory too.
function diffDirectory(upper: string, lower: string, directory: string, existsBelow: boolean): Change[] {
  const own = new Set(namesIn(upper + directory));
  const hidesLower = existsBelow && isOpaque(upper + directory);
  const hidden = hidesLower ? namesIn(lower + directory).filter((name) => !own.has(name)) : [];
  return [...own, ...hidden].sort().flatMap((name): Change[] => {
    const path = `${directory}/${name}`;
    return own.has(name) ? diffFile(upper, lower, path, existsBelow) : [{ path, kind: DELETED }];
  });
}

function diffFile(upper: string, lower: string, path: string, parentExistsBelow: boolean): Change[] {
  const now = look(upper + path);
  if (!now) return [];
  const before = parentExistsBelow ? look(lower + path) : undefined;
  if (isWhiteout(now)) return before ? [{ path, kind: DELETED }] : [];
  const inside = now.isDirectory() ? diffDirectory(upper, lower, path, before?.isDirectory() === true) : [];
  if (!before) return [{ path, kind: ADDED }, ...inside];
  const isModified = inside.length > 0 || differ(before, now) || !sameCapability(lower + path, upper + path);
  return isModified ? [{ path, kind: MODIFIED }, ...inside] : [];
}

// A directory's size and mtime reflect changes in it, which are reported themselves.
function differ(before: Stats, now: Stats): boolean {
  if (before.mode !== now.mode || before.uid !== now.uid || before.gid !== now.gid || before.rdev !== now.rdev)
    return true;
  return !now.isDirectory() && (before.size !== now.size || before.mtimeMs !== now.mtimeMs);
}

function sameCapability(before: string, now: string): boolean {
  const [a, b] = [before, now].map((path) => getXattrAt(Buffer.from(path, 'latin1'), 'security.capability'));
  return a === undefined || b === undefined ? a === b : a.equals(b);
}
