/**
 * A container's files as its own processes see them, for a worker of ours (archive-worker.ts), and nothing else: the
 * worker's root is the
 * container's, in mounts of its own. Wherever a link leads, however often the container swaps it, it leads to the
 * container's files.
 *
 * Of a running one they are copied from its mount namespace, so that its tmpfs are there too; of a stopped one they are
 * made again.
 * What would lead out all the same goes: procfs (the links in /proc/PID are no ordinary ones), and devices cannot be
 * opened.
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
  /** What of the source; all of it when absent. */
  subpath?: string;
  destination: string;
  readOnly: boolean;
}

export interface View {
  /** Where its root is mounted on the host. */
  rootfs: string;
  /** Whether descriptor 4 is the mount namespace of its running process. */
  running: boolean;
  /** Device and inode of its root, as a proof. */
  root: { dev: number; ino: number };
  /** What is mounted in it; with a running one only the destinations count. */
  mounts: ViewMount[];
}

const NAMESPACE = 4;
const O_PATH = 0o10000000;
/** Kernel file systems that no copy should hold; of the rest only what is below them. */
const KERNELS = new Set([
  'proc',
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
/** More than any container has mounts upon each other. */
const MAX_ROUNDS = 10_000;

/** Makes it this thread's root. Only synchronous calls obey it. @throws when it cannot be had */
export function enterView(view: View): void {
  const proc = openProc();
  if (view.running) {
    enterMountNamespace(NAMESPACE);
    unshareMounts();
    const { dev, ino } = statSync('/');
    if (dev !== view.root.dev || ino !== view.root.ino) throw new Error('the container has another root by now');
  } else {
    rebuild(view);
  }
  takeAway(
    proc,
    view.mounts.map(({ destination }) => destination),
  );
  setMountFlags(ATTR.NODEV);
  closeSync(proc);
}

function rebuild({ rootfs, mounts }: View): void {
  unshareMounts();
  const trees = mounts.map((mount) => ({ mount, tree: treeOf(mount) }));
  pivotRoot(rootfs);
  for (const { mount, tree } of trees) {
    if (tree === undefined) continue;
    makePlace(mount.destination, tree.isDirectory);
    attachMounts(tree.fd, mount.destination);
    closeSync(tree.fd);
  }
}

// undefined for a source that is not there: a bind's directory is only made when the container starts.
function treeOf({ source, subpath, readOnly }: ViewMount): { fd: Fd; isDirectory: boolean } | undefined {
  let place: Fd;
  try {
    place = subpath === undefined ? openSync(source, O_PATH) : pathBeneath(source, subpath);
  } catch {
    return undefined;
  }
  try {
    const fd = cloneMounts(place);
    if (readOnly) setMountFlags(ATTR.RDONLY, fd);
    return { fd, isDirectory: statOf(fd) };
  } finally {
    closeSync(place);
  }
}

const statOf = (fd: Fd): boolean => statSync(`/proc/self/fd/${fd}`).isDirectory();

// As the runtime will when it starts.
function makePlace(path: string, isDirectory: boolean): void {
  mkdirSync(isDirectory ? path : dirname(path), { recursive: true, mode: 0o755 });
  if (!isDirectory && !lstatSync(path, { throwIfNoEntry: false })) writeFileSync(path, '', { flag: 'wx', mode: 0o644 });
}

// Whoever shares our files may rename what leads to a mount meanwhile: it is looked again until nothing is left.
function takeAway(proc: Fd, own: string[]): void {
  const below = (point: string, above: string): boolean => point === above || point.startsWith(`${above}/`);
  const goes = ({ point, type }: { point: string; type: string }): boolean =>
    type === 'proc' ||
    (KERNELS.has(type) && !own.some((each) => below(point, each))) ||
    (point === '/dev' && !own.some((each) => below(each, '/dev')));
  for (let round = 0; ; round++) {
    const next = readThreadMounts(proc)
      .filter(goes)
      .sort((a, b) => a.point.length - b.point.length)[0];
    if (!next) return;
    if (!unmountTree(next.point) && round > MAX_ROUNDS)
      throw new Error(`${next.point} cannot be taken out of the view`);
    if (round > 2 * MAX_ROUNDS) throw new Error('the mounts change all the time');
  }
}
