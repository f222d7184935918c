/**
 * Containers: everything a client may ask of them. The registry is in memory; rows and journals are the truth behind
 * it.
 */
import type { Duplex, Readable } from 'node:stream';
import type { AttachOptions, WaitCondition } from '../../protocol/messages.ts';
import type { Client } from '../client.ts';
import { wallNow } from '../clock.ts';
import { Conflict, NotFound, SystemFault } from '../../model/errors.ts';
import type { Change } from '../images/compare.ts';
import type { PathStat, UnpackOptions } from '../files/container-files.ts';
import { cgroupPids } from '../../sys/cgroupfs.ts';
import type { CreateRequest, EndpointRequest, HostConfig } from '../../model/container-config.ts';
import type { Container } from '../../model/container.ts';
import { connect, disconnect } from './operations/connect.ts';
import { commitContainer, exportContainer, type CommitRequest } from './operations/commit.ts';
import { checkName, createContainer } from './operations/create.ts';
import { createExec, startExec, type ExecStartOptions } from './operations/exec.ts';
import type { Exec, ExecConfig } from '../../model/exec.ts';
import { filterContainers } from './views/list-filter.ts';
import { containerEvent } from '../events/container-event.ts';
import { Lifecycle } from './lifecycle.ts';
import type { LogEntry } from '../logs/log-entry.ts';
import { readLog, type LogQuery } from '../logs/logs.ts';
import { allow, isRunning } from './moves.ts';
import { randomName } from './random-name.ts';
import type { Parts } from './parts.ts';
import { Registry } from './container-index.ts';
import { relay } from './relay.ts';
import { renameContainer } from './operations/rename.ts';
import { checkRemovable, markRemoving, removeContainer } from './operations/remove.ts';
import { cgroupPath, logPath } from './shim-spec.ts';
import { readStats, type Stats } from './views/stats.ts';
import type { Supervisor } from './handle/handle.ts';
import { top } from './views/top.ts';
import { updateContainer } from './operations/update.ts';
import { waitAnswer } from './handle/parked-waits.ts';

export interface ListQuery {
  all: boolean;
  /** 0 or less = no limit. */
  limit: number;
  /** As decoded from the client: key → values. */
  filters: Map<string, string[]>;
}

export class Containers {
  readonly #registry: Registry;
  readonly #lifecycle: Lifecycle;

