/** Volumes of the local driver: directories that outlive containers. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoredVolume, VolumeStore } from '../../store/volumes.ts';
import { faultPoint } from '../../sys/fault.ts';
import { syncDirectory } from '../../sys/file.ts';
import { unmount } from '../../sys/mount.ts';
import { isMountPoint, mountsUnder } from '../../sys/mountinfo.ts';
import { wallNow } from '../clock.ts';
import { anyPattern, booleanOf } from '../filter-values.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import type { EventLog } from '../events/event-log.ts';
import { hasLabel } from '../events/filter.ts';
import { pruneMatcher } from '../prune-filter.ts';
import { copyUp, finishCopyUp } from './copy-up.ts';
import { mountDevice } from './device.ts';
import { checkName, checkOptions, DRIVER, type VolumeRequest } from './request.ts';
import { bytesIn } from './size.ts';
import { volumeEvent, type Volume } from '../../model/volume.ts';

export type { Volume } from '../../model/volume.ts';

/** Keeps volumes for a container that is being made: nobody removes them before it is there, or given up. */
export interface VolumeHold {
  keep(name: string): void;
  release(): void;
}

export interface VolumeParts {
  store: VolumeStore;
  events: EventLog;
  /** Directory of all volumes. */
  root: string;
  /** Ids of the containers, stopped ones too, that have the volume. */
  usersOf: (name: string) => string[];
}

const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';

const DATA = '_data';
/** Volumes' own directories: passed through by containers' users, listed by none. */
const DIRECTORY_MODE = 0o701;
const DATA_MODE = 0o755;

const FILTERS = new Set(['dangling', 'driver', 'label', 'name']);

export class Volumes {
  /** Work on one volume is done one after the other: the end of the last that was asked for. */
  readonly #turns = new Map<string, Promise<unknown>>();
  /** Names kept for containers that are being made, by the container's id. */
  readonly #held = new Map<string, Set<string>>();
  /** Who has it mounted, by name: containers that run or are about to. */
  readonly #mountedBy = new Map<string, Set<string>>();
  #pruning = false;

  constructor(private readonly parts: VolumeParts) {
    mkdirSync(parts.root, { recursive: true, mode: DIRECTORY_MODE });
  }

