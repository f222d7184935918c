/**
 * Regular expressions from clients. Go's engine runs in linear time; JavaScript's may backtrack exponentially and would
 * block the daemon, so these have a time limit.
 */
import { createContext, Script, type Context } from 'node:vm';
import { InvalidParameter } from '../model/errors.ts';

/** Budget per pattern, for all texts it is tested against. */
const BUDGET_MS = 500;
/** Fixed cost of running the script, not charged. */
const OVERHEAD_MS = 2;
/** The operators at which a match may backtrack. */
const OPERATORS = /[*+?{|]/g;
const SHORT_TEXT = 256;

/** node:vm can limit a script's time, but nothing can limit a regular expression's. */
const testScript = new Script('pattern.test(text)');
let context: Context | undefined;

export class Pattern {
  readonly #expression: RegExp;
  readonly #operators: number;
  #left = BUDGET_MS;

  /** @throws SyntaxError */
  constructor(
    private readonly source: string,
    flags: '' | 'i' = '',
  ) {
    this.#expression = new RegExp(source, flags);
    this.#operators = source.match(OPERATORS)?.length ?? 0;
  }

  /** Whether it matches anywhere in the text. @throws InvalidParameter when it takes too long */
  test(text: string): boolean {
    if (this.#isCheap(text)) return this.#expression.test(text);
    context ??= createContext({});
    Object.assign(context, { pattern: this.#expression, text });
    const began = performance.now();
    try {
      if (this.#left <= 0) throw this.#tooSlow();
      return testScript.runInContext(context, { timeout: Math.ceil(this.#left) }) as boolean;
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' ? this.#tooSlow() : error;
    } finally {
      this.#left -= Math.max(0, performance.now() - began - OVERHEAD_MS);
    }
  }

  /** Without operators, or with one on a short text, the time is bounded and the detour through node:vm not needed. */
  #isCheap = (text: string): boolean => this.#operators === 0 || (this.#operators === 1 && text.length <= SHORT_TEXT);

  #tooSlow = (): InvalidParameter =>
    new InvalidParameter(`the regular expression ${JSON.stringify(this.source)} takes too long`);
}
