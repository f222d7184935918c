/** The clients attached to one process: a container's, over its restarts, or an exec's. */
import type { AttachOptions } from '../protocol/messages.ts';
import { AttachedClient, Copies } from './attached-client.ts';
import type { Client } from './clients.ts';
import type { Output, Stdio } from './stdio.ts';

export interface SessionsOptions {
  /** The log of a container that is not running; null when there is none to read. */
  logPath(): string | null;
  /** A client that accepts no byte for this long is dropped. */
  slowClientMs: number;
  /** A client has left by its detach keys. */
  onDetach(): void;
  /** The last client is gone. */
  onEmpty?(): void;
}

/** How often slow clients are looked for, within one patience. */
const CHECKS = 4;
const MAX_CHECK_MS = 5000;

export class Sessions {
  readonly #o: SessionsOptions;
  readonly #clients = new Set<AttachedClient>();
  /** Those that only get what is left. */
  readonly #leaving = new Set<AttachedClient>();
  #stdio: Stdio | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: SessionsOptions) {
    this.#o = options;
  }

  /** Clients that are connected, those included that only wait for the rest of their output. */
  get count(): number {
    return this.#clients.size + this.#leaving.size;
  }

  /** Serves a client; without a process it waits for one. Owns the descriptor, unless it throws. */
  add(connection: Client, options: AttachOptions): void {
    const client: AttachedClient = new AttachedClient(connection, options, {
      logPath: () => this.#o.logPath(),
      detached: () => this.#o.onDetach(),
      gone: () => this.#gone(client),
    });
    this.#clients.add(client);
    this.#listen();
    this.#timer ??= setInterval(
      () => this.#check(),
      Math.min(MAX_CHECK_MS, Math.ceil(this.#o.slowClientMs / CHECKS)),
    ).unref();
    client.begin(this.#stdio);
  }

  /** The clients' process from now on. To be called before its output is read. */
  bind(stdio: Stdio): void {
    this.#stdio = stdio;
    this.#listen();
    for (const client of this.#clients) client.bind(stdio);
  }

  /**
   * The process has ended, its output is in the log, and its exit is on record: each stream ends once its client has
   * all of it.
   */
  closeAll(): void {
    if (this.#stdio) this.#stdio.onOutput = null;
    for (const client of this.#clients) {
      this.#leaving.add(client);
      client.finish();
    }
    this.#clients.clear();
    this.#stdio = null;
  }

  /** A line of the engine's own to every client: why an exec could not be started. */
  say(text: string): void {
    for (const client of this.#clients) client.say(Buffer.from(text));
  }

  // Where nobody listens, no mark in the log need be taken.
  #listen(): void {
    if (this.#stdio) this.#stdio.onOutput = this.#clients.size > 0 ? (output) => this.#deliver(output) : null;
  }

  #deliver(output: Output): void {
    const copies = new Copies(output);
    for (const client of this.#clients) client.deliver(copies);
  }

  #check(): void {
    const now = performance.now();
    for (const client of [...this.#clients, ...this.#leaving]) client.check(now, this.#o.slowClientMs);
  }

  #gone(client: AttachedClient): void {
    this.#clients.delete(client);
    this.#leaving.delete(client);
    this.#listen();
    if (this.count > 0) return;
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
    this.#o.onEmpty?.();
  }
}
