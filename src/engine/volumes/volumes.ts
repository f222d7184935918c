/** Volumes of the local driver: directories that outlive containers. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { KeyedSerial } from '../../async/keyed-serial.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../../model/errors.ts';
import type { Volume } from '../../model/volume.ts';
import type { StoredVolume, VolumeStore } from '../../store/volumes.ts';
import { faultPoint } from '../../sys/fault.ts';
import { syncDirectory } from '../../sys/file.ts';
import { unmount } from '../../sys/mount.ts';
import { isMountPoint, mountsUnder } from '../../sys/mountinfo.ts';
import { wallNow } from '../clock.ts';
import { booleanOf } from '../filter-values.ts';
import type { EventLog } from '../events/event-log.ts';
import { pruneMatcher } from '../prune-filter.ts';
import { removeTree } from '../remove-tree.ts';
import { treeSize } from '../tree-size.ts';
import { copyUp, copyUpBelow, finishCopyUp, isCopyUpUnfinished } from './copy-up.ts';
import { mountDevice } from './device.ts';
import { volumeEvent } from './events.ts';
import { volumeFilter } from './filter.ts';
import { checkName, checkOptions, DRIVER, type VolumeRequest } from './request.ts';

export type { Volume } from '../../model/volume.ts';

/** Keeps volumes from being removed while the container that needs them is being created. */
export interface VolumeReservation {
  add(name: string): void;
  release(): void;
}

export interface VolumesDeps {
  store: VolumeStore;
  events: EventLog;
  /** Directory of all volumes. */
  root: string;
  /** Ids of all containers with the volume, including stopped ones. */
  usersOf: (name: string) => string[];
  /** Ids of the containers of which it is not known which volumes they have. */
  unknownUsers: () => string[];
  log: Pick<Logger, 'error' | 'warn'>;
}

const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';

const DATA = '_data';
/** A volume's own directory: other users may pass through it, but not list it. */
const DIRECTORY_MODE = 0o701;
const DATA_MODE = 0o755;

export class Volumes {
  /** Changes, by volume. */
  readonly #changes = new KeyedSerial();
  /** Reserved names, by id of the container that is being created. */
  readonly #reserved = new Map<string, Set<string>>();
  /** Ids of the containers that run or are about to, by the volume that they have mounted. */
  readonly #mountedBy = new Map<string, Set<string>>();
  #pruning = false;

  constructor(private readonly deps: VolumesDeps) {
    mkdirSync(deps.root, { recursive: true, mode: DIRECTORY_MODE });
  }

  /**
   * Finishes or undoes what the previous daemon left half done. It can take as long as a volume has files; until it
   * resolves, changes of the volumes that it is at wait. A volume with which it fails is logged, and can be listed and
   * removed.
   */
  async start(): Promise<void> {
    const { store, log } = this.deps;
    const creating = store.inPhase('creating');
    const removing = store.inPhase('removing');
    const copying = store.inPhase('ready').filter(({ name }) => isCopyUpUnfinished(this.#directory(name)));
    for (const { name, damaged } of store.inPhase('ready'))
      if (damaged !== undefined) log.error({ volume: name, reason: damaged }, 'cannot read the row of a volume');
    for (const { name } of creating) this.#undoCreate(name);
    await Promise.all([
      ...removing.map((volume) => this.#finish(volume, 'removal', () => this.#destroy(volume))),
      ...copying.map((volume) =>
        this.#finish(volume, 'copy-up', () => finishCopyUp(this.#directory(volume.name), this.#data(volume))),
      ),
    ]);
  }

  #finish({ name }: StoredVolume, what: string, work: () => Promise<void>): Promise<void> {
    return this.#changes
      .run(name, work)
      .catch((err: unknown) => this.deps.log.error({ volume: name, err }, `could not finish a volume's ${what}`));
  }

  /**
   * Creates a volume and, with a reservation, reserves it. An existing one is returned as it is, whatever labels and
   * options are requested.
   * @throws InvalidParameter, NotFound for an unknown driver
   */
  async create(request: VolumeRequest, reservation?: VolumeReservation): Promise<Volume> {
    const anonymous = request.name === '';
    const name = anonymous ? randomBytes(32).toString('hex') : request.name;
    try {
      checkName(name, request.driver);
      if (!this.deps.store.get(name)) checkOptions(request.options);
    } catch (error) {
      if (error instanceof NotFound) throw new NotFound(`create ${name}: ${error.message}`);
      throw new InvalidParameter(`create ${name}: ${(error as Error).message}`);
    }
    return this.#changes.run(name, () => {
      reservation?.add(name);
      const existing = this.deps.store.get(name);
      if (existing) return this.#toVolume(existing);
      const labels = anonymous ? { ...request.labels, [ANONYMOUS_LABEL]: '' } : request.labels;
      const volume: StoredVolume = {
        name,
        driver: DRIVER,
        created: wallNow(),
        labels,
        options: request.options,
        anonymous,
      };
      this.deps.store.insertCreating(volume);
      faultPoint('volume.creating');
      this.#makeDirectories(name);
      faultPoint('volume.directories');
      this.deps.store.transaction(() => {
        this.deps.store.setPhase(name, 'ready');
        this.deps.events.record(volumeEvent(volume, 'create'));
      });
      return this.#toVolume(volume);
    });
  }

