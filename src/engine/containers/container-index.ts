/** All containers, by id and name, and what a starting daemon does with what it finds of them. */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { JOURNAL_FILE, LOCK_FILE } from '../../protocol/paths.ts';
import { tryLock } from '../../sys/file.ts';
import { unmount } from '../../sys/mount.ts';
import { mountsUnder } from '../../sys/mountinfo.ts';
import { Conflict, InvalidParameter, NotFound } from '../../model/errors.ts';
import { startsAfterBoot } from './after-boot.ts';
import { removeEmptyCgroups } from '../../sys/cgroupfs.ts';
import { resumeAfterCommit } from './operations/commit.ts';
import type { Container } from '../../model/container.ts';
import type { Lifecycle } from './lifecycle.ts';
import { isRunning } from './moves.ts';
import type { Parts } from './parts.ts';
import { removeContainer } from './operations/remove.ts';
import { shimCgroups } from './shim-spec.ts';
import { Slots } from '../../async/slots.ts';
import { isOfEarlierBoot, Supervisor } from './handle/handle.ts';
import { foundMounted } from './volume-mounts.ts';

/** How many shims are asked at once. */
const RESTORE_CONCURRENCY = 32;
/** A shim that has not answered within this does not count among them. */
const SLOW_MS = 500;
/** A list waits this long for shims that do not answer, then shows what the store knows. */
const LIST_PATIENCE_MS = 800;
const EXEC_SWEEP_MS = 60_000;

/** What else may lie there (lost+found, where it is a file system of its own) is none of ours. */
const isContainerId = (name: string): boolean => /^[0-9a-f]{64}$/.test(name);

