/**
 * Confines the archive worker (archive-worker.ts) to a container's files: the container's root becomes the worker's
 * root, in a mount namespace of its own. No symbolic link can lead out of it, even if the container swaps one while
 * the worker follows it.
 *
 * For a running container the mounts are copied from its mount namespace, so the worker sees its tmpfs mounts too; for
 * a stopped one they are rebuilt from its definition. procfs is detached, as its magic links (symlink(7)) lead out of
 * the root, and devices cannot be opened.
 */
import { closeSync, lstatSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { pathBeneath } from '../../sys/inroot.ts';
import type { Fd } from '../../sys/libc.ts';
import { unshareMounts } from '../../sys/mount.ts';
import {
  attachMounts,
  ATTR,
  cloneMounts,
  unmountTree,
  enterMountNamespace,
  readThreadMounts,
  openProc,
  pivotRoot,
  setMountFlags,
} from '../../sys/mount-tree.ts';

export interface ViewMount {
  source: string;
  /** Part of the source to mount; undefined = all of it. */
  subpath?: string;
  destination: string;
  readOnly: boolean;
}

export interface View {
  /** The rootfs mount point on the host. */
  rootfs: string;
  /** The container runs, and descriptor 4 is its mount namespace. */
  running: boolean;
  /** Device and inode of the container's root, to detect that a running container has replaced it. */
  root: { dev: number; ino: number };
  /** For a running container only the destinations are used. */
  mounts: ViewMount[];
}

const NAMESPACE_FD = 4;
const O_PATH = 0o10000000;
/** Besides procfs. Copying from or into these makes no sense. */
const KERNEL_FILE_SYSTEMS = new Set([
  'sysfs',
  'cgroup',
  'cgroup2',
  'mqueue',
  'devpts',
  'securityfs',
  'debugfs',
  'tracefs',
  'bpf',
]);
/** More mounts than any container has. */
const MAX_ROUNDS = 10_000;

/**
 * Makes the view this thread's root. The other threads keep theirs, so only synchronous calls may follow.
 * @throws when the container has replaced its root, or a mount fails
 */
export function enterView(view: View): void {
  const proc = openProc();
  if (view.running) {
    enterMountNamespace(NAMESPACE_FD);
    unshareMounts();
    const { dev, ino } = statSync('/');
    if (dev !== view.root.dev || ino !== view.root.ino) throw new Error('the root of the container has changed');
  } else {
    rebuild(view);
  }
  const destinations = view.mounts.map(({ destination }) => destination);
  detachUnwanted(proc, destinations);
  setMountFlags(ATTR.NODEV);
  closeSync(proc);
}

function rebuild({ rootfs, mounts }: View): void {
  unshareMounts();
  const trees = mounts.map((mount) => ({ mount, tree: treeOf(mount) }));
  pivotRoot(rootfs);
  for (const { mount, tree } of trees) {
    if (tree === undefined) continue;
    makeMountPoint(mount.destination, tree.isDirectory);
    attachMounts(tree.fd, mount.destination);
    closeSync(tree.fd);
  }
}

/** undefined when the source does not exist: missing bind sources are only created when the container starts. */
function treeOf({ source, subpath, readOnly }: ViewMount): { fd: Fd; isDirectory: boolean } | undefined {
  let sourceFd: Fd;
  try {
    sourceFd = subpath === undefined ? openSync(source, O_PATH) : pathBeneath(source, subpath);
  } catch {
    return undefined;
  }
  try {
    const fd = cloneMounts(sourceFd);
    if (readOnly) setMountFlags(ATTR.RDONLY, fd);
    return { fd, isDirectory: isDirectory(fd) };
  } finally {
    closeSync(sourceFd);
  }
}

const isDirectory = (fd: Fd): boolean => statSync(`/proc/self/fd/${fd}`).isDirectory();

/** Creates a missing mount point as the runtime does. */
function makeMountPoint(path: string, isDirectory: boolean): void {
  mkdirSync(isDirectory ? path : dirname(path), { recursive: true, mode: 0o755 });
  if (!isDirectory && !lstatSync(path, { throwIfNoEntry: false })) writeFileSync(path, '', { flag: 'wx', mode: 0o644 });
}

/**
 * Detaches every mount that must not be in the view, outermost first. A process that shares the container's files may
 * rename a parent directory in between, so the mounts are listed again after each step.
 */
function detachUnwanted(proc: Fd, destinations: readonly string[]): void {
  for (let round = 0; ; round++) {
    const [next] = readThreadMounts(proc)
      .filter((mount) => isUnwanted(mount, destinations))
      .sort((a, b) => a.point.length - b.point.length);
    if (!next) return;
    if (!unmountTree(next.point) && round > MAX_ROUNDS) throw new Error(`cannot detach ${next.point} from the view`);
    if (round > 2 * MAX_ROUNDS) throw new Error('the mounts keep changing');
  }
}

/** procfs, kernel file systems that the user did not mount, and the runtime's own /dev. */
function isUnwanted({ point, type }: { point: string; type: string }, destinations: readonly string[]): boolean {
  if (type === 'proc') return true;
  if (KERNEL_FILE_SYSTEMS.has(type)) return !destinations.some((destination) => isWithin(point, destination));
  return point === '/dev' && !destinations.some((destination) => isWithin(destination, '/dev'));
}

const isWithin = (path: string, directory: string): boolean => path === directory || path.startsWith(`${directory}/`);