  /** An empty reservation for the container with this id. */
  reserve(container: string): VolumeReservation {
    const names = new Set<string>();
    this.#reserved.set(container, names);
    return { add: (name) => void names.add(name), release: () => void this.#reserved.delete(container) };
  }

  /** @throws NotFound `get x: no such volume` */
  resolve(name: string): Volume {
    const volume = this.deps.store.get(name);
    if (!volume) throw new NotFound(`get ${name}: no such volume`);
    return this.#toVolume(volume);
  }

  /** Sorted by name. @throws InvalidParameter for unknown filters and bad values */
  list(filters: ReadonlyMap<string, readonly string[]> = new Map()): Volume[] {
    return this.deps.store
      .inPhase('ready')
      .filter(volumeFilter(filters, (name) => this.usageOf(name) > 0))
      .map((volume) => this.#toVolume(volume));
  }

  /** How many containers have the volume. */
  usageOf = (name: string): number => this.#usersOf(name).length;

  /** Disk usage in bytes (or UNKNOWN_SIZE) of all volumes without options; the data of others lies elsewhere. */
  usage(): Promise<{ volume: Volume; size: number; users: number }[]> {
    const own = this.list().filter(({ options }) => Object.keys(options).length === 0);
    return Promise.all(
      own.map(async (volume) => ({
        volume,
        size: await treeSize(volume.mountpoint),
        users: this.usageOf(volume.name),
      })),
    );
  }

  /** @throws Conflict while any container has the volume, NotFound unless forced */
  async remove(name: string, { force }: { force: boolean }): Promise<void> {
    await this.#changes.run(name, async () => {
      const volume = this.deps.store.get(name);
      if (!volume) {
        if (force) return;
        throw new NotFound(`get ${name}: no such volume`);
      }
      const users = this.#usersOf(name);
      if (users.length > 0) throw new Conflict(`remove ${name}: volume is in use - [${users.join(', ')}]`);
      await this.#destroy(volume);
    });
  }

  /**
   * Removes unused anonymous volumes; with the filter all=true named ones too. Volumes with options stay, as in Docker.
   * @throws InvalidParameter, before anything is removed; Conflict while another prune runs
   */
  async prune(filters: ReadonlyMap<string, readonly string[]>): Promise<{ deleted: string[]; reclaimed: number }> {
    const matches = pruneMatcher(filters, ['label', 'label!', 'all']);
    const named = filters.has('all') && booleanOf('all', filters.get('all')!);
    if (this.#pruning) throw new Conflict('a prune operation is already running');
    this.#pruning = true;
    try {
      return await this.#prune((volume) => (named || volume.anonymous) && matches(volume));
    } finally {
      this.#pruning = false;
    }
  }

  async #prune(matches: (volume: Volume) => boolean): Promise<{ deleted: string[]; reclaimed: number }> {
    const deleted: string[] = [];
    let reclaimed = 0;
    const unknown = this.deps.unknownUsers();
    if (unknown.length > 0)
      this.deps.log.warn({ containers: unknown }, 'no volume is pruned: it is not known which these containers use');
    for (const volume of unknown.length > 0 ? [] : this.list()) {
      if (volume.damaged !== undefined) continue;
      if (Object.keys(volume.options).length > 0 || !matches(volume) || this.usageOf(volume.name) > 0) continue;
      const size = await treeSize(volume.mountpoint);
      try {
        await this.remove(volume.name, { force: true });
      } catch (error) {
        // A container has begun to use it.
        if (error instanceof Conflict) continue;
        throw error;
      }
      deleted.push(volume.name);
      reclaimed += Math.max(size, 0);
    }
    this.deps.events.record({
      type: 'volume',
      action: 'prune',
      actor: '',
      attributes: { reclaimed: String(reclaimed) },
      time: wallNow(),
    });
    return { deleted, reclaimed };
  }

