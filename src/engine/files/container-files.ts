/**
 * `docker cp`: stats, packs and unpacks a container's files. The work is done by a process that sees only the
 * container's mounts (archive-worker.ts).
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Logger } from 'pino';
import { KeyedSerial } from '../../async/keyed-serial.ts';
import type { Fd } from '../../sys/libc.ts';
import type { Container } from '../../model/container.ts';
import { isRunning } from '../../model/container-status.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import { containerEvent } from '../events/container-event.ts';
import type { EventLog } from '../events/event-log.ts';
import { decompress, detectCompression, feed, peek } from '../images/compression.ts';
import type { Snapshots } from '../images/snapshots.ts';
import type { Paths } from '../paths.ts';
import type { Volumes } from '../volumes/volumes.ts';
import { archiveJob, rootOf, type Request, type UnpackOptions } from './archive-job.ts';
import type { ArchiveJob, ArchiveReport, PathStat } from './archive-worker.ts';

export type { UnpackOptions } from './archive-job.ts';
export type { PathStat } from './archive-worker.ts';

export interface FileDeps {
  /** Path of the bundled archive worker. */
  script: string;
  paths: Paths;
  snapshots: Snapshots;
  volumes: Volumes;
  events: EventLog;
  log: Logger;
}

const MAX_STDERR_CHARS = 2000;

interface Worker {
  child: ChildProcess;
  /** Resolves with how the process ended: a signal's name, `code N`, or why it could not be spawned. */
  ended: Promise<string>;
  stderrTail: () => string;
  /** Lines of ArchiveReport. */
  reports: AsyncIterator<string, undefined>;
}

export class ContainerFiles {
  /** Running workers by container id. */
  readonly #workers = new Map<string, Set<Worker>>();
  /** One at a time in a container, as in moby: two that replace the same file would fail at each other's. */
  readonly #unpacks = new KeyedSerial();
  #count = 0;

  constructor(private readonly deps: FileDeps) {}

  /** @throws NotFound `Could not find the file X in container Y` */
  async stat(c: Container, reference: string, path: string): Promise<PathStat> {
    const worker = await this.#start(c, path, { kind: 'stat' });
    const stat = await firstReport(worker, path, reference);
    await worker.ended;
    return stat!;
  }

  /**
   * An archive of the file or directory. Ending the iteration early kills the worker.
   * @throws NotFound `Could not find the file X in container Y`
   */
  async pack(
    c: Container,
    reference: string,
    path: string,
  ): Promise<{ stat: PathStat; archive: AsyncGenerator<Buffer> }> {
    const worker = await this.#start(c, path, { kind: 'pack' });
    const stat = await firstReport(worker, path, reference);
    this.deps.events.record(containerEvent(c, 'archive-path'));
    return { stat: stat!, archive: packed(worker) };
  }

