/** The shim of one container, from its adoption until it is no longer needed. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Adopt } from '../protocol/messages.ts';
import { JOURNAL_FILE, LOCK_FILE, SHIM_LOG_FILE } from '../protocol/paths.ts';
import { faultPoint } from '../sys/fault.ts';
import { tryLock, type Lock } from '../sys/file.ts';
import { trimHeap } from '../sys/memory.ts';
import { bootId } from '../sys/process.ts';
import { joinCgroup, leaveCgroup } from './cgroup.ts';
import { Container } from './container.ts';
import { daemonLives } from './daemon-presence.ts';
import { Journal } from './journal.ts';
import { Reaper } from './reaper.ts';
import { Server } from './server.ts';
import { appendErrorLog } from './shim-log.ts';

/** The previous shim may be ending: it removes its sockets before it releases the lock. */
const LOCK_TIMEOUT_MS = 10_000;
const LOCK_POLL_MS = 10;
/** After the container's end, for a daemon that pulls the journal or starts the container again. */
const LINGER_MS = 1000;
/** For a shim whose container was never started, or that has had no connection: its daemon may have died meanwhile. */
const UNUSED_LINGER_MS = 5_000;
const CHECK_MS = 250;
const TRIM_MS = 10_000;
/** CPU time since the last trim, µs, that makes another one worthwhile. */
const TRIM_CPU_US = 20_000;
/** Moving processes between cgroups takes milliseconds: after the container's start. */
const CGROUP_AFTER_MS = 1000;

export class Shim {
  readonly #container: Container;
  readonly #server: Server;
  readonly #journal: Journal;
  #unneededSince = 0;
  #released = false;
  #ending = false;
  #cgroup = '';
  /** CPU time at the last trim, µs. */
  #cpu = 0;

  private constructor(
    private readonly order: Adopt,
    private readonly lock: Lock,
    bundle: string,
  ) {
    const { container: id, dir, run } = order;
    const boot = bootId();
    this.#journal = new Journal(join(dir, JOURNAL_FILE), boot, order.stored);
    const { logError } = this;
    const journal = this.#journal;
    const container = new Container({
      ...{ id, dir, run, boot, journal, logError },
      reaper: new Reaper(),
      daemonLives: () => daemonLives(order.daemon),
    });
    this.#container = container;
    const onRelease = (): void => void (this.#released = true);
    this.#server = new Server({ id, container, journal, bundle, onRelease, logError });
    this.#journal.onAppend = () => this.#server.ring();
  }

  /** Takes the container: lock, journal, sockets. @throws Error when another shim holds it */
  static async adopt(order: Adopt, bundle: string): Promise<Shim> {
    // The lock first: without the container's directory it fails, and leaves nothing behind.
    const lock = await waitForLock(join(order.dir, LOCK_FILE));
    if (!lock) throw new Error(`another shim holds container ${order.container}`);
    mkdirSync(order.run, { recursive: true, mode: 0o700 });
    faultPoint('shim.locked');
    const shim = new Shim(order, lock, bundle);
    await shim.#serve(bundle);
    return shim;
  }

  readonly logError = (what: string, error: unknown): void =>
    appendErrorLog(join(this.order.dir, SHIM_LOG_FILE), what, error);

  /** Stops the container because the host goes down, then ends the shim. */
  async shutdown(): Promise<void> {
    try {
      await this.#container.hostGoesDown();
    } catch (error) {
      this.logError('stopping the container at host shutdown', error);
    }
    this.#end();
  }

  async #serve(bundle: string): Promise<void> {
    const { container, run } = this.order;
    // Linux keeps a process title within the space of argv: the daemon passes long arguments to make room.
    process.title = `holdfast-shim ${this.#container.spec?.name ?? ''} ${container.slice(0, 12)}`;
    this.#journal.append({ type: 'adopted', shimPid: process.pid, bundle });
    await this.#container.takeOver();
    faultPoint('shim.took-over');
    await Promise.all([this.#journal.durable(), this.#server.listen(run)]);
    faultPoint('shim.listens');
    setInterval(() => this.#endIfUnneeded(), CHECK_MS);
    setInterval(() => this.#trimMemory(), TRIM_MS);
    setTimeout(() => this.#joinOwnCgroup(), CGROUP_AFTER_MS);
  }

  #endIfUnneeded(): void {
    if (this.#container.needed || this.#server.pending > 0) {
      this.#unneededSince = 0;
      return;
    }
    // A new connection is about to send its request.
    this.#unneededSince = Math.max(this.#unneededSince || Date.now(), this.#server.connectedAt);
    if (Date.now() - this.#unneededSince >= this.#linger()) this.#end();
  }

  #linger(): number {
    if (this.#released) return 0;
    // On a busy host the daemon may take more than a second to connect.
    return this.#journal.state.gen > 0 && this.#server.connectedAt > 0 ? LINGER_MS : UNUSED_LINGER_MS;
  }

  #end(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#server.close(this.order.run);
    faultPoint('shim.unlistened');
    this.#journal.close();
    // Also when this shim has not joined it yet: the previous one may have.
    const cgroup = this.#container.spec?.shimCgroup ?? this.#cgroup;
    if (cgroup !== '') leaveCgroup(cgroup);
    faultPoint('shim.left');
    this.lock.release();
    process.exit(0);
  }

  // What stops or limits the daemon's service must not affect the shim.
  #joinOwnCgroup(): void {
    const path = this.#container.spec?.shimCgroup ?? '';
    if (path === '' || this.#cgroup !== '') return;
    this.#cgroup = path;
    joinCgroup(path, [process.pid, ...this.#container.keepers]);
    faultPoint('shim.joined');
  }

  // After heavy output the heap is 25 MB; collected and trimmed it is 6 MB.
  #trimMemory(): void {
    const { user, system } = process.cpuUsage();
    const used = user + system - this.#cpu;
    if (used < TRIM_CPU_US) return;
    globalThis.gc?.();
    trimHeap();
    const after = process.cpuUsage();
    this.#cpu = after.user + after.system;
  }
}

async function waitForLock(path: string): Promise<Lock | undefined> {
  for (const deadline = Date.now() + LOCK_TIMEOUT_MS; ;) {
    const lock = tryLock(path);
    if (lock || Date.now() > deadline) return lock;
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
}
