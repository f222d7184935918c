/** An operation that cannot be done, as the daemon is told. */
import type { Refusal } from '../protocol/messages.ts';

export class Refused extends Error {
  constructor(
    readonly kind: Refusal['kind'],
    message: string,
    readonly code?: number,
  ) {
    super(message);
  }
}
