/** Forwards an attached client's input to the process's stdin, with backpressure, until EOF or the client's end. */
import type { Socket } from 'node:net';
import type { AttachOptions } from '../protocol/messages.ts';
import type { DetachKeys } from './detach-keys.ts';
import type { Stdio } from './stdio.ts';

/** Input that waits for the process to start or to read; beyond, the client's socket is paused. */
const WAITING_BYTES = 64 * 1024;

export interface ClientInputDeps {
  keys: DetachKeys;
  options: AttachOptions;
  /** The client has typed its detach keys. */
  onDetached(): void;
  /** The client has left by closing its sending side. */
  onLeft(): void;
}

export class ClientInput {
  #stdio: Stdio | null = null;
  /** Input received before the process exists. */
  #typedAhead: Buffer[] = [];
  #typedAheadBytes = 0;
  #inFlightBytes = 0;
  /** The client has closed its sending side. */
  #ended = false;
  #stopped = false;

  /** `early` is input that the daemon has read already. */
  constructor(
    private readonly socket: Socket,
    early: Buffer,
    private readonly deps: ClientInputDeps,
  ) {
    if (early.length > 0) this.#take(early);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('end', () => this.#end());
  }

  /** Connects the input to a process, input received before included. */
  bind(stdio: Stdio): void {
    this.#stdio = stdio;
    const typed = this.#typedAhead;
    this.#typedAhead = [];
    this.#typedAheadBytes = 0;
    for (const chunk of typed) this.#take(chunk);
    if (this.#ended) this.#end();
    else this.socket.resume();
  }

  /** Discards further input. It is still read, so that the client's EOF is noticed. */
  stop(): void {
    this.#stopped = true;
    this.socket.resume();
  }

  /** The connection is closed. */
  closed(): void {
    if (!this.#stopped && this.#endsStdin()) this.#stdio!.endStdin();
    this.#stopped = true;
  }

  /** Whether the input goes to the process. */
  #feedsStdin = (): boolean => this.deps.options.stdin && this.deps.options.stream && this.#stdio?.hasStdin === true;

  /** Whether the client's EOF ends stdin. */
  #endsStdin = (): boolean => this.#feedsStdin() && this.#stdio!.stdinOnce && !this.#stdio!.tty;

  #take(chunk: Buffer): void {
    if (this.#stopped || !this.deps.options.stdin) return;
    if (!this.#stdio) return this.#typeAhead(chunk);
    if (!this.#feedsStdin()) return;
    const { pass, detached } = this.#stdio.tty ? this.deps.keys.screen(chunk) : { pass: chunk, detached: false };
    this.#send(pass);
    if (detached) this.deps.onDetached();
  }

  #typeAhead(chunk: Buffer): void {
    this.#typedAhead.push(chunk);
    this.#typedAheadBytes += chunk.length;
    if (this.#typedAheadBytes >= WAITING_BYTES) this.socket.pause();
  }

  #send(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#inFlightBytes += bytes.length;
    if (this.#inFlightBytes >= WAITING_BYTES) this.socket.pause();
    this.#stdio!.writeStdin(bytes, () => {
      this.#inFlightBytes -= bytes.length;
      if (this.#inFlightBytes < WAITING_BYTES) this.socket.resume();
    });
  }

  // The client has closed its sending side. One that feeds stdin thereby either ends stdin (StdinOnce, no terminal) or
  // leaves. One that does not feed stdin stays: the docker CLI half-closes even without a stdin.
  #end(): void {
    this.#ended = true;
    if (this.#stopped || !this.#feedsStdin()) return;
    this.#send(this.deps.keys.end());
    if (this.#endsStdin()) this.#stdio!.endStdin();
    else this.deps.onLeft();
  }
}
