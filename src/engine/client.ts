/**
 * An API client's connection that the engine may hand over to a shim. The API makes it (api/hijack.ts); the engine
 * knows no HTTP.
 */

export interface Client {
  /** The connection's descriptor. The daemon's copy stays open, and unread, until a shim has acknowledged. */
  readonly fd: number;
  /** What the client sent behind its request and was read already: it comes before anything read from `fd`. */
  readonly early: Buffer;
  /** The success head. Whoever answers writes it first, in a packet of its own; empty once `sendHead` has. */
  readonly head: Buffer;
  /** Writes the head now, for an answer that will come late (wait). */
  sendHead(): void;
  /** Writes head (unless sent) and body, and ends: the daemon answers by itself. */
  answer(body: string | Buffer): void;
  /** A shim has it: close the daemon's copy without a shutdown(2). */
  release(): void;
  /** Runs `gone` when the client leaves while the connection is still the daemon's. */
  onGone(gone: () => void): void;
}
