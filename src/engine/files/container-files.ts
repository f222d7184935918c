/**
 * `docker cp`: a container's files told of, packed and unpacked by a worker in the container's own view of them
 * (archive-worker.ts).
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Fd } from '../../sys/libc.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import { decompress, detectCompression, feed, peek } from '../images/compression.ts';
import { cleaned } from '../spec/mount-points.ts';
import { lookUpUser } from '../spec/user.ts';
import type { View, ViewMount } from './container-view.ts';
import type { ArchiveJob, ArchiveReport, PathStat } from './archive-worker.ts';
import type { Container } from '../../model/container.ts';
import { containerEvent } from '../events/container-event.ts';
import { isRunning } from '../../model/container-status.ts';
import type { ContainerDeps as Parts } from '../containers/deps.ts';

export type { PathStat } from './archive-worker.ts';

export interface UnpackOptions {
  noOverwriteDirNonDir: boolean;
  /** All becomes the container's user's. */
  copyUIDGID: boolean;
}

type Wanted = { kind: 'stat' | 'pack' } | { kind: 'unpack'; options: UnpackOptions };

const NETWORK_FILES = ['hosts', 'hostname', 'resolv.conf'];
const MAX_WORDS = 2000;

interface Worker {
  child: ChildProcess;
  ended: Promise<string>;
  words(): string;
  reports: AsyncIterator<string>;
}

export class ContainerFiles {
  /** Those that are at work, by container. */
  readonly #workers = new Map<string, Set<Worker>>();
  #count = 0;

  /** `script` is the bundled worker. */
  constructor(private readonly script: string) {}

  /** @throws NotFound `Could not find the file X in container Y` */
  async stat(c: Container, reference: string, path: string, parts: Parts): Promise<PathStat> {
    const worker = await this.#begin(c, path, { kind: 'stat' }, parts);
    const stat = await firstReport(worker, path, reference);
    await worker.ended;
    return stat!;
  }

  /** An archive of the file or directory. Whoever stops reading ends it. @throws as stat */
  async pack(
    c: Container,
    reference: string,
    path: string,
    parts: Parts,
  ): Promise<{ stat: PathStat; archive: AsyncGenerator<Buffer> }> {
    const worker = await this.#begin(c, path, { kind: 'pack' }, parts);
    const stat = await firstReport(worker, path, reference);
    parts.events.record(containerEvent(c, 'archive-path'));
    return { stat: stat!, archive: packed(worker) };
  }

  /**
   * Puts the entries of `archive`, plain or compressed, into the directory `path`. @throws InvalidParameter, NotFound
   */
  async unpack(
    c: Container,
    reference: string,
    path: string,
    archive: Readable,
    options: UnpackOptions,
    parts: Parts,
  ): Promise<void> {
    const { head, all } = await peek(archive);
    const worker = await this.#begin(c, path, { kind: 'unpack', options }, parts);
    let fault: unknown;
    feed(decompress(all, detectCompression(head)), worker.child.stdin!).catch((error: unknown) => {
      fault = error;
      // Cut off, not complete: the worker must not take it for an archive that ends here.
      worker.child.kill('SIGKILL');
    });
    await firstReport(worker, path, reference).catch((error: unknown) => {
      throw fault ?? error;
    });
    await worker.ended;
    parts.events.record(containerEvent(c, 'extract-to-dir'));
  }

  /** The container goes: nobody looks at its files any more. */
  async end(containerId: string): Promise<void> {
    const workers = [...(this.#workers.get(containerId) ?? [])];
    for (const { child } of workers) child.kill('SIGKILL');
    await Promise.all(workers.map(({ ended }) => ended));
  }

  async #begin(c: Container, path: string, wanted: Wanted, parts: Parts): Promise<Worker> {
    if (c.phase !== 'ready')
      throw new Conflict(`can not copy files of container ${c.id}: it is dead or marked for removal`);
    const held = this.#hold(c, parts);
    try {
      for (const { name } of volumesOf(c)) await parts.volumes.mount(parts.volumes.resolve(name), held.user);
      const namespace = openNamespace(c, parts);
      const view: View = {
        rootfs: parts.paths.rootfs(c.id),
        running: namespace !== undefined,
        root: rootOf(parts.paths.rootfs(c.id)),
        mounts: mountsOf(c, parts),
      };
      return this.#spawn(c.id, jobOf(c, view, path, wanted), namespace, held.release);
    } catch (error) {
      held.release();
      throw error;
    }
  }

  // Its root and volumes stay mounted as long as somebody is in them, whatever becomes of the container.
  #hold(c: Container, parts: Parts): { user: string; release(): void } {
    const user = `${c.id} copy ${++this.#count}`;
    const unpin = parts.snapshots.pinMount(c.id);
    return {
      user,
      release: () => {
        unpin();
        for (const { name } of volumesOf(c))
          parts.volumes
            .unmount(name, user)
            .catch((err: unknown) => parts.log.error({ volume: name, err }, 'cannot be unmounted'));
      },
    };
  }

