/**
 * An API client's connection that the engine can pass to a shim. The API implements it (api/hijack.ts), so that the
 * engine stays free of HTTP.
 */

export interface Client {
  /** The socket. The daemon keeps its copy open, and does not read from it, until the shim has acknowledged. */
  readonly fd: number;
  /** Bytes after the request that the daemon has read already: they precede everything read from `fd`. */
  readonly early: Buffer;
  /** The head of the success response, to be written before the body by a write of its own. Empty after `sendHead`. */
  readonly head: Buffer;
  /** Writes the head at once, ahead of a body that comes much later (`wait`). */
  sendHead(): void;
  /** Answers from the daemon: writes the head (unless sent) and the body, and closes. */
  answer(body: string | Buffer): void;
  /** Closes the daemon's copy without shutdown(2), after a shim has taken the connection over. */
  release(): void;
  /** Calls `gone` if the client disconnects while the daemon still owns the connection. */
  onGone(gone: () => void): void;
}
