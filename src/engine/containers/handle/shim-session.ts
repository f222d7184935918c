/**
 * The daemon's session with a container's shim: finds the shim, connects, reconnects when the connection ends, and
 * spawns a successor for a container that has lost its shim.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Serial } from '../../../async/serial.ts';
import type { Container } from '../../../model/container.ts';
import { Unavailable } from '../../../model/errors.ts';
import { LOCK_FILE } from '../../../protocol/paths.ts';
import { tryLock } from '../../../sys/file.ts';
import { isAlive } from '../../../sys/process.ts';
import { killShim } from '../../shims/kill.ts';
import { ShimLink, ShimUnresponsive } from '../../shims/link.ts';
import { planContact } from '../recovery/plan.ts';
import type { HandleDeps } from './handle-deps.ts';
import type { JournalFollower } from './journal-follower.ts';
import { hasTraces } from './traces.ts';

type ShimSessionDeps = Pick<HandleDeps, 'config' | 'paths' | 'pool' | 'log'>;

/** A failed attempt is repeated after this, doubling up to the maximum. */
const RETRY_MS = 250;
const RETRY_MAX_MS = 10_000;
/** How long a request waits for an unresponsive shim. */
const REACH_TIMEOUT_MS = 15_000;
/** A shim that is exiting holds its lock a little longer than its sockets. */
const LOCK_TIMEOUT_MS = 5_000;
/** The kernel closes a killed shim's connections before it releases its lock. */
const KILLED_LOCK_TIMEOUT_MS = 500;
const LOCK_POLL_MS = 20;
/** A successor journals a death that it finds within this: it first drains the output and has the runtime clean up. */
const DEATH_REPORT_MS = 3_000;

export class ShimSession {
  /** Resolves once the state is known after the daemon's start, or the shim has proved unresponsive. */
  restored: Promise<void> = Promise.resolve();
  /** Resolves once the state is known and `onKnown` of restore() is done. */
  finished: Promise<void> = Promise.resolve();
  /** The shim has not answered since the daemon's start. */
  unresponsive = false;
  #link: ShimLink | undefined;
  #reaching: Promise<ShimLink> | undefined;
  /** One search at a time: two would spawn two shims. */
  readonly #searches = new Serial();
  #closed = false;

  constructor(
    private readonly container: Container,
    private readonly journal: JournalFollower,
    private readonly deps: ShimSessionDeps,
  ) {}

  /** The open connection, if there is one. */
  get link(): ShimLink | undefined {
    return this.#link?.closed ? undefined : this.#link;
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
    if (this.link) return Promise.resolve(this.link);
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

  dump(): { connected: boolean; unresponsive: boolean; searches: number } {
    return {
      connected: this.link !== undefined,
      unresponsive: this.unresponsive,
      searches: this.#searches.pending,
    };
  }

  /** Closes the connection and stops all retries; the shim lives on. */
  close(): void {
    this.#closed = true;
    this.#link?.close();
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
        if (this.#closed || this.link || (await this.#tryConnect())) return true;
        // A removal deletes the directory before the row, and only when the row has the end: nothing is left to learn.
        if (state.final && !existsSync(this.deps.paths.container(id))) return true;
        // A free lock proves that no shim lives; the journal is all there is then.
        const shimIsDead = await this.#waitForLock(KILLED_LOCK_TIMEOUT_MS);
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
    for (const deadline = Date.now() + REACH_TIMEOUT_MS; !this.#closed;) {
      const link = await this.#searches.run(() => this.#connectOrSpawn(deadline));
      if (link) return link;
      if (Date.now() >= deadline)
        throw new ShimUnresponsive(`the shim of container ${this.container.id} does not answer`);
    }
    throw new Unavailable(`container ${this.container.id} is gone, or the daemon ends`);
  }

  async #connectOrSpawn(deadline: number): Promise<ShimLink | undefined> {
    if (this.link ?? (await this.#tryConnect())) return this.#link;
    const lockIsFree = await this.#waitForLock(Math.min(LOCK_TIMEOUT_MS, deadline - Date.now()));
    return lockIsFree ? this.#spawnSuccessor() : undefined;
  }

  /** Whether the container's lock is free, after waiting up to `ms` for an exiting shim. */
  async #waitForLock(ms: number): Promise<boolean> {
    const path = join(this.deps.paths.container(this.container.id), LOCK_FILE);
    for (const end = Date.now() + ms; ;) {
      const lock = tryLock(path);
      lock?.release();
      if (lock) return true;
      if (Date.now() >= end) return false;
      await sleep(LOCK_POLL_MS);
    }
  }

  /** Gives the container to a new shim; undefined when that does not answer yet. */
  async #spawnSuccessor(): Promise<ShimLink | undefined> {
    const { id } = this.container;
    const { paths, pool } = this.deps;
    this.journal.readFile();
    const { state, cursor } = this.container;
    const stored = cursor > 0 ? { stored: { state, seq: cursor } } : {};
    await pool.adopt({ container: id, dir: paths.container(id), run: paths.run(id), ...stored });
    await this.#tryConnect();
    return this.link;
  }

  // A container that died while no shim was there: the successor is about to journal it.
  async #waitForDeathReport(): Promise<void> {
    const { pid, pidStartTime } = this.container.state;
    if (pid === 0 || isAlive(pid, pidStartTime)) return;
    await this.journal.until((state) => state.pid !== pid, AbortSignal.timeout(DEATH_REPORT_MS));
  }

  async #tryConnect(): Promise<boolean> {
    try {
      // Undefined while it opens: open() itself reports an end before that.
      let opened: ShimLink | undefined;
      const { link, hello } = await ShimLink.open(this.deps.paths.run(this.container.id), {
        onRing: (seq) => this.journal.onDoorbell(seq),
        onEnd: () => {
          if (opened) this.#onLost(opened);
        },
      });
      this.#link = opened = link;
      this.journal.follow(link, hello);
      await this.journal.pull();
      return !link.closed;
    } catch (error) {
      this.#disconnect();
      const { code } = error as NodeJS.ErrnoException;
      const nobodyListens = code === 'ENOENT' || code === 'ECONNREFUSED';
      if (nobodyListens || error instanceof Unavailable) return false;
      throw error;
    }
  }

  /** Closes the link, which loses nothing. */
  #disconnect(): void {
    const link = this.#link;
    this.#link = undefined;
    this.journal.unfollow();
    link?.close();
  }

  // A shim ends after `final`. An end before that is its death, or the link was closed because it did not answer.
  #onLost(link: ShimLink): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    this.journal.unfollow();
    if (this.#closed) return;
    try {
      this.journal.readFile();
    } catch (err) {
      this.deps.log.warn({ container: this.container.id, err }, "could not store the shim's last records yet");
    }
    if (!this.#needsShim()) return;
    this.deps.log.warn({ container: this.container.id }, 'the connection to the shim ended before the container');
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
