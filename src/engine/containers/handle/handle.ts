/**
 * What the daemon holds of one container: the link to its shim if one lives, the clients that wait for it, and its
 * state as
 * the shim's journal tells it (journal-follower.ts). Finds the shim, and puts a new one beside a container that has
 * lost it.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LOCK_FILE } from '../../../protocol/paths.ts';
import type { RunState } from '../../../protocol/runstate.ts';
import { tryLock } from '../../../sys/file.ts';
import { bootId, isAlive } from '../../../sys/process.ts';
import { Unavailable } from '../../../model/errors.ts';
import { ShimLink, ShimUnresponsive } from '../../shims/link.ts';
import { killShim } from '../../shims/kill.ts';
import type { Container } from '../../../model/container.ts';
import { JournalFollower } from './journal-follower.ts';
import type { Parts } from '../parts.ts';
import { Serial } from '../../../async/serial.ts';
import { Waits } from './parked-waits.ts';

/** What failed is tried again after this, doubling up to the second. */
const RETRY_MS = 250;
const RETRY_MAX_MS = 10_000;
/** How long a request waits for a shim that does not answer. */
const PATIENCE_MS = 15_000;
/** A shim that is on its way out holds its lock a little longer. */
const LOCK_PATIENCE_MS = 5_000;
/** The kernel closes a killed shim's connections before it lets go of its lock. */
const DYING_MS = 500;
const LOCK_POLL_MS = 20;
/** A shim tells of a death that it finds within this: the last output is read and the runtime cleared first. */
const TELLING_MS = 3_000;

export class Supervisor {
  readonly serial = new Serial();
  readonly waits = new Waits();
  /**
   * Resolves once the container's state is known after a start of the daemon, or its shim has turned out not to answer.
   */
  restored: Promise<void> = Promise.resolve();
  /** Resolves once it is known, and what was left half done is finished. */
  finished: Promise<void> = Promise.resolve();
  /** Its shim has not answered since the daemon's start. */
  silent = false;
  #link: ShimLink | undefined;
  #reaching: Promise<ShimLink> | undefined;
  /** Who looks for the shim does so alone: two would put two shims beside one container. */
  readonly #search = new Serial();
  readonly #follower: JournalFollower;
  #gone = false;

  constructor(
    readonly container: Container,
    private readonly parts: Parts,
    onFinal: (supervisor: Supervisor) => void,
  ) {
    this.#follower = new JournalFollower(container, parts, { link: () => this.link, onFinal: () => onFinal(this) });
  }

  get link(): ShimLink | undefined {
    return this.#link?.closed ? undefined : this.#link;
  }

