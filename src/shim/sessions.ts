/** The clients attached to a container, over its restarts, or to one exec. */
import type { AttachOptions } from '../protocol/messages.ts';
import { AttachedClient, Copies } from './attached-client.ts';
import type { Client } from './clients.ts';
import type { Output, Stdio } from './stdio.ts';

export interface SessionsDeps {
  /** Log file to replay while there is no process; null = none that can be read, undefined = there has been no run. */
  logPath(): string | null | undefined;
  /** A client that accepts no byte for this long, ms, is dropped. */
  slowClientMs: number;
  /** A client has typed its detach keys. */
  onDetach(): void;
  /** The last client is gone. */
  onEmpty?(): void;
}

/** Checks for slow clients within `slowClientMs`. */
const CHECKS = 4;
const MAX_CHECK_MS = 5000;

export class Sessions {
  readonly #clients = new Set<AttachedClient>();
  /** Clients that receive only the rest of their output. */
  readonly #leaving = new Set<AttachedClient>();
  #stdio: Stdio | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(private readonly deps: SessionsDeps) {}

  /** Connected clients, including those that only receive the rest of their output. */
  get count(): number {
    return this.#clients.size + this.#leaving.size;
  }

  /** Those that have not begun to leave. */
  get clients(): AttachedClient[] {
    return [...this.#clients];
  }

  /** Opens and serves a client; without a process it waits for one. @throws Error */
  add(connection: Client, options: AttachOptions): void {
    const client: AttachedClient = new AttachedClient(connection, options, {
      logPath: () => this.deps.logPath(),
      detached: () => this.deps.onDetach(),
      gone: () => this.#gone(client),
    });
    this.#clients.add(client);
    this.#subscribe();
    this.#timer ??= setInterval(
      () => this.#dropStalled(),
      Math.min(MAX_CHECK_MS, Math.ceil(this.deps.slowClientMs / CHECKS)),
    ).unref();
    client.start(this.#stdio);
  }

  /** Connects the clients to a process. Call it before its output is read. */
  bind(stdio: Stdio): void {
    this.#stdio = stdio;
    this.#subscribe();
    for (const client of this.#clients) client.bind(stdio);
  }

  /** Ends each client's stream once it has received all output. The exit must be journalled and the log complete. */
  closeAll(): void {
    if (this.#stdio) this.#stdio.onOutput = null;
    for (const client of this.#clients) {
      this.#leaving.add(client);
      client.finish();
    }
    this.#clients.clear();
    this.#stdio = null;
  }

  /** Ends the streams of some clients; those that have left meanwhile are skipped. */
  finish(clients: readonly AttachedClient[]): void {
    for (const client of clients) if (this.#clients.has(client)) client.finish();
  }

  /** Sends a text of the engine to every client: why an exec could not be started. */
  say(text: string): void {
    for (const client of this.#clients) client.say(Buffer.from(text));
  }

  // Without clients Stdio takes no marks in the log.
  #subscribe(): void {
    if (this.#stdio) this.#stdio.onOutput = this.#clients.size > 0 ? (output) => this.#deliver(output) : null;
  }

  #deliver(output: Output): void {
    const copies = new Copies(output);
    for (const client of this.#clients) client.deliver(copies);
  }

  #dropStalled(): void {
    const now = performance.now();
    for (const client of [...this.#clients, ...this.#leaving]) client.dropIfStalled(now, this.deps.slowClientMs);
  }

  #gone(client: AttachedClient): void {
    this.#clients.delete(client);
    this.#leaving.delete(client);
    this.#subscribe();
    if (this.count > 0) return;
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
    this.deps.onEmpty?.();
  }
}
