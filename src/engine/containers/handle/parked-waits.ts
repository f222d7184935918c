/**
 * Waiting clients that no shim holds yet: parked here until the container starts (then a shim gets them) or is removed.
 */
import type { WaitCondition } from '../../../protocol/messages.ts';
import type { Client } from '../../client.ts';

export interface Parked {
  client: Client;
  condition: WaitCondition;
}

export class Waits {
  #parked: Parked[] = [];

  /** The client gets its head at once: `docker run` sends its start only after it (api-wire 84). */
  park(client: Client, condition: WaitCondition): void {
    const parked = { client, condition };
    this.#parked.push(parked);
    client.onGone(() => (this.#parked = this.#parked.filter((p) => p !== parked)));
    client.sendHead();
  }

  /** Takes all that are parked: whoever takes them answers them. */
  take = (): Parked[] => this.#parked.splice(0);

  /** Answers all, when the container is gone and no shim knows them. */
  answer(code: number): void {
    for (const { client } of this.take()) client.answer(waitAnswer(code));
  }
}

/** `Error` only when there is one: an empty one counts as a failure for some clients (api-wire 85). */
export const waitAnswer = (code: number, error = ''): string =>
  `${JSON.stringify({ StatusCode: code, ...(error ? { Error: { Message: error } } : {}) })}\n`;
