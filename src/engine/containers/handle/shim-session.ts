/**
 * The daemon's session with a container's shim: finds the shim, connects where something is asked, and spawns a
 * successor for a container that has lost its shim.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Serial } from '../../../async/serial.ts';
import type { Container } from '../../../model/container.ts';
import { Conflict, Unavailable } from '../../../model/errors.ts';
import { LOCK_FILE } from '../../../protocol/paths.ts';
import type { RunState } from '../../../protocol/runstate.ts';
import { isAlive } from '../../../sys/process.ts';
import { killShim } from '../../shims/kill.ts';
import { ShimUnresponsive, type ShimLink } from '../../shims/link.ts';
import { isLockFree } from '../../shims/lock.ts';
import { planContact } from '../recovery/plan.ts';
import { restoreFiles } from './lost-files.ts';
import type { HandleDeps } from './handle-deps.ts';
import type { JournalFollower } from './journal-follower.ts';
import { ShimConnection, type ShimConnectionDeps } from './shim-connection.ts';
import { hasTraces } from './traces.ts';

type ShimSessionDeps = ShimConnectionDeps & Pick<HandleDeps, 'pool' | 'config'>;

/** A failed attempt is repeated after this, doubling up to the maximum. */
const RETRY_MS = 250;
const RETRY_MAX_MS = 10_000;
/** How long a request waits for an unresponsive shim. */
const REACH_TIMEOUT_MS = 15_000;
/** A shim that is exiting holds its lock a little longer than its sockets. */
const LOCK_TIMEOUT_MS = 5_000;
/** The kernel closes a killed shim's connections before it releases its lock. */
const KILLED_LOCK_TIMEOUT_MS = 500;
/** A successor journals a death that it finds within this: it first drains the output and has the runtime clean up. */
const DEATH_REPORT_MS = 3_000;

export class ShimSession {
  /** Resolves once the state is known after the daemon's start, or the shim has proved unresponsive. */
  restored: Promise<void> = Promise.resolve();
  /** Resolves once the state is known and `onKnown` of restore() is done. */
  finished: Promise<void> = Promise.resolve();
  /** The shim has not answered since the daemon's start. */
  unresponsive = false;
  readonly #connection: ShimConnection;
  #reaching: Promise<ShimLink> | undefined;
  /** One search at a time: two would spawn two shims. */
  readonly #searches = new Serial();
  #closed = false;
  /** By a removal. */
  #searchEnded = false;

