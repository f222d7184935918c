/**
 * Regular expressions of clients. Go's take time in proportion to the text; ours may take for ever, so they get a
 * moment and no more.
 */
import { createContext, Script, type Context } from 'node:vm';
import { InvalidParameter } from '../model/errors.ts';

/** For all texts that one pattern is held against. */
const MOMENT_MS = 500;
/** What a single look costs anyway. */
const LOOK_MS = 2;
/** Without choices, or with a single one and a short text, no pattern takes long. */
const CHOICE = /[*+?{|]/g;
const SHORT_TEXT = 256;

/** A script's time can be limited, a regular expression's alone cannot. */
const look = new Script('pattern.test(text)');
let place: Context | undefined;

export class Pattern {
  readonly #expression: RegExp;
  readonly #choices: number;
  #left = MOMENT_MS;

  /** @throws SyntaxError */
  constructor(
    private readonly source: string,
    flags: '' | 'i' = '',
  ) {
    this.#expression = new RegExp(source, flags);
    this.#choices = source.match(CHOICE)?.length ?? 0;
  }

  /** Whether it matches anywhere in the text. @throws InvalidParameter when it takes too long */
  test(text: string): boolean {
    if (this.#choices === 0 || (this.#choices === 1 && text.length <= SHORT_TEXT)) return this.#expression.test(text);
    place ??= createContext({});
    Object.assign(place, { pattern: this.#expression, text });
    const began = performance.now();
    try {
      if (this.#left <= 0) throw this.#tooSlow();
      return look.runInContext(place, { timeout: Math.ceil(this.#left) }) as boolean;
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' ? this.#tooSlow() : error;
    } finally {
      this.#left -= Math.max(0, performance.now() - began - LOOK_MS);
    }
  }

  #tooSlow = (): InvalidParameter =>
    new InvalidParameter(`the regular expression ${JSON.stringify(this.source)} takes too long`);
}