  constructor(private readonly parts: Parts) {
    this.#lifecycle = new Lifecycle(
      parts,
      (reference) => this.#find(reference),
      (s) => this.#removeInTurn(s, { force: true, volumes: true }),
    );
    this.#registry = new Registry(parts, this.#lifecycle, (s) => this.#settle(s));
  }

  /** What a starting daemon does with what it finds; resolves when every container that answers is restored. */
  restore = (): Promise<void> => this.#registry.restore();

  /** Whether the network that a container has must be left to it. */
  holdsNetwork = (id: string): boolean => this.#registry.holdsNetwork(id);

  /** The daemon ends: connections are closed, shims and containers go on. */
  close = (): void => this.#registry.close();

  async create(
    name: string | undefined,
    request: CreateRequest,
    platform?: string,
  ): Promise<{ id: string; warnings: string[] }> {
    const chosen = name ? checkName(name) : this.#anyName();
    // The image is looked up before the name is (its 404 makes `docker run` pull), but the name is reserved before the
    // first await.
    if (request.Image) this.parts.images.resolve(request.Image);
    const reservation = this.#registry.reserve(chosen);
    try {
      const { container, warnings } = await createContainer(this.parts, chosen, request, platform, {
        find: (reference) => this.#registry.lookup(reference).container,
        add: (made) => this.#registry.add(made),
      });
      return { id: container.id, warnings };
    } finally {
      reservation.release();
    }
  }

  async resolve(reference: string): Promise<Container> {
    return (await this.#find(reference)).container;
  }

  /** All of them, as they are in memory; for counts and usage. */
  all = (): Container[] => this.#registry.all();

  /** Newest first; applies all filters. @throws InvalidParameter for unknown keys and bad values */
  async list(query: ListQuery): Promise<Container[]> {
    await this.#registry.restoredEnough();
    return filterContainers(this.#registry.all(), query, {
      resolveContainer: (reference) => this.#registry.lookup(reference).container,
      imageAncestry: (reference) => {
        const image = this.parts.images.find(reference);
        return image ? [image.id] : [];
      },
    });
  }

  start = async (reference: string): Promise<void> => this.#lifecycle.start(await this.#find(reference));
  stop = async (reference: string, options: { timeout?: number; signal?: string }): Promise<void> =>
    this.#lifecycle.stop(await this.#find(reference), options);
  restart = async (reference: string, options: { timeout?: number; signal?: string }): Promise<void> =>
    this.#lifecycle.restart(await this.#find(reference), options);
  pause = async (reference: string): Promise<void> => this.#lifecycle.pause(await this.#find(reference));
  unpause = async (reference: string): Promise<void> => this.#lifecycle.unpause(await this.#find(reference));
  kill = async (reference: string, signal: string): Promise<void> =>
    this.#lifecycle.kill(await this.#find(reference), signal);
  resize = async (reference: string, height: number, width: number): Promise<void> =>
    this.#lifecycle.resize(await this.#find(reference), height, width);

  rename = async (reference: string, name: string): Promise<void> =>
    renameContainer(await this.#find(reference), name, this.#registry, this.parts);

  connect = async (reference: string, network: string, request: EndpointRequest): Promise<void> =>
    connect(await this.#find(reference), network, request, this.parts);

  async disconnect(reference: string, network: string, options: { force: boolean }): Promise<void> {
    const s = await this.#find(reference).catch((error: unknown) => {
      // By force an endpoint can be taken away whose container is gone: here none outlives its container.
      if (options.force && error instanceof NotFound) throw new NotFound(`endpoint ${reference} not found`);
      throw error;
    });
    await disconnect(s, network, options, this.parts);
  }

  async update(reference: string, changes: Partial<HostConfig>): Promise<string[]> {
    return updateContainer(await this.#find(reference), changes, this.parts);
  }

  async remove(reference: string, options: { force: boolean; volumes: boolean; link: boolean }): Promise<void> {
    await this.#remove(await this.#find(reference), options);
  }

  /**
   * Takes away those that do not run. One that cannot go, because somebody starts or removes it meanwhile say, is left:
   * moby daemon/prune.go.
   */
  async prune(filters: Map<string, string[]>): Promise<{ deleted: string[]; reclaimed: number }> {
    const deleted: string[] = [];
    let reclaimed = 0;
    for (const c of filterContainers(this.#registry.all(), { all: true, limit: 0, filters }, 'prune')) {
      if (isRunning(c)) continue;
      try {
        const size = await this.parts.snapshots.sizeRw(c.id);
        await this.#remove(this.#registry.lookup(c.id), { force: false, volumes: false });
        deleted.push(c.id);
        reclaimed += size;
      } catch (err) {
        this.parts.log.warn({ container: c.id, err }, 'could not be pruned');
      }
    }
    this.parts.events.record({
      type: 'container',
      action: 'prune',
      actor: '',
      attributes: { reclaimed: String(reclaimed) },
      time: wallNow(),
    });
    return { deleted, reclaimed };
  }

  /** What it changed of its image's files. */
  async changes(reference: string): Promise<Change[]> {
    const { container: c } = await this.#find(reference);
    const { upper, lower } = this.parts.snapshots.parts(c.id);
    return this.parts.archives.changes(upper, lower);
  }

  /** All its files as a tar archive. @throws Conflict when it is going */
  export = async (reference: string): Promise<AsyncIterable<Buffer>> =>
    exportContainer((await this.#find(reference)).container, this.parts);

  /** Makes an image of it; returns the image's id. */
  commit = async (reference: string, request: CommitRequest): Promise<string> =>
    commitContainer(await this.#find(reference), request, this.parts, this.#lifecycle);

  /** The client's connection goes to the shim. @throws before any byte was written */
  async attach(reference: string, options: AttachOptions, client: Client): Promise<void> {
    const s = await this.#find(reference);
    allow('attach', s.container);
    await s.ask((link) => link.handOver<'attach'>({ op: 'attach', options: this.#openOnly(s, options) }, client));
  }

  /** For a WebSocket: the shim gets one end of a socket pair, the daemon relays the other. */
  async attachRelay(reference: string, options: AttachOptions): Promise<Duplex> {
    const s = await this.#find(reference);
    allow('attach', s.container);
    return relay((client) =>
      s.ask((link) => link.handOver<'attach'>({ op: 'attach', options: this.#openOnly(s, options) }, client)),
    );
  }

  async wait(reference: string, condition: WaitCondition, client: Client): Promise<void> {
    const s = await this.#find(reference);
    await s.pull().catch(() => undefined);
    const { state } = s.container;
    if (condition === 'not-running' && !isRunning(s.container))
      return void client.answer(waitAnswer(state.exitCode, state.error));
    if (!s.link && (state.final || state.gen === 0)) return void s.waits.park(client, condition);
    await s.ask((link) => link.handOver<'wait'>({ op: 'wait', condition }, client));
  }

  /**
   * Its log, in batches. Follow ends with the run. @throws NotImplemented for drivers that cannot be read, Conflict
   * when it is going
   */
  async logs(
    reference: string,
    query: LogQuery,
    signal: AbortSignal,
  ): Promise<{ container: Container; batches: AsyncIterable<LogEntry[]> }> {
    const s = await this.#find(reference);
    const c = s.container;
    if (c.phase !== 'ready') throw new Conflict('can not get logs from container which is dead or marked for removal');
    const { gen } = c.state;
    const running = isRunning(c) || c.state.status === 'starting';
    const ended =
      query.follow && running
        ? s.until((state) => state.gen !== gen || !['starting', 'running', 'paused'].includes(state.status), signal)
        : Promise.resolve();
    return { container: c, batches: readLog(logPath(c, this.parts.paths), query, ended, signal) };
  }

  async top(reference: string, psArgs: string): Promise<{ Titles: string[]; Processes: string[][] }> {
    const { container: c } = await this.#find(reference);
    allow('top', c);
    const processes = await top(cgroupPids(cgroupPath(c, this.parts.config)), psArgs);
    this.parts.events.record(containerEvent(c, 'top'));
    return processes;
  }

  /** One sample of its resources, in Docker's shape. */
  async stats(reference: string): Promise<Stats> {
    const { container: c } = await this.#find(reference);
    return readStats(c, cgroupPath(c, this.parts.config));
  }

  logPath = (c: Container): string => (c.hostConfig.LogConfig.Type === 'json-file' ? logPath(c, this.parts.paths) : '');

  async createExec(reference: string, config: ExecConfig): Promise<string> {
    const { container } = await this.#find(reference);
    return createExec(container, config, this.parts, (other) => this.resolve(other));
  }

  async startExec(id: string, options: ExecStartOptions, client?: Client): Promise<void> {
    const { exec, supervisor } = await this.#execIn(id);
    await startExec(exec, supervisor, options, client, this.parts, (other) => this.resolve(other));
  }

  async resizeExec(id: string, height: number, width: number): Promise<void> {
    const exec = this.parts.execs.get(id);
    const s = await this.#find(exec.containerId);
    await (await s.reach()).request({ op: 'exec-resize', exec: id, height, width });
  }

  async inspectExec(id: string): Promise<Exec> {
    const { exec, supervisor } = await this.#execIn(id);
    // `docker exec` asks right after its stream has ended: what the shim has journalled by then must be seen.
    if (exec.started && exec.exitCode === null) await supervisor.refresh().catch(() => undefined);
    return exec;
  }

  /** One file or directory of it. @throws NotFound `Could not find the file X in container Y` */
  async statPath(reference: string, path: string): Promise<PathStat> {
    return this.parts.files.stat((await this.#find(reference)).container, reference, path);
  }

  async packPath(reference: string, path: string): Promise<{ stat: PathStat; archive: AsyncGenerator<Buffer> }> {
    return this.parts.files.pack((await this.#find(reference)).container, reference, path);
  }

  async unpackInto(reference: string, path: string, archive: Readable, options: UnpackOptions): Promise<void> {
    await this.parts.files.unpack((await this.#find(reference)).container, reference, path, archive, options);
  }

  execsOf = (containerId: string): string[] => this.parts.execs.liveIdsOf(containerId);

  #anyName(): string {
    const name = randomName((taken) => this.#registry.nameTaken(taken));
    if (name === undefined) throw new SystemFault('could not find a name that is free');
    return name;
  }

  async #find(reference: string): Promise<Supervisor> {
    const s = this.#registry.lookup(reference);
    await s.restored;
    // A client that was told of an exit by the shim (wait, the end of a stream) must find it here too.
    if (s.link && !s.container.state.final) await s.refresh().catch(() => undefined);
    return s;
  }

  // stdin counts only where the container has it open (api-wire 64).
  #openOnly(s: Supervisor, options: AttachOptions): AttachOptions {
    return { ...options, stdin: options.stdin && s.container.config.OpenStdin };
  }

  // An exec whose container is gone is gone with it.
  async #execIn(id: string): Promise<{ exec: Exec; supervisor: Supervisor }> {
    const exec = this.parts.execs.get(id);
    try {
      return { exec, supervisor: await this.#find(exec.containerId) };
    } catch {
      throw new NotFound(`No such exec instance: ${id}`);
    }
  }

  // Marked at once, so that a second removal is refused; done when it is this container's turn.
  async #remove(s: Supervisor, options: { force: boolean; volumes: boolean }): Promise<void> {
    checkRemovable(s, options);
    markRemoving(s, this.parts);
    await s.serial.run(() => this.#removeInTurn(s, options));
  }

  async #removeInTurn(s: Supervisor, options: { force: boolean; volumes: boolean }): Promise<void> {
    await removeContainer(s, this.parts, this.#lifecycle, options, async () => {
      this.#registry.drop(s);
      // Its image was removed before it: nobody else needs those layers.
      if (!this.parts.images.find(s.container.imageId)) await this.parts.images.collect();
    });
  }

  // After `final`: what the run held is given back, and an --rm container goes.
  #settle(s: Supervisor): void {
    const settle = async (): Promise<void> => {
      if (s.container.phase === 'removing' || !s.container.state.final) return;
      await this.#lifecycle.tearDown(s);
      if (s.container.hostConfig.AutoRemove) await this.#removeInTurn(s, { force: true, volumes: true });
    };
    s.serial
      .run(settle)
      .catch((err: unknown) => this.parts.log.error({ container: s.container.id, err }, 'could not clean up after it'));
  }
}