  #spawn(containerId: string, job: ArchiveJob, namespace: Fd | undefined, release: () => void): Worker {
    const unpacks = job.kind === 'unpack';
    // A clean environment: NODE_OPTIONS and NODE_EXTRA_CA_CERTS are the daemon's.
    const child = spawn(process.execPath, [this.script, String(process.pid), JSON.stringify(job)], {
      stdio: [unpacks ? 'pipe' : 'ignore', unpacks ? 'ignore' : 'pipe', 'pipe', 'pipe', namespace ?? 'ignore'],
      env: {},
    });
    if (namespace !== undefined) closeSync(namespace);
    let words = '';
    child.stderr!.on('data', (bytes: Buffer) => (words = (words + bytes.toString()).slice(-MAX_WORDS)));
    child.stdin?.on('error', () => undefined);
    const workers = this.#workers.get(containerId) ?? new Set<Worker>();
    this.#workers.set(containerId, workers);
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    const worker: Worker = {
      child,
      ended,
      words: () => words.trim(),
      reports: createInterface({ input: child.stdio[3] as Readable })[Symbol.asyncIterator](),
    };
    workers.add(worker);
    void ended.then(() => {
      workers.delete(worker);
      if (workers.size === 0) this.#workers.delete(containerId);
      release();
    });
    return worker;
  }
}

async function nextReport({ reports, ended, words }: Worker): Promise<ArchiveReport> {
  const { value, done } = await reports.next();
  if (done) throw new SystemFault(`the archive worker died (${await ended}) ${words()}`.trim());
  return JSON.parse(value) as ArchiveReport;
}

async function firstReport(worker: Worker, path: string, reference: string): Promise<PathStat | undefined> {
  const report = await nextReport(worker);
  if (report.ok) return report.stat;
  if (report.fault === 'missing') throw new NotFound(`Could not find the file ${path} in container ${reference}`);
  throw report.fault === 'request' ? new InvalidParameter(report.message) : new SystemFault(report.message);
}

async function* packed(worker: Worker): AsyncGenerator<Buffer> {
  const { child } = worker;
  try {
    for await (const chunk of child.stdout!) yield chunk as Buffer;
    const last = await nextReport(worker);
    if (!last.ok) throw new SystemFault(last.message);
  } finally {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  }
}

function jobOf(c: Container, view: View, path: string, wanted: Wanted): ArchiveJob {
  if (wanted.kind !== 'unpack') return { kind: wanted.kind, view, path };
  const { noOverwriteDirNonDir, copyUIDGID } = wanted.options;
  const access = [
    ...c.mounts.map(({ destination, rw }) => ({ destination, readOnly: !rw })),
    ...Object.entries(c.hostConfig.Tmpfs ?? {}).map(([target, options]) => ({
      destination: cleaned(target),
      readOnly: options.split(',').includes('ro'),
    })),
  ];
  const owner = copyUIDGID && c.config.User ? ownerOf(view.rootfs, c.config.User) : undefined;
  return {
    kind: 'unpack',
    view,
    path,
    access,
    readOnlyRoot: c.hostConfig.ReadonlyRootfs,
    noOverwriteDirNonDir,
    ...(owner && { owner }),
  };
}

function ownerOf(rootfs: string, user: string): { uid: number; gid: number } {
  try {
    const { uid, gid } = lookUpUser(rootfs, user, []);
    return { uid, gid };
  } catch (error) {
    throw new SystemFault((error as Error).message);
  }
}

// undefined when it does not run, or its process has made itself another root.
function openNamespace(c: Container, parts: Parts): Fd | undefined {
  if (!isRunning(c) || c.state.pid === 0) return undefined;
  try {
    const [own, its] = [rootOf(parts.paths.rootfs(c.id)), rootOf(`/proc/${c.state.pid}/root/`)];
    if (own.dev !== its.dev || own.ino !== its.ino) return undefined;
    return openSync(`/proc/${c.state.pid}/ns/mnt`, 'r');
  } catch {
    return undefined;
  }
}

function rootOf(path: string): { dev: number; ino: number } {
  const { dev, ino } = statSync(path);
  return { dev, ino };
}

const volumesOf = (c: Container) => c.mounts.filter(({ type }) => type === 'volume');

// In the order of their depth: one may lie within another.
function mountsOf(c: Container, { paths }: Parts): ViewMount[] {
  const points = c.mounts
    .filter(({ type }) => type !== 'tmpfs')
    .map(({ source, subpath, destination, rw }) => ({
      source,
      destination,
      readOnly: !rw,
      ...(subpath !== undefined && { subpath }),
    }));
  const taken = new Set(points.map(({ destination }) => destination));
  const files = NETWORK_FILES.map((name) => ({
    source: join(paths.container(c.id), name),
    destination: `/etc/${name}`,
    readOnly: c.hostConfig.ReadonlyRootfs,
  })).filter(({ source, destination }) => !taken.has(destination) && existsSync(source));
  const depth = ({ destination }: ViewMount): number => destination.split('/').length;
  return [...points, ...files].sort((a, b) => depth(a) - depth(b));
}
