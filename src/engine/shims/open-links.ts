/** Bounds how many connections to shims are open: those that nothing needs are closed, the longest unused first. */
import { readFileSync } from 'node:fs';
import { isShortage, SHORTAGE_MS, SHORTAGE_POLL_MS } from './shortage.ts';

/** A connection that may be closed and opened again. */
export interface Restable {
  /** When it was last used, ms since the epoch. */
  readonly usedAt: number;
  /** Closes it, if nothing is lost. Returns whether it did. */
  rest(): boolean;
}

/** One that nothing has used for this long is closed. */
const IDLE_MS = 5_000;
const CHECK_MS = 1_000;
/** One that was just handed out is about to be used. */
const FRESH_MS = 50;
/** More than this are not kept open for later, and not more than this share of the descriptors. */
const MOST = 64;
const SHARE = 1 / 4;
const FEWEST = 4;

export class OpenLinks {
  readonly #open = new Set<Restable>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly most = mostOf(descriptorLimit())) {}

  get count(): number {
    return this.#open.size;
  }

  add(link: Restable): void {
    this.#open.add(link);
    this.#timer ??= setInterval(() => this.#restIdle(), CHECK_MS).unref();
    if (this.#open.size > this.most) this.#restOldest(this.#open.size - this.most);
  }

  delete(link: Restable): void {
    this.#open.delete(link);
    if (this.#open.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Runs `open`, again while the process has no descriptor left for it. */
  async withRoom<T>(open: () => Promise<T>): Promise<T> {
    for (const deadline = Date.now() + SHORTAGE_MS; ;) {
      try {
        return await open();
      } catch (error) {
        if (!isShortage(error) || Date.now() > deadline) throw error;
      }
      this.restAll();
      await new Promise((resolve) => setTimeout(resolve, SHORTAGE_POLL_MS));
    }
  }

  /** The process has no descriptors left. */
  restAll(): void {
    this.#restOldest(this.#open.size);
  }

  #restIdle(): void {
    const before = Date.now() - IDLE_MS;
    for (const link of [...this.#open]) if (link.usedAt <= before) link.rest();
  }

  #restOldest(count: number): void {
    const before = Date.now() - FRESH_MS;
    const unused = [...this.#open].filter(({ usedAt }) => usedAt <= before).sort((a, b) => a.usedAt - b.usedAt);
    for (const link of unused) {
      if (count <= 0) return;
      if (link.rest()) count--;
    }
  }
}

export const mostOf = (limit: number): number => Math.max(FEWEST, Math.min(MOST, Math.floor(limit * SHARE)));

/** The process's limit of open descriptors. Node.js has raised it to the hard limit. */
function descriptorLimit(): number {
  const line = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'));
  return line ? Number(line[1]) : Infinity;
}