  constructor(
    private readonly container: Container,
    private readonly journal: JournalFollower,
    private readonly deps: ShimSessionDeps,
  ) {
    this.#connection = new ShimConnection(container, journal, deps, {
      onLost: () => this.#onLost(),
      onNeeded: () => void this.connectIfAlive(),
    });
  }

  /** The open connection, if there is one. */
  get link(): ShimLink | undefined {
    return this.#connection.link;
  }

  /**
   * Connects to the shim if it lives; else learns from the journal on disk, and spawns a successor where one is needed.
   * Resolves after the first attempt; retries go on in the background. `onKnown` starts when the state is known, before
   * any caller that waits for `restored` goes on.
   */
  async restore(onKnown: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    this.unresponsive = !(await this.#attempt());
    this.finished = (this.unresponsive ? this.#retry() : Promise.resolve()).then(onKnown);
  }

  /** A link to a living shim; spawns one if none lives. @throws ShimUnresponsive when the shim does not answer */
  reach(): Promise<ShimLink> {
    const { link } = this;
    if (link) {
      link.usedAt = Date.now();
      return Promise.resolve(link);
    }
    this.#reaching ??= this.#find().finally(() => (this.#reaching = undefined));
    return this.#reaching;
  }

  /**
   * Runs `request` with a link, a second time if the shim ended meanwhile: it exits a second after its container, or
   * may be killed between two messages.
   */
  async ask<T>(request: (link: ShimLink) => Promise<T>): Promise<T> {
    const link = await this.reach();
    try {
      return await request(link);
    } catch (error) {
      const shimEnded = error instanceof Unavailable && !(error instanceof ShimUnresponsive) && link.closed;
      if (!shimEnded) throw error;
      return request(await this.reach());
    }
  }

  /**
   * As ask(), for a request by which a client ends the container: an unresponsive shim is killed and its successor
   * asked. There is no other reason to kill a shim.
   */
  async askOrKillShim<T>(request: (link: ShimLink) => Promise<T>): Promise<T> {
    try {
      return await this.ask(request);
    } catch (error) {
      if (!(error instanceof ShimUnresponsive) || this.link) throw error;
      this.deps.log.warn({ container: this.container.id }, 'killing the unresponsive shim to end its container');
      if (!killShim(this.deps.paths.run(this.container.id))) throw error;
      return request(await this.reach());
    }
  }

  /** Whether it is proved that no shim lives. */
  isDead = (): Promise<boolean> => this.#isShimDead(KILLED_LOCK_TIMEOUT_MS);

  /** Connects if a shim lives and answers. */
  async connectIfAlive(): Promise<void> {
    if (!this.#connection.hasSocket()) return;
    await this.#searches.run(async () => this.link !== undefined || this.#connection.open()).catch(() => undefined);
  }

  /**
   * As askOrKillShim(), for a request that changes the container: a shim may end after it has done it. Its successor
   * refuses the repeated request then, and `isDone` tells from the state why.
   */
  async askToChange<T>(
    request: (link: ShimLink) => Promise<T>,
    isDone: (state: RunState) => boolean,
    { mayKillShim = false } = {},
  ): Promise<void> {
    let times = 0;
    const counted = (link: ShimLink): Promise<T> => (times++, request(link));
    try {
      await (mayKillShim ? this.askOrKillShim(counted) : this.ask(counted));
    } catch (error) {
      if (times < 2 || !(error instanceof Conflict)) throw error;
      await this.journal.pull();
      if (!isDone(this.container.state)) throw error;
    }
  }

  dump(): { connected: boolean; watched: boolean; unresponsive: boolean; searches: number } {
    return {
      connected: this.link !== undefined,
      watched: this.#connection.isWatched,
      unresponsive: this.unresponsive,
      searches: this.#searches.pending,
    };
  }

  /**
   * Ends the search for a shim, so that none is given the container any more; undone by the returned function. For a
   * removal: a shim would make the directories again that are being deleted.
   */
  async endSearch(): Promise<() => void> {
    this.#searchEnded = true;
    await this.#searches.run(() => Promise.resolve());
    return () => void (this.#searchEnded = false);
  }

  /** Closes the connection and stops all retries; the shim lives on. */
  close(): void {
    this.#closed = true;
    this.#connection.close();
  }

  get #isEnding(): boolean {
    return this.#closed || this.#searchEnded;
  }

  async #retry(): Promise<void> {
    for (let pause = RETRY_MS; ; pause = Math.min(pause * 2, RETRY_MAX_MS)) {
      await sleep(pause);
      if (await this.#attempt()) break;
    }
    this.unresponsive = false;
  }

  /** Whether the container's state is known now. */
  #attempt(): Promise<boolean> {
    return this.#searches.run(async () => {
      const { id, state } = this.container;
      try {
        if (this.#isEnding || this.link || this.#connection.learnFromBell() || (await this.#connection.open()))
          return true;
        // A removal deletes the directory before the row, and only when the row has the end: nothing is left to learn.
        if (state.final && !existsSync(this.deps.paths.container(id))) return true;
        // A free lock proves that no shim lives; the journal is all there is then.
        const shimIsDead = await this.#isShimDead(KILLED_LOCK_TIMEOUT_MS);
        this.journal.readFile();
        switch (planContact({ shim: shimIsDead ? 'dead' : 'silent', ...this.#known() })) {
          case 'wait':
            this.deps.log.warn({ container: id }, 'the shim is alive but does not answer; retrying');
            return false;
          case 'succeed':
            if (!(await this.#spawnSuccessor())) return false;
            await this.#waitForDeathReport();
            return true;
          default:
            return true;
        }
      } catch (error) {
        this.deps.log.error({ container: id, err: error }, 'could not restore the container; retrying');
        return false;
      }
    });
  }

  async #find(): Promise<ShimLink> {
    for (const deadline = Date.now() + REACH_TIMEOUT_MS; !this.#isEnding;) {
      const link = await this.#searches.run(() => this.#connectOrSpawn(deadline));
      if (link) return link;
      if (Date.now() >= deadline)
        throw new ShimUnresponsive(`the shim of container ${this.container.id} does not answer`);
    }
    throw new Unavailable(`container ${this.container.id} is gone, or the daemon ends`);
  }

  async #connectOrSpawn(deadline: number): Promise<ShimLink | undefined> {
    if (this.link ?? (await this.#connection.open())) return this.link;
    const lockIsFree = await this.#isShimDead(Math.min(LOCK_TIMEOUT_MS, deadline - Date.now()));
    return lockIsFree ? this.#spawnSuccessor() : undefined;
  }

  /** Whether no shim lives, after waiting up to `ms` for one that is exiting. */
  #isShimDead(ms: number): Promise<boolean> {
    const directory = this.deps.paths.container(this.container.id);
    // A living shim's lock is gone with it. Such a shim listens, also when it is frozen.
    if (!existsSync(directory)) return Promise.resolve(!this.#connection.hasListener());
    return isLockFree(join(directory, LOCK_FILE), ms);
  }

  /** Gives the container to a new shim; undefined when that does not answer yet. */
  async #spawnSuccessor(): Promise<ShimLink | undefined> {
    const { id } = this.container;
    const { paths, pool } = this.deps;
    this.journal.readFile();
    const { state, cursor } = this.container;
    const stored = cursor > 0 ? { stored: { state, seq: cursor } } : {};
    if (restoreFiles(this.container, this.deps))
      this.deps.log.error({ container: id }, 'files of the container were lost; a new shim continues it without them');
    const [dir, run, daemon] = [paths.container(id), paths.run(id), paths.execLock()];
    await this.deps.links.withRoom(() => pool.adopt({ container: id, dir, run, daemon, ...stored }));
    await this.#connection.open();
    return this.link;
  }

  // A container that died while no shim was there: the successor is about to journal it.
  async #waitForDeathReport(): Promise<void> {
    const { pid, pidStartTime } = this.container.state;
    if (pid === 0 || isAlive(pid, pidStartTime)) return;
    await this.journal.until((state) => state.pid !== pid, AbortSignal.timeout(DEATH_REPORT_MS));
  }

  // Its container may have ended before: then nothing is left to do.
  #onLost(): void {
    if (this.#isEnding) return;
    if (!this.#needsShim()) return;
    this.deps.log.warn({ container: this.container.id }, 'lost the shim before the container ended');
    this.restored = this.restore();
  }

  #known(): { mustLive: boolean; hasTraces: boolean } {
    const mustLive = this.#needsShim();
    return { mustLive, hasTraces: !mustLive && hasTraces(this.container, this.deps) };
  }

  /** Whether the container is not final: it needs a shim. */
  #needsShim(): boolean {
    const { state } = this.container;
    return !state.final && state.gen > 0;
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
