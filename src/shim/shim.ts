/** One shim of one container, from the moment it was given to it until nobody needs it. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Adopt } from '../protocol/messages.ts';
import { JOURNAL_FILE, LOCK_FILE, SHIM_LOG_FILE } from '../protocol/paths.ts';
import { tryLock, type Lock } from '../sys/file.ts';
import { trimHeap } from '../sys/memory.ts';
import { bootId } from '../sys/process.ts';
import { joinCgroup, leaveCgroup } from './cgroup.ts';
import { complainTo } from './shim-log.ts';
import { Journal } from './journal.ts';
import { Reaper } from './reaper.ts';
import { Container } from './container.ts';
import { Server } from './server.ts';

/** The shim before us may be on its way out: its sockets are gone, its lock not yet. */
const LOCK_PATIENCE_MS = 2000;
const LOCK_POLL_MS = 10;
/** After the container's end somebody may still want to pull, or to start it again. */
const LINGER_MS = 1000;
/**
 * A shim whose container was never started, or which nobody has spoken to: its daemon died in the start, or thought
 * better of it.
 */
const UNUSED_LINGER_MS = 5_000;
const LOOK_MS = 250;
const TIDY_MS = 10_000;
/** CPU time since the last look that is worth a garbage collection. */
const TIDY_CPU_US = 20_000;
/** Moving processes between cgroups can take milliseconds that a start does not have. */
const CGROUP_AFTER_MS = 1000;

export class Shim {
  readonly #container: Container;
  readonly #server: Server;
  readonly #journal: Journal;
  #unneededSince = 0;
  #released = false;
  #ending = false;
  #cgroup = '';
  #cpu = 0;

  private constructor(
    private readonly order: Adopt,
    private readonly lock: Lock,
    bundle: string,
  ) {
    const { container: id, dir, run } = order;
    const boot = bootId();
    this.#journal = new Journal(join(dir, JOURNAL_FILE), boot);
    const reaper = new Reaper(() => this.#container.busy);
    this.#container = new Container({
      id,
      dir,
      run,
      boot,
      journal: this.#journal,
      reaper,
      daemonConnected: () => this.#server.connections > 0,
      complain: this.complain,
    });
    this.#server = new Server({
      id,
      container: this.#container,
      journal: this.#journal,
      bundle,
      onRelease: () => (this.#released = true),
      complain: this.complain,
    });
    this.#journal.onAppend = () => this.#server.ring();
  }

  /** Takes the container: lock, journal, sockets. @throws when another shim holds it */
  static async adopt(order: Adopt, bundle: string): Promise<Shim> {
    mkdirSync(order.run, { recursive: true, mode: 0o700 });
    const lock = await lockPatiently(join(order.dir, LOCK_FILE));
    if (!lock) throw new Error(`another shim holds container ${order.container}`);
    const shim = new Shim(order, lock, bundle);
    await shim.#begin(bundle);
    return shim;
  }

  readonly complain = (what: string, error: unknown): void =>
    complainTo(join(this.order.dir, SHIM_LOG_FILE), what, error);

  /** The host goes down. */
  async shutdown(): Promise<void> {
    try {
      await this.#container.hostGoesDown();
    } catch (error) {
      this.complain('stopping the container at host shutdown', error);
    }
    this.#end();
  }

  async #begin(bundle: string): Promise<void> {
    const { container, run } = this.order;
    // Room for it: the daemon passes long arguments (Linux keeps a title within the space of argv).
    process.title = `holdfast-shim ${this.#container.spec?.name ?? ''} ${container.slice(0, 12)}`;
    this.#journal.append({ type: 'adopted', shimPid: process.pid, bundle });
    this.#container.takeOver();
    await Promise.all([this.#journal.durable(), this.#server.listen(run)]);
    setInterval(() => this.#look(), LOOK_MS);
    setInterval(() => this.#tidy(), TIDY_MS);
    setTimeout(() => this.#moveAside(), CGROUP_AFTER_MS);
  }

  // Ends the shim once it was not needed for a while.
  #look(): void {
    if (this.#container.needed || this.#server.pending > 0) {
      this.#unneededSince = 0;
      return;
    }
    // Whoever has just connected is about to say what for.
    this.#unneededSince = Math.max(this.#unneededSince || Date.now(), this.#server.connectedAt);
    if (Date.now() - this.#unneededSince >= this.#linger()) this.#end();
  }

  #linger(): number {
    if (this.#released) return 0;
    // Whoever had it started may take its time to connect: on a busy host more than a second.
    return this.#journal.state.gen > 0 && this.#server.connectedAt > 0 ? LINGER_MS : UNUSED_LINGER_MS;
  }

  #end(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#server.close(this.order.run);
    this.#journal.close();
    // Also when it has not moved there yet: the shim before it may have.
    const cgroup = this.#container.spec?.shimCgroup ?? this.#cgroup;
    if (cgroup !== '') leaveCgroup(cgroup);
    this.lock.release();
    process.exit(0);
  }

  // A cgroup of its own: what stops or limits the daemon's service must not reach the shim.
  #moveAside(): void {
    const path = this.#container.spec?.shimCgroup ?? '';
    if (path === '' || this.#cgroup !== '') return;
    this.#cgroup = path;
    joinCgroup(path, [process.pid, ...this.#container.keepers]);
  }

  // After heavy output the heap is 25 MB; collected and trimmed it is 6 (node-on-linux.md §8).
  #tidy(): void {
    const { user, system } = process.cpuUsage();
    const used = user + system - this.#cpu;
    if (used < TIDY_CPU_US) return;
    globalThis.gc?.();
    trimHeap();
    const after = process.cpuUsage();
    this.#cpu = after.user + after.system;
  }
}

async function lockPatiently(path: string): Promise<Lock | undefined> {
  for (const deadline = Date.now() + LOCK_PATIENCE_MS; ;) {
    const lock = tryLock(path);
    if (lock || Date.now() > deadline) return lock;
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
}
