/**
 * The init layer: files and directories that every container has as mount points (moby daemon/initlayer). It lies
 * between the image and the container's writable layer, so that diff and commit do not report them. One per image.
 */
import { closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { syncDirectory } from '../../sys/file.ts';
import { inheritDirectory, inLayers } from './inherit.ts';

const MOUNT_POINTS: Record<string, 'directory' | 'file' | { linkTo: string }> = {
  '/dev/pts': 'directory',
  '/dev/shm': 'directory',
  '/proc': 'directory',
  '/sys': 'directory',
  '/.dockerenv': 'file',
  '/etc/resolv.conf': 'file',
  '/etc/hosts': 'file',
  '/etc/hostname': 'file',
  '/dev/console': 'file',
  '/etc/mtab': { linkTo: '/proc/mounts' },
};
const MODE = 0o755;

/** Creates the init layer in `directory`, unless it exists, with what the layers `below` (topmost first) lack. */
export function initLayer(directory: string, below: string[]): string {
  if (existsSync(directory)) return directory;
  const incomplete = `${directory}.new`;
  rmSync(incomplete, { recursive: true, force: true });
  mkdirSync(incomplete, { mode: MODE });
  const parents = new Set<string>();
  for (const [path, kind] of Object.entries(MOUNT_POINTS)) {
    if (inLayers(below, path)) continue;
    const parent = dirname(path);
    // A symbolic link as the parent: the image redirects the mount elsewhere.
    if (parent !== '/' && inLayers(below, parent)?.isDirectory() === false) continue;
    const target = join(incomplete, path);
    mkdirSync(dirname(target), { recursive: true, mode: MODE });
    if (parent !== '/') parents.add(parent);
    if (kind === 'directory') mkdirSync(target, { recursive: true, mode: MODE });
    else if (kind === 'file') closeSync(openSync(target, 'wx', MODE));
    else symlinkSync(kind.linkTo, target);
  }
  for (const path of parents) if (inheritDirectory(incomplete, path, below)) syncDirectory(join(incomplete, path));
  renameSync(incomplete, directory);
  return directory;
}
