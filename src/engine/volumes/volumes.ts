/** Volumes of the local driver: directories that outlive containers. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmdirSync } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { StoredVolume, VolumeStore } from '../../store/volumes.ts';
import { faultPoint } from '../../sys/fault.ts';
import { syncDirectory } from '../../sys/file.ts';
import { mountsUnder, unmount } from '../../sys/mount.ts';
import { wallNow } from '../clock.ts';
import { anyPattern, booleanOf } from '../containers/filters.ts';
import { Conflict, InvalidParameter, NotFound, SystemFault } from '../errors.ts';
import type { EventLog } from '../events/event-log.ts';
import { hasLabel } from '../events/filter.ts';
import type { NewEvent } from '../events/event.ts';
import { pruneMatcher } from '../prune-filter.ts';
import { copyUp, finishCopyUp } from './copy-up.ts';
import type { Volume } from './volume.ts';

export type { Volume } from './volume.ts';

export interface VolumeRequest {
  /** '' = anonymous: a name of 64 hex digits. */
  name: string;
  /** '' = local. */
  driver: string;
  labels: Record<string, string>;
  options: Record<string, string>;
}

export interface VolumeParts {
  store: VolumeStore;
  events: EventLog;
  /** Directory of all volumes. */
  root: string;
  /** Ids of the containers, stopped ones too, that have the volume. */
  usersOf: (name: string) => string[];
}

const DRIVER = 'local';
const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';
const NAME_CHARACTERS = '[a-zA-Z0-9][a-zA-Z0-9_.-]';
const NAME = new RegExp(`^${NAME_CHARACTERS}+$`);
const LONGEST_NAME = 255;

const DATA = '_data';
/** Volumes' own directories: passed through by containers' users, listed by none. */
const DIRECTORY_MODE = 0o701;
const DATA_MODE = 0o755;

/** Options of the local driver, each with those that must come with it. */
const OPTIONS: Record<string, string[]> = { type: ['device'], device: ['type'], o: ['device', 'type'] };

const FILTERS = new Set(['dangling', 'driver', 'label', 'name']);

const run = promisify(execFile);

export class Volumes {
  /** Work on one volume is done one after the other: the end of the last that was asked for. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(private readonly parts: VolumeParts) {
    mkdirSync(parts.root, { recursive: true, mode: DIRECTORY_MODE });
  }

  /** Finishes or undoes what was under way when the daemon died. */
  async start(): Promise<void> {
    const { store } = this.parts;
    for (const { name } of store.inPhase('creating')) this.#undoCreate(name);
    for (const volume of store.inPhase('removing')) await this.#destroy(volume);
    for (const volume of store.inPhase('ready')) await finishCopyUp(this.#directory(volume.name), this.#whole(volume).mountpoint);
  }

  /** One that exists already is returned as it is, whatever labels and options are asked for. @throws InvalidParameter, NotFound for an unknown driver */
  async create(request: VolumeRequest): Promise<Volume> {
    const anonymous = request.name === '';
    const name = anonymous ? randomBytes(32).toString('hex') : request.name;
    try {
      checkRequest(name, request);
    } catch (error) {
      if (error instanceof NotFound) throw new NotFound(`create ${name}: ${error.message}`);
      throw new InvalidParameter(`create ${name}: ${(error as Error).message}`);
    }
    return this.#inTurn(name, () => {
      const existing = this.parts.store.get(name);
      if (existing) return this.#whole(existing);
      const labels = anonymous ? { ...request.labels, [ANONYMOUS_LABEL]: '' } : request.labels;
      const volume: StoredVolume = { name, driver: DRIVER, created: wallNow(), labels, options: request.options, anonymous };
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
    return this.parts.store.inPhase('ready').filter((v) =>
      (!names?.length || names.includes(v.name) || matches(v.name)) &&
      (!drivers?.length || drivers.includes(v.driver)) &&
      labels.every((label) => hasLabel(v.labels, label)) &&
      (dangling === undefined || dangling === (this.parts.usersOf(v.name).length === 0)),
    ).map((v) => this.#whole(v));
  }

  /** How many containers have it. */
  usageOf = (name: string): number => this.parts.usersOf(name).length;

  /** Bytes that it takes on disk. */
  sizeOf = (volume: Volume): Promise<number> => bytesIn(volume.mountpoint);

  /** @throws Conflict while any container has it, NotFound unless forced */
  async remove(name: string, { force }: { force: boolean }): Promise<void> {
    await this.#inTurn(name, async () => {
      const volume = this.parts.store.get(name);
      if (!volume) {
        if (force) return;
        throw new NotFound(`get ${name}: no such volume`);
      }
      const users = this.parts.usersOf(name);
      if (users.length > 0) throw new Conflict(`remove ${name}: volume is in use - [${users.join(', ')}]`);
      // From here on nobody finds it any more.
      this.parts.store.setPhase(name, 'removing');
      faultPoint('volume.removing');
      await this.#destroy(volume);
    });
  }

