/**
 * The daemon's connection to a container's shim. While the container runs and nothing is asked it is closed, and the
 * shim's bell is watched instead (protocol/bell-format.ts).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../../../model/container.ts';
import { Unavailable } from '../../../model/errors.ts';
import { PROTOCOL_VERSION } from '../../../protocol/messages.ts';
import { CTL_SOCKET } from '../../../protocol/paths.ts';
import type { RunState } from '../../../protocol/runstate.ts';
import { isListening } from '../../../sys/socket.ts';
import { VERSION } from '../../../version.ts';
import { ShimLink } from '../../shims/link.ts';
import type { Restable } from '../../shims/open-links.ts';
import { ShimWatch } from '../../shims/shim-watch.ts';
import type { HandleDeps } from './handle-deps.ts';
import type { JournalFollower } from './journal-follower.ts';

export type ShimConnectionDeps = Pick<HandleDeps, 'paths' | 'log' | 'bells' | 'links'>;

export interface ShimConnectionEvents {
  /** The shim has ended, or its connection has; what its journal has is known. */
  onLost(): void;
  /** The shim has more to tell than its journal, or something to be told. */
  onNeeded(): void;
}

export class ShimConnection implements Restable {
  #link: ShimLink | undefined;
  readonly #watch: ShimWatch;
  readonly #run: string;
  #closed = false;

  constructor(
    private readonly container: Container,
    private readonly journal: JournalFollower,
    private readonly deps: ShimConnectionDeps,
    private readonly events: ShimConnectionEvents,
  ) {
    this.#run = deps.paths.run(container.id);
    this.#watch = new ShimWatch(this.#run, deps.bells, {
      onRing: () => this.#onRing(),
      onDeath: () => this.#onDeath(),
    });
  }

  /** The open connection, if there is one. */
  get link(): ShimLink | undefined {
    return this.#link?.closed ? undefined : this.#link;
  }

  /** Whether the shim is watched. */
  get isWatched(): boolean {
    return this.#watch.isActive;
  }

  get usedAt(): number {
    return this.#link?.usedAt ?? 0;
  }

  /** A shim that listens has its socket. */
  hasSocket = (): boolean => existsSync(join(this.#run, CTL_SOCKET));

  /** Whether a shim lives: it listens from its first moment to its last. */
  hasListener = (): boolean => this.hasSocket() && isListening(join(this.#run, CTL_SOCKET));

  /** Connects and pulls the journal. Returns false when no shim answers. @throws Error */
  async open(): Promise<boolean> {
    if (!this.hasSocket()) return false;
    try {
      // Undefined while it opens: ShimLink.open() itself reports an end before that.
      let opened: ShimLink | undefined;
      const { link, hello } = await this.deps.links.withRoom(() =>
        ShimLink.open(this.#run, {
          onRing: (seq) => this.journal.onDoorbell(seq),
          onEnd: () => {
            if (opened) this.#onEnd(opened);
          },
          onShortage: () => this.deps.links.restAll(),
        }),
      );
      if (this.#closed) {
        link.close();
        return false;
      }
      // Before the pull: a shim that answers it dies later.
      this.#watch.start();
      this.#link = opened = link;
      this.deps.links.add(this);
      this.journal.follow(link, hello);
      await this.journal.pull();
      return !link.closed;
    } catch (error) {
      this.#disconnect();
      const { code } = error as NodeJS.ErrnoException;
      // ECONNRESET: a shim that is killed before it has accepted.
      const hasNoShim = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET'].includes(code ?? '');
      if (hasNoShim || error instanceof Unavailable) return false;
      throw error;
    }
  }

  /** Whether the container runs and its living shim, which may be frozen, need not be asked. Learns its state. */
  learnFromBell(): boolean {
    const bell = this.hasSocket() && this.#watch.start() ? this.#watch.state() : undefined;
    if (bell) this.journal.readFile();
    // Otherwise a full disk keeps records in the shim's memory, or row and journal are not of one time.
    const knowsAll = this.container.cursor === bell?.seq && this.journal.isStored;
    if (knowsAll && mayRest(this.container.state)) return true;
    this.#watch.stop();
    return false;
  }

  rest(): boolean {
    const { link } = this;
    if (!link || link.pending > 0 || !mayRest(this.container.state)) return false;
    if (!this.#watch.isActive) {
      // An answer that comes after the watch was started proves that it has missed no death.
      if (this.#watch.start()) link.request({ op: 'hello', protocol: PROTOCOL_VERSION, daemon: VERSION }).catch(ignore);
      return false;
    }
    if (this.#watch.mayBeDead) return false;
    this.#disconnect();
    this.#onRing();
    return true;
  }

  /** Closes the connection and ends the watch; the shim lives on. */
  close(): void {
    this.#closed = true;
    this.#watch.stop();
    this.#disconnect();
  }

  // The link, where it is open, rings by itself.
  #onRing(): void {
    if (this.link || this.#closed) return;
    const seq = this.#watch.state()?.seq ?? 0;
    this.#readJournal();
    // A full disk keeps records in the shim's memory. A long journal is compacted once the shim learns the cursor.
    if (this.container.cursor < seq ? this.journal.isStored : this.journal.isLong) this.events.onNeeded();
  }

  // The end of the link, where it is open, says the same.
  #onDeath(): void {
    if (!this.link && !this.#closed) this.#lose();
  }

  // A shim ends after `final`. An end before that is its death, or the link was closed because it did not answer.
  #onEnd(link: ShimLink): void {
    if (this.#link !== link) return;
    this.#disconnect();
    if (!this.#closed) this.#lose();
  }

  #lose(): void {
    this.#watch.stop();
    this.#readJournal();
    this.events.onLost();
  }

  #readJournal(): void {
    try {
      this.journal.readFile();
    } catch (err) {
      this.deps.log.warn({ container: this.container.id, err }, "could not read or store the shim's last records yet");
    }
  }

  /** Closes the link, which loses nothing. */
  #disconnect(): void {
    const link = this.#link;
    this.#link = undefined;
    this.deps.links.delete(this);
    this.journal.unfollow();
    link?.close();
  }
}

/** A state that lasts. In any other the daemon stays connected, as the shim expects of a daemon that starts it. */
const mayRest = ({ gen, status }: RunState): boolean =>
  gen > 0 && (status === 'running' || status === 'paused' || status === 'restarting');

const ignore = (): void => undefined;
