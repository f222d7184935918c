/**
 * What a container changed, by comparing its own layer with what lies below (moby pkg/archive/changes.go). Runs jailed
 * (packer.ts).
 */
import type { Stats } from 'node:fs';
import { getXattrAt } from '../../sys/inode.ts';
import { isOpaque, look, namesIn } from './pack.ts';
import { isWhiteout } from './whiteout.ts';

/** Docker's numbers. */
const MODIFIED = 0;
const ADDED = 1;
const DELETED = 2;

export interface Change {
  /** One character a byte. */
  path: string;
  kind: typeof MODIFIED | typeof ADDED | typeof DELETED;
}

/** `upper` is an overlay's upper directory, `lower` the same tree without it. */
export function compare(upper: string, lower: string): Change[] {
  return within(upper, lower, '', true);
}

// Parents before children; a directory with changes in it counts as changed.
function within(upper: string, lower: string, directory: string, isBelow: boolean): Change[] {
  const own = new Set(namesIn(upper + directory));
  const hidden =
    isBelow && isOpaque(upper + directory) ? namesIn(lower + directory).filter((name) => !own.has(name)) : [];
  return [...own, ...hidden].sort().flatMap((name): Change[] => {
    const path = `${directory}/${name}`;
    return own.has(name) ? of(upper, lower, path, isBelow) : [{ path, kind: DELETED }];
  });
}

function of(upper: string, lower: string, path: string, isBelow: boolean): Change[] {
  const now = look(upper + path);
  if (!now) return [];
  const before = isBelow ? look(lower + path) : undefined;
  if (isWhiteout(now)) return before ? [{ path, kind: DELETED }] : [];
  const inside = now.isDirectory() ? within(upper, lower, path, before?.isDirectory() === true) : [];
  if (!before) return [{ path, kind: ADDED }, ...inside];
  const isChanged = inside.length > 0 || differ(before, now) || !sameCapability(lower + path, upper + path);
  return isChanged ? [{ path, kind: MODIFIED }, ...inside] : [];
}

// A directory's size and time say nothing of the directory itself.
function differ(before: Stats, now: Stats): boolean {
  if (before.mode !== now.mode || before.uid !== now.uid || before.gid !== now.gid || before.rdev !== now.rdev)
    return true;
  return !now.isDirectory() && (before.size !== now.size || before.mtimeMs !== now.mtimeMs);
}

function sameCapability(before: string, now: string): boolean {
  const [a, b] = [before, now].map((path) => getXattrAt(Buffer.from(path, 'latin1'), 'security.capability'));
  return a === undefined || b === undefined ? a === b : a.equals(b);
}
