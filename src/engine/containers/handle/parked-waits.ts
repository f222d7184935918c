/** Wait clients that no shim has: parked until the container starts (its shim gets them) or is removed. */
import type { WaitCondition } from '../../../protocol/messages.ts';
import type { Client } from '../../client.ts';

export interface ParkedWait {
  client: Client;
  condition: WaitCondition;
}

export class ParkedWaits {
  #parked: ParkedWait[] = [];

  get count(): number {
    return this.#parked.length;
  }

  /** Sends the response head at once: `docker run` sends its start request only after it. */
  park(client: Client, condition: WaitCondition): void {
    const parked = { client, condition };
    this.#parked.push(parked);
    client.onGone(() => (this.#parked = this.#parked.filter((p) => p !== parked)));
    client.sendHead();
  }

  /** Takes all parked waits; the caller must answer or hand over each. */
  take = (): ParkedWait[] => this.#parked.splice(0);

  /** Answers all of them. */
  answer(code: number): void {
    for (const { client } of this.take()) client.answer(waitAnswer(code));
  }
}

/** The body of a wait's answer. `Error` only when there is one: some clients take an empty one for a failure. */
export const waitAnswer = (code: number, error = ''): string =>
  `${JSON.stringify({ StatusCode: code, ...(error ? { Error: { Message: error } } : {}) })}\n`;
