/**
 * Files and directories that every container has because something is mounted upon them (moby daemon/initlayer). They
 * lie between the image
 * and the container's own layer, so that neither `docker diff` nor commit takes them for the container's work. One set
 * for each image.
 */
import { closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { syncDirectory } from '../../sys/file.ts';
import { inheritDirectory, inLayers } from './inherit.ts';

const PLACES: Record<string, 'directory' | 'file' | { link: string }> = {
  '/dev/pts': 'directory',
  '/dev/shm': 'directory',
  '/proc': 'directory',
  '/sys': 'directory',
  '/.dockerenv': 'file',
  '/etc/resolv.conf': 'file',
  '/etc/hosts': 'file',
  '/etc/hostname': 'file',
  '/dev/console': 'file',
  '/etc/mtab': { link: '/proc/mounts' },
};
const MODE = 0o755;

/** Makes `directory`, unless it is there, with what the layers `below` (topmost first) lack. */
export function initLayer(directory: string, below: string[]): string {
  if (existsSync(directory)) return directory;
  const making = `${directory}.new`;
  rmSync(making, { recursive: true, force: true });
  mkdirSync(making, { mode: MODE });
  const parents = new Set<string>();
  for (const [path, kind] of Object.entries(PLACES)) {
    if (inLayers(below, path)) continue;
    const parent = dirname(path);
    // A link there leads the mount elsewhere: it is the image's own affair.
    if (parent !== '/' && inLayers(below, parent)?.isDirectory() === false) continue;
    const place = join(making, path);
    mkdirSync(dirname(place), { recursive: true, mode: MODE });
    if (parent !== '/') parents.add(parent);
    if (kind === 'directory') mkdirSync(place, { recursive: true, mode: MODE });
    else if (kind === 'file') closeSync(openSync(place, 'wx', MODE));
    else symlinkSync(kind.link, place);
  }
  for (const path of parents) if (inheritDirectory(making, path, below)) syncDirectory(join(making, path));
  renameSync(making, directory);
  return directory;
}