  /** Anonymous volumes that no container has; with the filter all=true named ones too. @throws InvalidParameter, and then nothing was removed */
  async prune(filters: ReadonlyMap<string, readonly string[]>): Promise<{ deleted: string[]; reclaimed: number }> {
    const goes = pruneMatcher(filters, ['label', 'label!', 'all']);
    const named = filters.has('all') && booleanOf('all', filters.get('all')!);
    const deleted: string[] = [];
    let reclaimed = 0;
    for (const volume of this.list()) {
      if (!(named || volume.anonymous) || !goes(volume) || this.parts.usersOf(volume.name).length > 0) continue;
      const size = await this.sizeOf(volume);
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
    this.parts.events.record({ type: 'volume', action: 'prune', actor: '', attributes: { reclaimed: String(reclaimed) }, time: wallNow() });
    return { deleted, reclaimed };
  }

  /** Fills an empty volume with what the image has at `destination` (copy-up). */
  async copyUp(volume: Volume, rootfs: string, destination: string): Promise<void> {
    await this.#inTurn(volume.name, async () => {
      await this.#mountDevice(volume);
      await copyUp(this.#directory(volume.name), volume.mountpoint, rootfs, destination);
    });
  }

  /** Mounts what the volume's options name (a device, a share, a tmpfs); to be called before a container that has it starts. Repeatable. */
  async mount(volume: Volume): Promise<void> {
    await this.#inTurn(volume.name, () => this.#mountDevice(volume));
  }

  async #mountDevice({ name, mountpoint, options }: Volume): Promise<void> {
    const { type, device, o } = options;
    if (!type || !device || mountsUnder(mountpoint).includes(mountpoint)) return;
    try {
      await run('mount', ['-t', type, ...(o ? ['-o', o] : []), '--', device, mountpoint]);
    } catch (error) {
      const reason = (error as { stderr?: string }).stderr?.trim() || (error as Error).message;
      throw new SystemFault(`error while mounting volume '${name}': failed to mount local volume: ${reason}`);
    }
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
    const last = turn.catch(() => undefined).finally(() => {
      if (this.#turns.get(name) === last) this.#turns.delete(name);
    });
    this.#turns.set(name, last);
    return turn;
  }
}

/** Its events carry its driver; those of mounts more. */
export const volumeEvent = (volume: Pick<Volume, 'name' | 'driver'>, action: 'create' | 'destroy' | 'mount' | 'unmount', own: Record<string, string> = {}): NewEvent =>
  ({ type: 'volume', action, actor: volume.name, attributes: { driver: volume.driver, ...own }, time: wallNow() });

function checkRequest(name: string, { driver, options }: VolumeRequest): void {
  if (driver !== '' && driver !== DRIVER) throw new NotFound(`error looking up volume plugin ${driver}: plugin "${driver}" not found`);
  if (name.length === 1) throw new InvalidParameter('volume name is too short, names should be at least two alphanumeric characters');
  if (!NAME.test(name)) {
    throw new InvalidParameter(`"${name}" includes invalid characters for a local volume name, only "${NAME_CHARACTERS}" are allowed. If you intended to pass a host directory, use absolute path`);
  }
  if (name.length > LONGEST_NAME) throw new InvalidParameter(`volume name is too long, names should be at most ${LONGEST_NAME} characters`);
  for (const key of Object.keys(options)) {
    if (key === 'size') throw new InvalidParameter('quota size requested but no quota support');
    const needed = OPTIONS[key];
    if (!needed) throw new InvalidParameter(`invalid option: "${key}"`);
    for (const other of needed) if (!options[other]) throw new InvalidParameter(`missing required option: "${other}"`);
  }
}

function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

async function bytesIn(path: string): Promise<number> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  let bytes = 0;
  for (const entry of entries) {
    const inner = join(path, entry.name);
    bytes += entry.isDirectory() ? await bytesIn(inner) : await lstat(inner).then((s) => s.size, () => 0);
  }
  return bytes;
}