  /**
   * Unpacks `archive`, plain or compressed, into the directory `path`. Aborting `signal` kills the worker.
   * @throws InvalidParameter for a bad archive or a read-only target, NotFound for a missing directory
   */
  async unpack(
    c: Container,
    reference: string,
    path: string,
    archive: Readable,
    options: UnpackOptions,
    signal?: AbortSignal,
  ): Promise<void> {
    const { head, all, discard } = await peek(archive);
    try {
      await this.#unpacks.run(c.id, async () => {
        const worker = await this.#start(c, path, { kind: 'unpack', options });
        await unpacked(worker, decompress(all, detectCompression(head)), { path, reference, signal });
      });
    } finally {
      discard();
    }
    this.deps.events.record(containerEvent(c, 'extract-to-dir'));
  }

  /** Kills the container's workers and resolves when they have ended. For its removal. */
  async stopWorkers(containerId: string): Promise<void> {
    const workers = [...(this.#workers.get(containerId) ?? [])];
    for (const { child } of workers) child.kill('SIGKILL');
    await Promise.all(workers.map(({ ended }) => ended));
  }

  async #start(c: Container, path: string, request: Request): Promise<Worker> {
    if (c.phase !== 'ready')
      throw new Conflict(`can not copy files of container ${c.id}: it is dead or marked for removal`);
    const { paths, volumes } = this.deps;
    const held = this.#holdMounts(c);
    try {
      for (const { name } of volumesOf(c)) await volumes.mount(volumes.resolve(name), held.user);
      const namespace = openNamespace(c, paths);
      try {
        const job = archiveJob(c, { path, request, paths, running: namespace !== undefined });
        return this.#spawn(c.id, job, namespace, held.release);
      } finally {
        if (namespace !== undefined) closeSync(namespace);
      }
    } catch (error) {
      held.release();
      throw error;
    }
  }

  /** Keeps the rootfs and the volumes mounted while a worker is in them, even if the container stops meanwhile. */
  #holdMounts(c: Container): { user: string; release: () => void } {
    const { snapshots, volumes, log } = this.deps;
    const user = `${c.id} copy ${++this.#count}`;
    const unpin = snapshots.pinMount(c.id);
    const release = (): void => {
      unpin();
      for (const { name } of volumesOf(c)) {
        volumes.unmount(name, user).catch((err: unknown) => log.error({ volume: name, err }, 'cannot unmount volume'));
      }
    };
    return { user, release };
  }

  #spawn(containerId: string, job: ArchiveJob, namespace: Fd | undefined, release: () => void): Worker {
    const unpacks = job.kind === 'unpack';
    // An empty environment: the daemon's NODE_OPTIONS and NODE_EXTRA_CA_CERTS must not reach the worker.
    const child = spawn(process.execPath, [this.deps.script, String(process.pid), JSON.stringify(job)], {
      stdio: [unpacks ? 'pipe' : 'ignore', unpacks ? 'ignore' : 'pipe', 'pipe', 'pipe', namespace ?? 'ignore'],
      env: {},
    });
    let stderr = '';
    child.stderr!.on('data', (bytes: Buffer) => (stderr = (stderr + bytes.toString()).slice(-MAX_STDERR_CHARS)));
    child.stdin?.on('error', () => undefined);
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    const worker: Worker = {
      child,
      ended,
      stderrTail: () => stderr.trim(),
      reports: createInterface({ input: child.stdio[3] as Readable })[Symbol.asyncIterator](),
    };
    const workers = this.#workers.get(containerId) ?? new Set<Worker>();
    this.#workers.set(containerId, workers);
    workers.add(worker);
    void ended.then(() => {
      workers.delete(worker);
      if (workers.size === 0) this.#workers.delete(containerId);
      release();
    });
    return worker;
  }
}

async function nextReport({ reports, ended, stderrTail }: Worker): Promise<ArchiveReport> {
  const line = await reports.next();
  if (line.done) throw new SystemFault(`the archive worker died (${await ended}) ${stderrTail()}`.trim());
  return JSON.parse(line.value) as ArchiveReport;
}

async function firstReport(worker: Worker, path: string, reference: string): Promise<PathStat | undefined> {
  const report = await nextReport(worker);
  if (report.ok) return report.stat;
  if (report.fault === 'missing') throw new NotFound(`Could not find the file ${path} in container ${reference}`);
  throw report.fault === 'request' ? new InvalidParameter(report.message) : new SystemFault(report.message);
}

/** Passes a plain archive to the worker, and waits for its end. Kills it when the archive breaks off, or on abort. */
async function unpacked(
  worker: Worker,
  archive: AsyncIterable<Buffer>,
  { path, reference, signal }: { path: string; reference: string; signal: AbortSignal | undefined },
): Promise<void> {
  const kill = (): void => void worker.child.kill('SIGKILL');
  signal?.addEventListener('abort', kill, { once: true });
  if (signal?.aborted) kill();
  let fault: unknown;
  feed(archive, worker.child.stdin!).catch((error: unknown) => {
    fault = error;
    // Closing stdin would look like the regular end of the archive.
    kill();
  });
  try {
    await firstReport(worker, path, reference);
    await worker.ended;
  } catch (error) {
    throw fault ?? error;
  } finally {
    signal?.removeEventListener('abort', kill);
  }
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

/** The mount namespace of the container's process; undefined when it does not run or has changed its root. */
function openNamespace(c: Container, paths: Paths): Fd | undefined {
  if (!isRunning(c) || c.state.pid === 0) return undefined;
  try {
    const rootfs = rootOf(paths.rootfs(c.id));
    const processRoot = rootOf(`/proc/${c.state.pid}/root/`);
    if (rootfs.dev !== processRoot.dev || rootfs.ino !== processRoot.ino) return undefined;
    return openSync(`/proc/${c.state.pid}/ns/mnt`, 'r');
  } catch {
    return undefined;
  }
}

const volumesOf = (c: Container) => c.mounts.filter(({ type }) => type === 'volume');
