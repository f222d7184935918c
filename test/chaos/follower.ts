/** A client that follows all events of a run, over every daemon of it. */
import http from 'node:http';
import type { World } from './world.ts';

/** What an earlier daemon did not deliver is asked for again from this long before the last event. */
const OVERLAP_S = 60;
const RETRY_MS = 100;

interface ApiEvent {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  timeNano: number;
}

const keyOf = ({ Type, Action, Actor, timeNano }: ApiEvent): string =>
  [Type, Action, Actor.ID, timeNano, Actor.Attributes.execID ?? Actor.Attributes.container ?? ''].join(' ');

export class Follower {
  readonly #seen = new Set<string>();
  #lastS = 0;
  #ended = false;
  #request: http.ClientRequest | undefined;
  readonly #done: Promise<void>;

  constructor(private readonly world: World) {
    this.#lastS = Date.now() / 1000;
    this.#done = this.#follow();
  }

  /** Ends it, after it has seen everything that is stored. */
  async finish(): Promise<void> {
    let missing: string[] = [];
    const isComplete = async (): Promise<boolean> => {
      const until = (Date.now() / 1000).toFixed(3);
      const answer = await this.world.get(`/events?since=${(this.#startS - 1).toFixed(3)}&until=${until}`);
      const stored = lines(answer?.text ?? '').map(keyOf);
      const doubled = stored.filter((key, at) => stored.indexOf(key) !== at);
      for (const key of doubled) this.world.fail(`events: ${key} is stored twice`);
      missing = stored.filter((key) => !this.#seen.has(key) && Number(key.split(' ').at(-2)) / 1e9 > this.#startS);
      return missing.length === 0;
    };
    if (!(await this.world.eventually(isComplete, 20_000)))
      this.world.fail(`events: a follower has not got ${missing.length}: ${missing.slice(0, 5).join(', ')}`);
    this.#ended = true;
    this.#request?.destroy();
    await this.#done;
  }

  readonly #startS = Date.now() / 1000;

  async #follow(): Promise<void> {
    while (!this.#ended) {
      await this.#connect();
      if (!this.#ended) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  #connect(): Promise<void> {
    const ofThis = new Set<string>();
    return new Promise((resolve) => {
      const since = Math.max(this.#startS, this.#lastS - OVERLAP_S).toFixed(3);
      const request = http.get({ socketPath: this.world.engine.socket, path: `/events?since=${since}`, agent: false });
      this.#request = request;
      request.on('error', () => resolve());
      request.on('response', (answer) => {
        let rest = '';
        answer.on('data', (chunk: Buffer) => {
          rest += chunk.toString();
          const end = rest.lastIndexOf('\n') + 1;
          for (const event of lines(rest.slice(0, end))) {
            const key = keyOf(event);
            if (ofThis.has(key)) this.world.fail(`events: a follower got ${key} twice`);
            ofThis.add(key);
            this.#seen.add(key);
            this.#lastS = Math.max(this.#lastS, event.timeNano / 1e9);
          }
          rest = rest.slice(end);
        });
        answer.on('error', () => resolve());
        answer.on('close', () => resolve());
      });
    });
  }
}

const lines = (text: string): ApiEvent[] =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as ApiEvent);