  /** Finishes or undoes what was under way when the daemon died. */
  async start(): Promise<void> {
    const { store } = this.parts;
    for (const { name } of store.inPhase('creating')) this.#undoCreate(name);
    for (const volume of store.inPhase('removing')) await this.#destroy(volume);
    for (const volume of store.inPhase('ready'))
      await finishCopyUp(this.#directory(volume.name), this.#whole(volume).mountpoint);
  }

  /**
   * One that exists already is returned as it is, whatever labels and options are asked for. @throws InvalidParameter,
   * NotFound for an unknown driver
   */
  async create(request: VolumeRequest, hold?: VolumeHold): Promise<Volume> {
    const anonymous = request.name === '';
    const name = anonymous ? randomBytes(32).toString('hex') : request.name;
    try {
      checkName(name, request.driver);
      if (!this.parts.store.get(name)) checkOptions(request.options);
    } catch (error) {
      if (error instanceof NotFound) throw new NotFound(`create ${name}: ${error.message}`);
      throw new InvalidParameter(`create ${name}: ${(error as Error).message}`);
    }
    return this.#inTurn(name, () => {
      hold?.keep(name);
      const existing = this.parts.store.get(name);
      if (existing) return this.#whole(existing);
      const labels = anonymous ? { ...request.labels, [ANONYMOUS_LABEL]: '' } : request.labels;
      const volume: StoredVolume = {
        name,
        driver: DRIVER,
        created: wallNow(),
        labels,
        options: request.options,
        anonymous,
      };
      this.parts.store.insertCreating(volume);
      faultPoint('volume.creating');
      this.#makeDirectories(name);
      faultPoint('volume.directories');
      this.parts.store.transaction(() => {
        this.parts.store.setPhase(name, 'ready');
        this.parts.events.record(volumeEvent(volume, 'create'));
      });
      return this.#whole(volume);
    });
  }

  /** For the container of this id. */
  hold(container: string): VolumeHold {
    const names = new Set<string>();
    this.#held.set(container, names);
    return { keep: (name) => void names.add(name), release: () => void this.#held.delete(container) };
  }

  /** @throws NotFound `get x: no such volume` */
  resolve(name: string): Volume {
    const volume = this.parts.store.get(name);
    if (!volume) throw new NotFound(`get ${name}: no such volume`);
    return this.#whole(volume);
  }

  /** By name. @throws InvalidParameter for unknown filters and bad values */
  list(filters: ReadonlyMap<string, readonly string[]> = new Map()): Volume[] {
    for (const key of filters.keys()) if (!FILTERS.has(key)) throw new InvalidParameter(`invalid filter '${key}'`);
    const names = filters.get('name');
    const matches = anyPattern(names ?? []);
    const drivers = filters.get('driver');
    const labels = filters.get('label') ?? [];
    const dangling = filters.has('dangling') ? booleanOf('dangling', filters.get('dangling')!) : undefined;
    return this.parts.store
      .inPhase('ready')
      .filter(
        (v) =>
          (!names?.length || names.includes(v.name) || matches(v.name)) &&
          (!drivers?.length || drivers.includes(v.driver)) &&
          labels.every((label) => hasLabel(v.labels, label)) &&
          (dangling === undefined || dangling === (this.#usersOf(v.name).length === 0)),
      )
      .map((v) => this.#whole(v));
  }

  /** How many containers have it. */
  usageOf = (name: string): number => this.#usersOf(name).length;

  /** What they take on disk; those with options are left out, as what they mount lies elsewhere. */
  usage(): Promise<{ volume: Volume; size: number; users: number }[]> {
    const own = this.list().filter(({ options }) => Object.keys(options).length === 0);
    return Promise.all(
      own.map(async (volume) => ({ volume, size: await bytesIn(volume.mountpoint), users: this.usageOf(volume.name) })),
    );
  }

  /** @throws Conflict while any container has it, NotFound unless forced */
  async remove(name: string, { force }: { force: boolean }): Promise<void> {
    await this.#inTurn(name, async () => {
      const volume = this.parts.store.get(name);
      if (!volume) {
        if (force) return;
        throw new NotFound(`get ${name}: no such volume`);
      }
      const users = this.#usersOf(name);
      if (users.length > 0) throw new Conflict(`remove ${name}: volume is in use - [${users.join(', ')}]`);
      // From here on nobody finds it any more.
      this.parts.store.setPhase(name, 'removing');
      faultPoint('volume.removing');
      await this.#destroy(volume);
    });
  }

  /**
   * Anonymous volumes that no container has; with the filter all=true named ones too. Those with options stay, as in
   * Docker. @throws InvalidParameter, and then nothing was removed
   */
  async prune(filters: ReadonlyMap<string, readonly string[]>): Promise<{ deleted: string[]; reclaimed: number }> {
    const goes = pruneMatcher(filters, ['label', 'label!', 'all']);
    const named = filters.has('all') && booleanOf('all', filters.get('all')!);
    if (this.#pruning) throw new Conflict('a prune operation is already running');
    this.#pruning = true;
    try {
      return await this.#prune((volume) => (named || volume.anonymous) && goes(volume));
    } finally {
      this.#pruning = false;
    }
  }

  async #prune(goes: (volume: Volume) => boolean): Promise<{ deleted: string[]; reclaimed: number }> {
    const deleted: string[] = [];
    let reclaimed = 0;
    for (const volume of this.list()) {
      if (Object.keys(volume.options).length > 0 || !goes(volume) || this.usageOf(volume.name) > 0) continue;
      const size = await bytesIn(volume.mountpoint);
      try {
        await this.remove(volume.name, { force: true });
      } catch (error) {
        // Somebody took it meanwhile.
        if (error instanceof Conflict) continue;
        throw error;
      }
      deleted.push(volume.name);
      reclaimed += size;
    }
    this.parts.events.record({
      type: 'volume',
      action: 'prune',
      actor: '',
      attributes: { reclaimed: String(reclaimed) },
      time: wallNow(),
    });
    return { deleted, reclaimed };
  }

  /**
   * Fills an empty volume with what the image has at `destination` (copy-up). `user` is the container that it is for.
   */
  async copyUp(volume: Volume, rootfs: string, destination: string, user = ''): Promise<void> {
    await this.mount(volume, user);
    try {
      await this.#inTurn(volume.name, () =>
        copyUp(this.#directory(volume.name), volume.mountpoint, rootfs, destination),
      );
    } finally {
      await this.unmount(volume.name, user);
    }
  }

  /** Mounts what the volume's options name, for `user`, which is a container that is about to start. Repeatable. */
  async mount(volume: Volume, user: string): Promise<void> {
    await this.#inTurn(volume.name, async () => {
      await this.#mountDevice(volume);
      this.foundMounted(volume.name, user);
    });
  }

  /** After a restart of the daemon: a container that runs has it. */
  foundMounted(name: string, user: string): void {
    const users = this.#mountedBy.get(name);
    if (users) users.add(user);
    else this.#mountedBy.set(name, new Set([user]));
  }

  /** `user` needs it no more: after the last one it is unmounted. Returns whether `user` had it. Repeatable. */
  unmount(name: string, user: string): Promise<boolean> {
    return this.#inTurn(name, () => {
      const users = this.#mountedBy.get(name);
      const had = users?.delete(user) ?? false;
      if (users?.size === 0) {
        this.#mountedBy.delete(name);
        const volume = this.parts.store.get(name);
        if (volume && isDevice(volume)) unmount(this.#whole(volume).mountpoint);
      }
      return had;
    });
  }

  /** Once all that run are known: what a dead daemon left mounted for nobody is unmounted. */
  async sweep(): Promise<void> {
    for (const volume of this.parts.store.inPhase('ready').filter(isDevice)) {
      await this.#inTurn(
        volume.name,
        () => this.#mountedBy.has(volume.name) || unmount(this.#whole(volume).mountpoint),
      );
    }
  }

  async #mountDevice({ mountpoint, options }: Volume): Promise<void> {
    const { type, device, o = '' } = options;
    if (!type || !device || isMountPoint(mountpoint)) return;
    await mountDevice({ type, device, o }, mountpoint);
  }

  #usersOf(name: string): string[] {
    const holders = [...this.#held].filter(([, names]) => names.has(name)).map(([container]) => container);
    return [...new Set([...this.parts.usersOf(name), ...holders])];
  }

  #makeDirectories(name: string): void {
    const directory = this.#directory(name);
    mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
    const data = join(directory, DATA);
    mkdirSync(data, { recursive: true });
    chmodSync(data, DATA_MODE);
    syncDirectory(directory);
    syncDirectory(this.parts.root);
  }

  // Nobody was told of it. Only empty directories go: where there is data after all, it is kept.
  #undoCreate(name: string): void {
    try {
      for (const path of [join(this.#directory(name), DATA), this.#directory(name)]) removeEmpty(path);
      this.parts.store.delete(name);
    } catch {
      this.parts.store.setPhase(name, 'ready');
    }
  }

  async #destroy(volume: StoredVolume): Promise<void> {
    const directory = this.#directory(volume.name);
    // What is mounted in it is not the volume's own: it must not be deleted along.
    for (const point of mountsUnder(directory)) unmount(point);
    const [left] = mountsUnder(directory);
    if (left) throw new SystemFault(`remove ${volume.name}: ${left} is still mounted`);
    await rm(directory, { recursive: true, force: true });
    faultPoint('volume.removed');
    this.parts.store.transaction(() => {
      this.parts.store.delete(volume.name);
      this.parts.events.record(volumeEvent(volume, 'destroy'));
    });
  }

  #directory = (name: string): string => join(this.parts.root, name);
  #whole = (volume: StoredVolume): Volume => ({ ...volume, mountpoint: join(this.#directory(volume.name), DATA) });

  #inTurn<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    const turn = (this.#turns.get(name) ?? Promise.resolve()).catch(() => undefined).then(work);
    const last = turn
      .catch(() => undefined)
      .finally(() => {
        if (this.#turns.get(name) === last) this.#turns.delete(name);
      });
    this.#turns.set(name, last);
    return turn;
  }
}

const isDevice = ({ options }: StoredVolume): boolean => Boolean(options.type && options.device);

function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
