/** Containers, for the API: finds the container that a request names and runs one operation on it. */
import { existsSync } from 'node:fs';
import type { Duplex, Readable } from 'node:stream';
import type { CreateRequest, EndpointRequest, HostConfig } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import { assertAllowed, isRunning } from '../../model/container-status.ts';
import { NotFound } from '../../model/errors.ts';
import type { Exec, ExecConfig } from '../../model/exec.ts';
import type { AttachOptions, WaitCondition } from '../../protocol/messages.ts';
import { cgroupPids } from '../../sys/cgroupfs.ts';
import type { Client } from '../client.ts';
import { containerEvent } from '../events/container-event.ts';
import type { ContainerFiles, PathStat, UnpackOptions } from '../files/container-files.ts';
import type { Change } from '../images/upper-diff.ts';
import type { LogEntry } from '../logs/log-entry.ts';
import type { LogQuery } from '../logs/logs.ts';
import type { ContainerDeps } from './deps.ts';
import type { ContainerHandle, HandleDump } from './handle/container-handle.ts';
import { attach, attachRelay } from './operations/attach.ts';
import { assertNotRemoved } from './operations/changed-state.ts';
import { commit, type CommitRequest } from './operations/commit.ts';
import { connect, disconnect } from './operations/connect.ts';
import { create } from './operations/create.ts';
import { createExec, inspectExec, resizeExec, startExec, type ExecStartOptions } from './operations/exec.ts';
import { exportContainer } from './operations/export.ts';
import { kill } from './operations/kill.ts';
import { logs } from './operations/logs.ts';
import { pause, unpause } from './operations/pause.ts';
import { prune } from './operations/prune.ts';
import { remove, type RemoveOptions } from './operations/remove.ts';
import { removeLink } from './operations/remove-link.ts';
import { rename } from './operations/rename.ts';
import { resize } from './operations/resize.ts';
import { restart } from './operations/restart.ts';
import { settle } from './operations/settle.ts';
import { start } from './operations/start.ts';
import type { StopOptions } from './operations/stop-options.ts';
import { stop } from './operations/stop.ts';
import { update } from './operations/update.ts';
import { wait } from './operations/wait.ts';
import { Recovery } from './recovery/recover.ts';
import { cgroupPath } from './cgroups.ts';
import { logPath } from './shim-spec.ts';
import { filterContainers, type ListQuery } from './views/list-filter.ts';
import { readStats, type Stats } from './views/stats.ts';
import { top, type Top } from './views/top.ts';

const EXEC_SWEEP_MS = 60_000;

export class Containers {
  readonly #recovery: Recovery;
  readonly #execSweep: NodeJS.Timeout;

  constructor(private readonly deps: ContainerDeps) {
    const { index, execs } = deps;
    this.#recovery = new Recovery(deps);
    index.onFinal((handle) => settle(handle, deps));
    const runs = (id: string): boolean => {
      const handle = index.byId(id);
      return handle !== undefined && isRunning(handle.container);
    };
    this.#execSweep = setInterval(() => execs.sweep(runs), EXEC_SWEEP_MS).unref();
  }

  /** Restores what the last daemon left; resolves when every container whose shim answers is restored. */
  restore = (): Promise<void> => this.#recovery.restore();

  /** Each handle's state, for a person who debugs the daemon. */
  dump = (): HandleDump[] => this.deps.index.handles().map((handle) => handle.dump());

  /**
   * Whether a container's network must be left alone: it is not final, or its row is unreadable or lost while its
   * directory exists.
   */
  holdsNetwork(id: string): boolean {
    const handle = this.deps.index.byId(id);
    return handle ? !handle.container.state.final : existsSync(this.deps.paths.container(id));
  }

