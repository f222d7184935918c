/** Restores all containers when the daemon starts: finds each shim, and carries out what plan.ts decides. */
import { basename, relative } from 'node:path';
import { Slots } from '../../../async/slots.ts';
import type { Container } from '../../../model/container.ts';
import { NotModified } from '../../../model/errors.ts';
import type { RunState } from '../../../protocol/runstate.ts';
import { removeEmptyCgroups } from '../../../sys/cgroupfs.ts';
import { mountsUnder } from '../../../sys/mountinfo.ts';
import { bootId } from '../../../sys/process.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { hasProcesses } from '../handle/traces.ts';
import { isPausedForCommit, resumeAfterCommit } from '../operations/commit.ts';
import { removeInTurn } from '../operations/remove.ts';
import { start } from '../operations/start.ts';
import { tearDown } from '../operations/teardown.ts';
import { shimCgroups } from '../shim-spec.ts';
import { noteMountedVolumes } from '../volume-mounts.ts';
import { damagedContainer } from './damaged.ts';
import { sweepOrphans } from './orphans.ts';
import { planRecovery, startsWithDaemon, type Found, type Step } from './plan.ts';

/** How many shims are asked at once. */
const CONCURRENCY = 32;
/** A shim that has not answered within this gives its slot to the next. */
const SLOW_MS = 500;
/** A list waits this long for unresponsive shims, then shows what the store knows. */
const LIST_TIMEOUT_MS = 800;

export class Recovery {
  #restored: Promise<unknown> = Promise.resolve();
  /** Those that had ended before any client could reach them: what ends from then on is not started. */
  readonly #ended = new Set<ContainerHandle>();
  /** Names of the run directories below which something was mounted when the daemon started. */
  #mountedRuns = new Set<string>();

  constructor(private readonly deps: ContainerDeps) {}

  /** Resolves when all containers whose shims answer are restored; all rows are in the index when it returns. */
  restore(): Promise<void> {
    const { index, log } = this.deps;
    this.#loadRows();
    this.#mountedRuns = this.#findMountedRuns();
    sweepOrphans(this.deps);
    const handles = index.handles();
    const slots = new Slots(CONCURRENCY, SLOW_MS);
    for (const handle of handles)
      handle.shim.restored = slots.run(async () => {
        // Most need no input or output that would let requests be served in between.
        await nextTurn();
        await handle.shim.restore(() => this.#finish(handle));
      });
    // An unresponsive shim delays only the requests for its own container.
    const forEach = (work: (handle: ContainerHandle) => Promise<void>): Promise<unknown> =>
      Promise.all(
        handles.map(async (handle) => {
          // One container that cannot be restored must not make the list of all fail.
          const failed = (err: unknown): void =>
            log.error({ container: handle.container.id, err }, 'could not restore the container');
          await handle.shim.restored.catch(failed);
          const done = work(handle).catch(failed);
          if (!handle.shim.unresponsive) await done;
        }),
      );
    this.#restored = forEach(({ shim }) => shim.finished);
    // Afterwards, because clients wait for the list.
    this.#restored
      .then(() => this.#sweepCgroups())
      .catch((err: unknown) => log.warn({ err }, "could not remove earlier shims' cgroups"));
    return forEach(async (handle) => {
      await handle.shim.finished;
      if (this.#ended.delete(handle)) await this.#startByPolicy(handle);
    }).then(() => undefined);
  }

  /** Resolves when all are restored, or when a list has waited long enough. */
  async restoredEnough(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise((resolve) => (timer = setTimeout(resolve, LIST_TIMEOUT_MS)));
    await Promise.race([this.#restored, timeout]);
    clearTimeout(timer);
  }

  #loadRows(): void {
    const { rows, index, log } = this.deps;
    const { containers, unreadable } = rows.load();
    for (const { reason, ...remains } of unreadable) {
      const { id, name } = remains;
      index.add(
        damagedContainer(remains, `the row of this container in the store cannot be read: ${reason}`, this.deps),
      );
      log.error({ container: id, name, reason }, 'cannot read the row of a container; it can be stopped and removed');
    }
    for (const c of containers) {
      index.add(c);
      if (!c.state.final) noteMountedVolumes(c, this.deps);
    }
  }

  /** Finishes what the last daemon left half done. */
  async #finish(handle: ContainerHandle): Promise<void> {
    const { container: c, turns } = handle;
    try {
      await turns.run(async () => {
        // Its end arrived while it was being restored, and it was removed for that.
        if (handle.isRetired) return;
        const found = this.#look(handle);
        if ((c.state.final && !found.mayLive) || found.ofEarlierBoot) this.#ended.add(handle);
        const steps = planRecovery(found);
        for (const step of steps) await this.#perform(step, handle);
        if (!steps.includes('abandon-start')) return;
        this.#ended.add(handle);
        for (const step of planRecovery(this.#look(handle))) await this.#perform(step, handle);
      });
    } catch (err) {
      this.deps.log.error({ container: c.id, err }, 'could not finish what the last daemon left half done');
    }
  }

  #look({ container: c, shim }: ContainerHandle): Found {
    return {
      phase: c.phase,
      state: c.state,
      ofEarlierBoot: isOfEarlierBoot(c.state),
      shimAnswers: shim.link !== undefined,
      pausedForCommit: isPausedForCommit(c, this.deps),
      mayLive: c.state.final && hasProcesses(c, this.deps),
      holdsResources: c.state.final && this.#holdsResources(c),
      autoRemove: c.hostConfig.AutoRemove,
    };
  }

  #holdsResources(c: Container): boolean {
    return c.netns !== '' || c.ports.length > 0 || this.#mountedRuns.has(basename(this.deps.paths.run(c.id)));
  }

  // Once for all: the mount table of a host with many containers is long. What is mounted later is this daemon's.
  #findMountedRuns(): Set<string> {
    const runs = this.deps.paths.runs();
    return new Set(mountsUnder(runs).map((point) => relative(runs, point).split('/')[0]!));
  }

  async #perform(step: Step, handle: ContainerHandle): Promise<void> {
    const { container: c, shim, journal } = handle;
    switch (step) {
      case 'abandon-start':
        await shim.link?.request({
          op: 'abandon',
          operation: 'restore',
          error: 'the daemon ended during the start',
          code: 128,
        });
        return journal.pull();
      case 'resume-after-commit':
        return resumeAfterCommit(handle, this.deps);
      case 'tear-down':
        return tearDown(handle, this.deps);
      case 'finish-removal':
        return removeInTurn(handle, { force: true, volumes: c.hostConfig.AutoRemove }, this.deps);
      case 'auto-remove':
        return removeInTurn(handle, { force: true, volumes: true }, this.deps);
    }
  }

  async #startByPolicy(handle: ContainerHandle): Promise<void> {
    const { container: c, isRetired } = handle;
    if (isRetired || c.phase !== 'ready' || !startsWithDaemon(c.hostConfig.RestartPolicy, c.state)) return;
    try {
      await start(handle, this.deps);
    } catch (err) {
      if (err instanceof NotModified) return; // A client was faster.
      this.deps.log.error({ container: c.id, err }, 'could not start the container by its restart policy');
    }
  }

  // Shims that were killed, or exited after their daemon, leave an empty cgroup behind.
  #sweepCgroups(): void {
    const { config, paths, index } = this.deps;
    removeEmptyCgroups(shimCgroups(config), new Set(index.ids().map((id) => basename(paths.run(id)))));
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Whether the last run belongs to an earlier boot: nothing of it can be alive. */
const isOfEarlierBoot = (state: RunState): boolean => state.boot !== '' && state.boot !== bootId();
