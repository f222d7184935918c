/** One run: its engine, its faults, what was found wrong, and how it asks the engine. */
import type { Answer } from '../support/http.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestEngine } from '../support/engine.ts';
import type { Faults } from './faults.ts';

/** Everything answers within this time, on a loaded machine and with faults under way. */
const ANSWER_MS = 90_000;
const SERVER_ERROR = 500;
const RETRY_MS = 200;
const POLL_MS = 100;
/** For what a fault has made fail to work again. */
const RECOVERY_MS = 60_000;

export interface Reply {
  /** undefined when the connection was lost. */
  answer: Answer | undefined;
  from: number;
  to: number;
}

interface AskOptions {
  /** Container that it concerns. */
  id?: string;
  /** Whether a 5xx is the right answer. */
  isFinal?: (answer: Answer) => boolean;
  /** Whether an answer says that an earlier attempt is still at work. */
  isPending?: (answer: Answer) => boolean;
  onUnknown?: () => void;
}

export class World {
  /** What is wrong, in the order of its discovery. */
  readonly wrong: string[] = [];
  /** The run stops early when something was wrong. */
  stopped = false;
  readonly answers = new Map<number, number>();

  constructor(
    readonly engine: TestEngine,
    readonly faults: Faults,
    readonly note: (text: string) => void,
  ) {}

  fail(text: string): void {
    if (this.stopped) return; // what follows a failure says nothing new
    this.wrong.push(text);
    this.note(`WRONG ${text}`);
  }

  /** One request. A connection that is lost without a fault of the daemon is a failure. */
  async call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Reply> {
    const from = Date.now();
    const overdue = setTimeout(() => this.fail(`${method} ${path}: no answer within ${ANSWER_MS} ms`), ANSWER_MS);
    let answer: Answer | undefined;
    let reason = '';
    try {
      answer = await this.engine.api(method, path, body, headers);
    } catch (error) {
      reason = (error as Error).message;
    } finally {
      clearTimeout(overdue);
    }
    const to = Date.now();
    const count = answer?.status ?? 0;
    this.answers.set(count, (this.answers.get(count) ?? 0) + 1);
    if (answer === undefined && !this.faults.explains(from, to, undefined, /^(daemon|listener)/))
      this.fail(`${method} ${path}: ${reason}`);
    return { answer, from, to };
  }

  /** Whether this reply says nothing about the effect. A 5xx without a fault that explains it is a failure. */
  isUnknown({ answer, from, to }: Reply, what: string, id?: string): boolean {
    if (answer === undefined) return true;
    if (answer.status < SERVER_ERROR) return false;
    if (!this.faults.explains(from, to, id)) this.fail(`${what}: ${answer.status} ${answer.text.trim()}`);
    return true;
  }

  /**
   * Asks again until the answer is one of the engine's own, neither lost nor a failure by a fault.
   */
  async ask(
    what: string,
    send: () => Promise<Reply>,
    { id, isFinal, isPending, onUnknown }: AskOptions = {},
  ): Promise<Answer | undefined> {
    const end = Date.now() + RECOVERY_MS;
    for (;;) {
      const reply = await send();
      if (reply.answer !== undefined && isFinal?.(reply.answer)) return reply.answer;
      const pending = reply.answer !== undefined && isPending?.(reply.answer) === true;
      if (!pending && !this.isUnknown(reply, what, id)) return reply.answer;
      onUnknown?.();
      if (this.wrong.length > 0) return undefined;
      if (Date.now() > end) {
        this.fail(`${what}: still ${reply.answer?.text.trim() ?? 'no connection'} after ${RECOVERY_MS} ms`);
        return undefined;
      }
      await this.faults.up().catch((error: unknown) => this.fail(`the daemon does not come back: ${String(error)}`));
      await sleep(RETRY_MS);
    }
  }

  get = (path: string): Promise<Answer | undefined> => this.ask(`GET ${path}`, () => this.call('GET', path));

  /** Waits for a condition that faults may delay. @returns whether it came true, or the run has failed meanwhile */
  async eventually(condition: () => boolean | Promise<boolean>, deadlineMs = RECOVERY_MS): Promise<boolean> {
    const end = Date.now() + deadlineMs;
    for (;;) {
      if ((await condition()) || this.wrong.length > 0) return true;
      if (Date.now() > end) return false;
      await sleep(POLL_MS);
    }
  }
}
