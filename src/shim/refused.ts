/** An operation that was refused; the daemon gets it as the error of its request. */
import type { Refusal } from '../protocol/messages.ts';

export class Refused extends Error {
  /** `code` is Docker's exit code of a failed start: 126, 127 or 128. */
  constructor(
    readonly kind: Refusal['kind'],
    message: string,
    readonly code?: number,
  ) {
    super(message);
  }
}
