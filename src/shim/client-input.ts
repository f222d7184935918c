/**
 * What an attached client types: it goes to the process's stdin, at the pace of that process, until the client ends it
 * or leaves.
 */
import type { Socket } from 'node:net';
import type { AttachOptions } from '../protocol/messages.ts';
import { DetachKeys } from './detach-keys.ts';
import type { Stdio } from './stdio.ts';

/** Input that waits, for a process or in its pipe; beyond, the client is not read. */
const WAITING_BYTES = 64 * 1024;

export interface InputOwner {
  /** The client has typed its detach keys. */
  detached(): void;
  /** The client has closed its sending side, and with that it leaves. */
  left(): void;
}

export class ClientInput {
  readonly #keys: DetachKeys;
  #stdio: Stdio | null = null;
  /** Input from before there was a process. */
  #typedAhead: Buffer[] = [];
  #typedAheadBytes = 0;
  #inFlightBytes = 0;
  /** The client has closed its sending side. */
  #ended = false;
  #stopped = false;

  /** `early`: input that was read already. */
  constructor(
    private readonly socket: Socket,
    early: Buffer,
    private readonly o: AttachOptions,
    private readonly owner: InputOwner,
  ) {
    this.#keys = new DetachKeys(o.detachKeys);
    if (early.length > 0) this.#take(early);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('end', () => this.#end());
  }

  /** From now on it is this process's, what was typed before included. */
  bind(stdio: Stdio): void {
    this.#stdio = stdio;
    const typed = this.#typedAhead;
    this.#typedAhead = [];
    this.#typedAheadBytes = 0;
    for (const chunk of typed) this.#take(chunk);
    if (this.#ended) this.#end();
    else this.socket.resume();
  }

  /** Nothing of it counts any more. It is read all the same, so that its end is seen. */
  stop(): void {
    this.#stopped = true;
    this.socket.resume();
  }

  /** The client is gone. */
  closed(): void {
    if (!this.#stopped && this.#endsStdin()) this.#stdio!.endStdin();
    this.#stopped = true;
  }

  /** Whether what the client types goes to the process. */
  #feedsStdin = (): boolean => this.o.stdin && this.o.stream && this.#stdio?.hasStdin === true;

  /** Whether the client's end is the end of stdin too. */
  #endsStdin = (): boolean => this.#feedsStdin() && this.#stdio!.stdinOnce && !this.#stdio!.tty;

  #take(chunk: Buffer): void {
    if (this.#stopped || !this.o.stdin) return;
    if (!this.#stdio) return this.#typeAhead(chunk);
    if (!this.#feedsStdin()) return;
    const { pass, detached } = this.#stdio.tty ? this.#keys.screen(chunk) : { pass: chunk, detached: false };
    this.#send(pass);
    if (detached) this.owner.detached();
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

  /**
   * The client has closed its sending side (api-wire.md 63). One that feeds stdin either ends it with that (StdinOnce,
   * no terminal), or leaves; one that does not goes on listening: the docker CLI half-closes even without a stdin.
   */
  #end(): void {
    this.#ended = true;
    if (this.#stopped || !this.#feedsStdin()) return;
    this.#send(this.#keys.end());
    if (this.#endsStdin()) this.#stdio!.endStdin();
    else this.owner.left();
  }
}