  /** The daemon ends: connections are closed, shims and containers go on. */
  close(): void {
    clearInterval(this.#execSweep);
    this.deps.index.close();
  }

  create = (
    name: string | undefined,
    request: CreateRequest,
    platform?: string,
    { readOnlyNonRecursive = false } = {},
  ): Promise<{ id: string; warnings: string[] }> =>
    create({ name, platform, readOnlyNonRecursive }, request, this.deps);

  resolve = (reference: string): Promise<Container> => this.deps.index.findContainer(reference);

  /** All of them, as they are in memory. */
  all = (): Container[] => this.deps.index.containers();

  /** Newest first. @throws InvalidParameter for unknown filters and bad values */
  async list(query: ListQuery): Promise<Container[]> {
    const { index, images } = this.deps;
    await this.#recovery.restoredEnough();
    return filterContainers(index.containers(), query, {
      resolveContainer: (reference) => index.lookup(reference).container,
      imageAncestry: (reference) => {
        const image = images.find(reference);
        return image ? [image.id] : [];
      },
    });
  }

  async start(reference: string): Promise<void> {
    await start(await this.#find(reference), this.deps);
  }

  async stop(reference: string, options: StopOptions): Promise<void> {
    await stop(await this.#find(reference), options);
  }

  async restart(reference: string, options: StopOptions): Promise<void> {
    await restart(await this.#find(reference), options, this.deps);
  }

  async pause(reference: string): Promise<void> {
    await pause(await this.#find(reference));
  }

  async unpause(reference: string): Promise<void> {
    await unpause(await this.#find(reference));
  }

  async kill(reference: string, signal: string): Promise<void> {
    await kill(await this.#find(reference), signal);
  }

  async resize(reference: string, height: number, width: number): Promise<void> {
    await resize(await this.#find(reference), { height, width });
  }

  async rename(reference: string, name: string): Promise<void> {
    await rename(await this.#find(reference), name, this.deps);
  }

  async connect(reference: string, network: string, request: EndpointRequest): Promise<void> {
    await connect(await this.#find(reference), network, request, this.deps);
  }

  async disconnect(reference: string, network: string, options: { force: boolean }): Promise<void> {
    const handle = await this.#find(reference).catch((error: unknown) => {
      // With force, dockerd removes the endpoint of a container that is gone: here no endpoint outlives its container.
      if (options.force && error instanceof NotFound) throw new NotFound(`endpoint ${reference} not found`);
      throw error;
    });
    await disconnect(handle, network, options, this.deps);
  }

  /** Returns warnings. */
  async update(reference: string, changes: Partial<HostConfig>): Promise<string[]> {
    return update(await this.#find(reference), changes, this.deps);
  }

  /** Link names (`/parent/alias`) by the id of the container that they name. */
  linkNames = (): Map<string, string[]> => this.deps.index.linkNames();

  async remove(reference: string, options: RemoveOptions & { link: boolean }): Promise<void> {
    if (options.link) return removeLink(reference, this.deps);
    await remove(await this.#find(reference), options, this.deps);
  }

  prune = (filters: Map<string, string[]>): Promise<{ deleted: string[]; reclaimed: number }> =>
    prune(filters, this.deps);

  /** Filesystem changes relative to the image (docker diff). */
  async changes(reference: string): Promise<Change[]> {
    const { snapshots, archives } = this.deps;
    const { upper, lower } = snapshots.layerDirectories((await this.resolve(reference)).id);
    return archives.changes(upper, lower);
  }

  async export(reference: string): Promise<AsyncIterable<Buffer>> {
    return exportContainer(await this.resolve(reference), this.deps);
  }

  /** Returns the image's id. */
  async commit(reference: string, request: CommitRequest): Promise<string> {
    return commit(await this.#find(reference), request, this.deps);
  }

  async attach(reference: string, options: AttachOptions, client: Client): Promise<void> {
    await attach(await this.#find(reference), options, client);
  }

  async attachRelay(reference: string, options: AttachOptions): Promise<Duplex> {
    return attachRelay(await this.#find(reference), options);
  }

  async wait(reference: string, condition: WaitCondition, client: Client): Promise<void> {
    await wait(await this.#find(reference), condition, client);
  }

  async logs(
    reference: string,
    query: LogQuery,
    signal: AbortSignal,
  ): Promise<{ container: Container; batches: AsyncIterable<LogEntry[]> }> {
    return logs(await this.#find(reference), query, signal, this.deps);
  }

  async top(reference: string, psArgs: string): Promise<Top> {
    const c = await this.resolve(reference);
    assertAllowed('top', c);
    const processes = await top(cgroupPids(cgroupPath(c, this.deps.config)), psArgs);
    this.deps.events.record(containerEvent(c, 'top'));
    return processes;
  }

  /** One sample of its resource usage. */
  async stats(reference: string): Promise<Stats> {
    const c = await this.resolve(reference);
    return readStats(c, cgroupPath(c, this.deps.config));
  }

  /** '' where the log driver writes no file. */
  logPath = (c: Container): string => (c.hostConfig.LogConfig.Type === 'json-file' ? logPath(c, this.deps.paths) : '');

  async createExec(reference: string, config: ExecConfig): Promise<string> {
    return createExec(await this.resolve(reference), config, this.deps);
  }

  startExec = (id: string, options: ExecStartOptions, client?: Client): Promise<void> =>
    startExec(id, options, client, this.deps);

  resizeExec = (id: string, height: number, width: number): Promise<void> =>
    resizeExec(id, { height, width }, this.deps);

  inspectExec = (id: string): Promise<Exec> => inspectExec(id, this.deps);

  /** Ids of its execs that have not ended. */
  execsOf = (containerId: string): string[] => this.deps.execs.liveIdsOf(containerId);

  /** @throws NotFound `Could not find the file X in container Y` */
  statPath = (reference: string, path: string): Promise<PathStat> =>
    this.#withFiles(reference, (c, files) => files.stat(c, reference, path));

  packPath = (reference: string, path: string): Promise<{ stat: PathStat; archive: AsyncGenerator<Buffer> }> =>
    this.#withFiles(reference, (c, files) => files.pack(c, reference, path));

  unpackInto = (reference: string, path: string, archive: Readable, options: UnpackOptions): Promise<void> =>
    this.#withFiles(reference, (c, files) => files.unpack(c, reference, path, archive, options));

  async #withFiles<T>(reference: string, work: (c: Container, files: ContainerFiles) => Promise<T>): Promise<T> {
    const handle = await this.#find(reference);
    try {
      return await work(handle.container, this.deps.files);
    } catch (error) {
      // A removal stops the workers.
      assertNotRemoved(handle);
      throw error;
    }
  }

  #find = (reference: string): Promise<ContainerHandle> => this.deps.index.find(reference);
}