export class Registry {
  readonly #byId = new Map<string, Supervisor>();
  readonly #byName = new Map<string, Supervisor>();
  readonly #reserved = new Set<string>();
  /** Ids whose rows could not be read: nothing of theirs is touched. */
  readonly #unreadable = new Set<string>();
  readonly #sweeper: NodeJS.Timeout;
  #restored: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly parts: Parts,
    private readonly lifecycle: Lifecycle,
    private readonly onFinal: (s: Supervisor) => void,
  ) {
    const runs = (id: string): boolean => {
      const s = this.#byId.get(id);
      return s !== undefined && isRunning(s.container);
    };
    this.#sweeper = setInterval(() => parts.execs.sweep(runs), EXEC_SWEEP_MS);
    this.#sweeper.unref();
  }

  /** Reads the rows, then restores every container; resolves when all are whose shims answer. */
  restore(): Promise<void> {
    const { containers, unreadable } = this.parts.rows.load();
    for (const { id, name, reason } of unreadable) {
      this.#unreadable.add(id);
      this.#reserved.add(name);
      this.parts.log.error({ container: id, name, reason }, 'its row cannot be read: nothing of it is touched');
    }
    for (const c of containers) {
      this.add(c);
      if (!c.state.final) foundMounted(this.parts, c);
    }
    this.#sweepDirectories();
    const all = [...this.#byId.values()];
    const limit = new Slots(RESTORE_CONCURRENCY, SLOW_MS);
    for (const s of all) s.restored = limit.run(() => s.restore(() => this.#finish(s)));
    // One that does not answer is waited for by its own clients only.
    const each = (work: (s: Supervisor) => Promise<void>) =>
      all.map((s) => s.restored.then(() => (s.silent ? void work(s) : work(s))));
    this.#restored = Promise.all(each((s) => s.finished));
    // Not before: clients wait for the list.
    this.#restored
      .then(() => this.#sweepCgroups())
      .catch((err: unknown) => this.parts.log.warn({ err }, 'cgroups of earlier shims stay'));
    return Promise.all(each((s) => s.finished.then(() => this.#startAfterBoot(s)))).then(() => undefined);
  }

  /**
   * Whether the network that a container has must be left to it: also where its row cannot be read or is lost, as long
   * as its directory is there.
   */
  holdsNetwork(id: string): boolean {
    const s = this.#byId.get(id);
    return s ? !s.container.state.final : existsSync(this.parts.paths.container(id));
  }

  close(): void {
    clearInterval(this.#sweeper);
    for (const s of this.#byId.values()) s.detach();
  }

  all = (): Container[] => [...this.#byId.values()].map((s) => s.container);

  /** Resolves when all are restored and what was to go is gone, or when a list has waited long enough. */
  restoredEnough = async (): Promise<void> => {
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([this.#restored, new Promise((resolve) => (timer = setTimeout(resolve, LIST_PATIENCE_MS)))]);
    clearTimeout(timer);
  };

  add(container: Container): void {
    const s = new Supervisor(container, this.parts, this.onFinal);
    this.#byId.set(container.id, s);
    this.#byName.set(container.name, s);
  }

  drop(s: Supervisor): void {
    this.#byId.delete(s.container.id);
    if (this.#byName.get(s.container.name) === s) this.#byName.delete(s.container.name);
  }

  renamed(s: Supervisor, name: string): void {
    this.#byName.delete(s.container.name);
    s.container.name = name;
    this.#byName.set(name, s);
  }

  nameTaken = (name: string): boolean => this.#byName.has(name) || this.#reserved.has(name);

  /** Keeps a name for the one who asks. @throws Conflict with Docker's text */
  reserve(name: string): { release(): void } {
    const holder = this.#byName.get(name)?.container.id;
    if (holder !== undefined || this.#reserved.has(name)) {
      throw new Conflict(
        `Conflict. The container name "/${name}" is already in use by container "${holder ?? ''}". You have to remove (or rename) that container to be able to reuse that name.`,
      );
    }
    this.#reserved.add(name);
    return { release: () => void this.#reserved.delete(name) };
  }

  /** Full id, exact name (with or without slash), unique id prefix. @throws NotFound, InvalidParameter */
  lookup(reference: string): Supervisor {
    if (reference === '') throw new InvalidParameter('invalid name or ID supplied: ""');
    const exact = this.#byId.get(reference) ?? this.#byName.get(reference.replace(/^\//, ''));
    if (exact) return exact;
    const matches = [...this.#byId.values()].filter((s) => s.container.id.startsWith(reference));
    if (matches.length > 1) throw new InvalidParameter(`multiple IDs found with provided prefix: ${reference}`);
    if (!matches[0]) throw new NotFound(`No such container: ${reference}`);
    return matches[0];
  }

  // What was left half done is finished: a removal, a teardown, an --rm.
  async #finish(s: Supervisor): Promise<void> {
    const c = s.container;
    try {
      await s.serial.run(async () => {
        if (c.phase === 'removing') {
          return removeContainer(s, this.parts, this.lifecycle, { force: true, volumes: c.hostConfig.AutoRemove }, () =>
            this.drop(s),
          );
        }
        if (c.state.status === 'starting' && s.link) {
          // The daemon that began this start is dead, and its client knows nothing of it.
          await s.link.request({
            op: 'abandon',
            operation: 'restore',
            error: 'the daemon ended during the start',
            code: 128,
          });
          await s.pull();
        }
        await resumeAfterCommit(s, this.parts, this.lifecycle);
        if (!c.state.final) return;
        if (c.netns !== '' || c.ports.length > 0 || mountsUnder(this.parts.paths.run(c.id)).length > 0)
          await this.lifecycle.tearDown(s);
        if (c.hostConfig.AutoRemove && c.state.gen > 0 && !isOfEarlierBoot(c.state)) {
          await removeContainer(s, this.parts, this.lifecycle, { force: true, volumes: true }, () => this.drop(s));
        }
      });
    } catch (err) {
      this.parts.log.error({ container: c.id, err }, 'could not finish what was left of it');
    }
  }

  async #startAfterBoot(s: Supervisor): Promise<void> {
    const c = s.container;
    if (!isOfEarlierBoot(c.state) || !startsAfterBoot(c.hostConfig.RestartPolicy, c.state)) return;
    try {
      await this.lifecycle.start(s);
    } catch (err) {
      this.parts.log.error({ container: c.id, err }, 'could not start it after the boot');
    }
  }

  // Of containers that are no more: their shims were killed, or ended too late for the daemon before.
  #sweepCgroups(): void {
    removeEmptyCgroups(
      shimCgroups(this.parts.config),
      new Set([...this.#byId.keys(), ...this.#unreadable].map((id) => basename(this.parts.paths.run(id)))),
    );
  }

  // A directory without a row is what a create left that was never answered, unless it has a journal: then the row is
  // what got lost, and the container may be alive.
  #sweepDirectories(): void {
    const { paths, log } = this.parts;
    mkdirSync(paths.containers(), { recursive: true, mode: 0o710 });
    mkdirSync(paths.runs(), { recursive: true, mode: 0o700 });
    for (const id of readdirSync(paths.containers()).filter(isContainerId)) {
      if (this.#byId.has(id) || this.#unreadable.has(id)) continue;
      const directory = paths.container(id);
      if (existsSync(join(directory, JOURNAL_FILE))) {
        log.error({ container: id }, 'a container directory with a journal has no row; it is left alone');
        continue;
      }
      const lock = tryLock(join(directory, LOCK_FILE));
      if (!lock) continue;
      for (const point of mountsUnder(paths.run(id))) unmount(point);
      rmSync(paths.run(id), { recursive: true, force: true });
      rmSync(directory, { recursive: true, force: true });
      lock.release();
    }
  }
}