  /**
   * Connects to the shim if one lives; else learns from the journal on disk, and puts a new shim beside a container
   * that
   * needs one. Resolves after the first attempt; further ones go on. `finish` begins when its state is known, before
   * anybody
   * who waits for it goes on.
   */
  async restore(finish: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    this.silent = !(await this.#attempt());
    this.finished = (this.silent ? this.#tryAgain() : Promise.resolve()).then(finish);
  }

  /** A link to a living shim; one is started if none lives. @throws Unavailable when its shim does not answer */
  reach(): Promise<ShimLink> {
    if (this.link) return Promise.resolve(this.link);
    this.#reaching ??= this.#find().finally(() => (this.#reaching = undefined));
    return this.#reaching;
  }

  /**
   * Asks the shim; once more if it had just ended, or was killed (a shim lingers a second after its container, and may
   * go between two lines).
   */
  async ask<T>(work: (link: ShimLink) => Promise<T>): Promise<T> {
    const link = await this.reach();
    try {
      return await work(link);
    } catch (error) {
      if (!(error instanceof Unavailable) || error instanceof ShimUnresponsive || !link.closed) throw error;
      return work(await this.reach());
    }
  }

  /**
   * The same for what a client means as the container's end. A shim that does not answer is killed then, and its
   * successor
   * asked: there is no other reason to kill one.
   */
  async insist<T>(work: (link: ShimLink) => Promise<T>): Promise<T> {
    try {
      return await this.ask(work);
    } catch (error) {
      if (!(error instanceof ShimUnresponsive) || this.link) throw error;
      this.parts.log.warn(
        { container: this.container.id },
        'its shim does not answer, and its container is to end: the shim is killed',
      );
      if (!killShim(this.parts.paths.run(this.container.id))) throw error;
      return work(await this.reach());
    }
  }

  /** Brings row, events and memory up to the shim's journal. */
  pull = (): Promise<void> => this.#follower.pull();

  /** The same where the journal has changed since the last look. */
  refresh = (): Promise<void> => this.#follower.refresh();

  /** Resolves when `condition` holds of the state, or the container is gone; checked at every change. */
  until = (condition: (state: RunState) => boolean, signal?: AbortSignal): Promise<void> =>
    this.#follower.until(condition, signal);

  /** The container is removed: nobody asks for it again. */
  retire(): void {
    this.detach();
    this.#follower.letGo();
  }

  /** The daemon ends; shims live on, and who waits for one will not hear of it from this daemon. */
  detach(): void {
    this.#gone = true;
    this.#link?.close();
    this.#follower.end();
  }

  async #tryAgain(): Promise<void> {
    for (let pause = RETRY_MS; ; pause = Math.min(pause * 2, RETRY_MAX_MS)) {
      await sleep(pause);
      if (await this.#attempt()) break;
    }
    this.silent = false;
  }

  /** Whether the container's state is known now. */
  #attempt(): Promise<boolean> {
    return this.#search.run(async () => {
      const { id, state } = this.container;
      try {
        if (this.#gone || this.link || (await this.#tryConnect())) return true;
        // A removal deletes the directory before the row, and only after the row has the container's end: nothing is
        // left to learn.
        if (state.final && !existsSync(this.parts.paths.container(id))) return true;
        // Where nobody holds the lock no shim lives, and what the journal says is all there is.
        const dead = await this.#awaitLock(DYING_MS);
        this.#follower.readFile();
        if (!dead) this.parts.log.warn({ container: id }, 'its shim is alive but does not answer; trying again');
        else if (this.#needsTakeOver()) {
          if (!(await this.#adopt())) return false;
          await this.#toldOfItsEnd();
        }
        return dead;
      } catch (error) {
        this.parts.log.error({ container: id, err: error }, 'could not restore it yet; trying again');
        return false;
      }
    });
  }

  async #find(): Promise<ShimLink> {
    for (const deadline = Date.now() + PATIENCE_MS; !this.#gone;) {
      const link = await this.#search.run(() => this.#connectOrAdopt(deadline));
      if (link) return link;
      if (Date.now() >= deadline) throw new ShimUnresponsive(`the shim of container ${this.container.id} does not answer`);
    }
    throw new Unavailable(`container ${this.container.id} is gone, or the daemon ends`);
  }

  async #connectOrAdopt(deadline: number): Promise<ShimLink | undefined> {
    if (this.link ?? (await this.#tryConnect())) return this.#link;
    const free = await this.#awaitLock(Math.min(LOCK_PATIENCE_MS, deadline - Date.now()));
    return free ? this.#adopt() : undefined;
  }

  /** Whether nobody holds the container's lock, after waiting a little for a shim that is just ending. */
  async #awaitLock(ms: number): Promise<boolean> {
    const path = join(this.parts.paths.container(this.container.id), LOCK_FILE);
    for (const end = Date.now() + ms; ; await sleep(LOCK_POLL_MS)) {
      const lock = tryLock(path);
      lock?.release();
      if (lock) return true;
      if (Date.now() >= end) return false;
    }
  }

  /** Puts a new shim beside the container; undefined when it does not answer yet. */
  async #adopt(): Promise<ShimLink | undefined> {
    const { id } = this.container;
    this.#follower.readFile();
    await this.parts.pool.adopt({ container: id, dir: this.parts.paths.container(id), run: this.parts.paths.run(id) });
    await this.#tryConnect();
    return this.link;
  }

  // One that died while no shim was there: the new one is about to say so.
  async #toldOfItsEnd(): Promise<void> {
    const { pid, pidStartTime } = this.container.state;
    if (pid !== 0 && !isAlive(pid, pidStartTime))
      await this.until((state) => state.pid !== pid, AbortSignal.timeout(TELLING_MS));
  }

  async #tryConnect(): Promise<boolean> {
    try {
      // Undefined while it opens: an end before that is open()'s to tell.
      let opened: ShimLink | undefined;
      const { link, hello } = await ShimLink.open(this.parts.paths.run(this.container.id), {
        onRing: (seq) => this.#follower.announced(seq),
        onEnd: () => opened && this.#lost(opened),
      });
      this.#link = opened = link;
      this.#follower.met(hello);
      await this.pull();
      return !link.closed;
    } catch (error) {
      this.#drop();
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ECONNREFUSED') return false;
      if (error instanceof Unavailable) return false;
      throw error;
    }
  }

  /** Closes the link: nothing is lost by that. */
  #drop(): void {
    const link = this.#link;
    this.#link = undefined;
    link?.close();
  }

  // A shim ends after `final`; ending before it is a death, and the container needs a new one. One that does not answer
  // is
  // lost too, but it is alive.
  #lost(link: ShimLink): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    if (this.#gone) return;
    try {
      this.#follower.readFile();
    } catch (err) {
      this.parts.log.warn({ container: this.container.id, err }, 'what its shim wrote last could not be stored yet');
    }
    if (!this.#needsTakeOver()) return;
    this.parts.log.warn({ container: this.container.id }, 'the connection to its shim has ended before the container');
    this.restored = this.restore();
  }

  #needsTakeOver(): boolean {
    const { state } = this.container;
    return !state.final && state.gen > 0;
  }
}

/** Whether this run belongs to an earlier boot: nothing of it can be alive. */
export const isOfEarlierBoot = (state: RunState): boolean => state.boot !== '' && state.boot !== bootId();

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
