/** Hears the bells of all shims (protocol/bell-format.ts) with one descriptor. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { decodeBell, type BellState } from '../../protocol/bell-format.ts';
import { BELL_FILE } from '../../protocol/paths.ts';
import { IN_CLOSE_WRITE, IN_IGNORED, IN_MODIFY, IN_Q_OVERFLOW, Inotify } from '../../sys/inotify.ts';
import { isAlive } from '../../sys/process.ts';

export interface BellEvents {
  /** The shim's journal has grown. */
  onRing(): void;
  /** The bell was closed. Its process may still seem to live for a moment. */
  onClose(): void;
  /** It is time to look whether the shim lives. */
  onCheck(): void;
}

/** Handlers of a burst of events run in slices of about this long, ms: requests must be served in between. */
const SLICE_MS = 10;
/** The kernel closes a dying process's files before the process counts as dead. */
const LOOK_AGAIN_MS = 100;
/** Every shim is looked at this often, whatever the kernel reports. */
const SWEEP_MS = 30_000;

const CLOSED = IN_CLOSE_WRITE | IN_IGNORED;

/** A bell that is heard. */
export class Bell {
  isMuted = false;

  constructor(
    readonly watch: number,
    readonly events: BellEvents,
  ) {}
}

export class Bells {
  #inotify: Inotify | undefined;
  #complained = false;
  readonly #heard = new Map<number, Bell>();
  /** What has happened to each and is not handled yet; 0 = it is only looked at. */
  readonly #due = new Map<Bell, number>();
  readonly #sweep: NodeJS.Timeout;

  constructor(private readonly log: Logger) {
    this.#sweep = setInterval(() => this.#look(this.#heard.values()), SWEEP_MS).unref();
  }

  /** Hears the bell in the run directory `run`; undefined where there is none, or the kernel refuses another watch. */
  hear(run: string, events: BellEvents): Bell | undefined {
    try {
      this.#inotify ??= new Inotify(() => this.#read());
      const bell = new Bell(this.#inotify.add(join(run, BELL_FILE), IN_MODIFY | IN_CLOSE_WRITE), events);
      this.#heard.set(bell.watch, bell);
      return bell;
    } catch (err) {
      const isMissing = (err as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isMissing && !this.#complained) this.log.warn({ err }, 'cannot watch a shim; keeping connections instead');
      this.#complained ||= !isMissing;
      return undefined;
    }
  }

  /** No event of this bell is reported any more. */
  mute(bell: Bell): void {
    bell.isMuted = true;
    this.#due.delete(bell);
    if (this.#heard.get(bell.watch) !== bell) return;
    this.#heard.delete(bell.watch);
    this.#inotify?.remove(bell.watch);
  }

  get count(): number {
    return this.#heard.size;
  }

  close(): void {
    clearInterval(this.#sweep);
    this.#inotify?.close();
    this.#inotify = undefined;
    this.#heard.clear();
    this.#due.clear();
  }

  #read(): void {
    const events = this.#inotify?.read() ?? [];
    const closed: Bell[] = [];
    for (const { watch, mask } of events) {
      if (mask & IN_Q_OVERFLOW) this.#note(this.#heard.values(), IN_MODIFY);
      const bell = this.#heard.get(watch);
      if (!bell) continue;
      this.#note([bell], mask);
      if (mask & CLOSED) closed.push(bell);
      if (mask & IN_IGNORED) this.#heard.delete(watch);
    }
    if (closed.length > 0) setTimeout(() => this.#look(closed), LOOK_AGAIN_MS).unref();
  }

  #look(bells: Iterable<Bell>): void {
    this.#note(bells, 0);
  }

  #note(bells: Iterable<Bell>, mask: number): void {
    const before = this.#due.size;
    for (const bell of bells) this.#due.set(bell, (this.#due.get(bell) ?? 0) | mask);
    if (before === 0 && this.#due.size > before) setImmediate(() => this.#handle());
  }

  #handle(): void {
    const end = performance.now() + SLICE_MS;
    for (const [bell, mask] of this.#due) {
      this.#due.delete(bell);
      if (!bell.isMuted && mask & IN_MODIFY) bell.events.onRing();
      if (!bell.isMuted && mask & CLOSED) bell.events.onClose();
      else if (!bell.isMuted) bell.events.onCheck();
      if (performance.now() >= end) break;
    }
    if (this.#due.size > 0) setImmediate(() => this.#handle());
  }
}

/** What the bell in `run` says; undefined where no living shim has one. */
export function bellOf(run: string): BellState | undefined {
  try {
    const state = decodeBell(readFileSync(join(run, BELL_FILE), 'utf8'));
    return state && isAlive(state.pid, state.startTime) ? state : undefined;
  } catch {
    return undefined;
  }
}