  /**
   * Copy-up: fills an empty volume, or the directory `subpath` of it, with what the image has at `destination`.
   * @param user the container's id
   */
  async copyUp(
    volume: Volume,
    rootfs: string,
    destination: string,
    { user = '', subpath }: { user?: string; subpath?: string | undefined } = {},
  ): Promise<void> {
    await this.mount(volume, user);
    try {
      await this.#changes.run(volume.name, () =>
        subpath === undefined
          ? copyUp(this.#directory(volume.name), volume.mountpoint, rootfs, destination)
          : copyUpBelow(volume.mountpoint, subpath, rootfs, destination),
      );
    } finally {
      await this.unmount(volume.name, user);
    }
  }

  /**
   * Mounts the device of a volume with options, for a container (`user`) that is about to start. Repeatable.
   * @throws SystemFault when its row cannot be read
   */
  async mount(volume: Volume, user: string): Promise<void> {
    // A device may belong there: what a container writes beside it would be lost under it.
    if (volume.damaged !== undefined) throw new SystemFault(`cannot mount volume ${volume.name}: ${volume.damaged}`);
    await this.#changes.run(volume.name, async () => {
      await this.#mountDevice(volume);
      this.adoptMount(volume.name, user);
    });
  }

  /** Records that a container has the volume mounted, as after a restart of the daemon. */
  adoptMount(name: string, user: string): void {
    const users = this.#mountedBy.get(name);
    if (users) users.add(user);
    else this.#mountedBy.set(name, new Set([user]));
  }

  /** Unmounts the device when no other container uses it. Returns whether `user` had it mounted. Repeatable. */
  unmount(name: string, user: string): Promise<boolean> {
    return this.#changes.run(name, () => {
      const users = this.#mountedBy.get(name);
      const had = users?.delete(user) ?? false;
      if (users?.size === 0) {
        this.#mountedBy.delete(name);
        const volume = this.deps.store.get(name);
        if (volume && hasDevice(volume)) unmount(this.#data(volume));
      }
      return had;
    });
  }

  /** Unmounts the devices that no container uses. Call when all running containers are known. */
  async sweep(): Promise<void> {
    for (const volume of this.deps.store.inPhase('ready').filter(hasDevice)) {
      await this.#changes
        .run(volume.name, () => {
          if (!this.#mountedBy.has(volume.name)) unmount(this.#data(volume));
        })
        .catch((err: unknown) => this.deps.log.error({ volume: volume.name, err }, 'could not unmount a volume'));
    }
  }

  async #mountDevice({ mountpoint, options }: Volume): Promise<void> {
    const { type, device, o = '' } = options;
    if (!type || !device || isMountPoint(mountpoint)) return;
    await mountDevice({ type, device, o }, mountpoint);
  }

  #usersOf(name: string): string[] {
    const reserving = [...this.#reserved].filter(([, names]) => names.has(name)).map(([container]) => container);
    return [...new Set([...this.deps.usersOf(name), ...reserving])];
  }

  #makeDirectories(name: string): void {
    const directory = this.#directory(name);
    mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
    const data = join(directory, DATA);
    mkdirSync(data, { recursive: true });
    chmodSync(data, DATA_MODE);
    syncDirectory(directory);
    syncDirectory(this.deps.root);
  }

  // The client never got the volume. Only empty directories are deleted: if there is data, the volume is kept.
  #undoCreate(name: string): void {
    try {
      for (const path of [join(this.#directory(name), DATA), this.#directory(name)]) removeEmpty(path);
      this.deps.store.delete(name);
    } catch {
      this.deps.store.setPhase(name, 'ready');
    }
  }

  async #destroy(volume: StoredVolume): Promise<void> {
    // From here on no lookup finds it.
    this.deps.store.setPhase(volume.name, 'removing');
    faultPoint('volume.removing');
    try {
      await this.#deleteFiles(volume.name);
    } catch (error) {
      // Otherwise its name would be in use by a volume that nobody can see.
      this.deps.store.setPhase(volume.name, 'ready');
      throw error;
    }
    faultPoint('volume.removed');
    this.deps.store.transaction(() => {
      this.deps.store.delete(volume.name);
      this.deps.events.record(volumeEvent(volume, 'destroy'));
    });
  }

  async #deleteFiles(name: string): Promise<void> {
    const directory = this.#directory(name);
    // What is mounted inside is not the volume's data and must not be deleted with it.
    for (const point of mountsUnder(directory)) unmount(point);
    const [left] = mountsUnder(directory);
    if (left) throw new SystemFault(`remove ${name}: ${left} is still mounted`);
    await removeTree(directory);
  }

  #directory = (name: string): string => join(this.deps.root, name);
  #data = ({ name }: StoredVolume): string => join(this.#directory(name), DATA);
  #toVolume = (volume: StoredVolume): Volume => ({ ...volume, mountpoint: this.#data(volume) });
}

/** Whether its options name a file system to mount. */
const hasDevice = ({ options }: StoredVolume): boolean => Boolean(options.type && options.device);

function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
