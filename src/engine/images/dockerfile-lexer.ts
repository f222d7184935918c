/** Quotes and `$variables` in a Dockerfile's words, as BuildKit's shell lexer has them. */
import { InvalidParameter } from '../../model/errors.ts';

export type Variables = ReadonlyMap<string, string>;

/** The word with its quotes and escapes taken off and its variables put in. @throws InvalidParameter */
export const expandWord = (text: string, variables: Variables): string => new Lexer(text, variables).run().text;

/** As `expandWord`, cut into words at spaces that are not quoted: also at those that came in with a variable. */
export const expandWords = (text: string, variables: Variables): string[] => new Lexer(text, variables).run().words;

const SPACE = /\s/;
const ESCAPE = '\\';

class Words {
  text = '';
  readonly #done: string[] = [];
  #word = '';
  #open = false;

  add(text: string, quoted: boolean): void {
    this.text += text;
    for (const symbol of quoted ? [text] : text) {
      if (quoted || !SPACE.test(symbol)) {
        this.#word += symbol;
        this.#open = true;
      } else this.#close();
    }
  }

  all(): string[] {
    this.#close();
    return this.#done;
  }

  #close(): void {
    if (this.#open && this.#word !== '') this.#done.push(this.#word);
    this.#word = '';
    this.#open = false;
  }
}

class Lexer {
  readonly #symbols: string[];
  #at = 0;

  constructor(
    private readonly source: string,
    private readonly variables: Variables,
  ) {
    this.#symbols = [...source];
  }

  run(): { text: string; words: string[] } {
    try {
      const words = this.#until(undefined);
      return { text: words.text, words: words.all() };
    } catch (error) {
      throw new InvalidParameter(`failed to process ${JSON.stringify(this.source)}: ${(error as Error).message}`);
    }
  }

  #until(stop: string | undefined): Words {
    const words = new Words();
    for (let symbol = this.#peek(); symbol !== undefined; symbol = this.#peek()) {
      if (symbol === stop) {
        this.#at++;
        return words;
      }
      if (symbol === "'") words.add(this.#single(), true);
      else if (symbol === '"') words.add(this.#double(), true);
      else if (symbol === '$') words.add(this.#dollar(), false);
      else if (symbol === ESCAPE) {
        this.#at++;
        const next = this.#next();
        if (next !== undefined) words.add(next, true);
      } else {
        this.#at++;
        words.add(symbol, false);
      }
    }
    if (stop !== undefined) throw new Error(`unexpected end of statement while looking for matching ${stop}`);
    return words;
  }

  #single(): string {
    const end = this.#symbols.indexOf("'", this.#at + 1);
    if (end < 0) throw new Error('unexpected end of statement while looking for matching single-quote');
    const text = this.#symbols.slice(this.#at + 1, end).join('');
    this.#at = end + 1;
    return text;
  }

  #double(): string {
    let text = '';
    this.#at++;
    for (let symbol = this.#peek(); symbol !== undefined; symbol = this.#peek()) {
      if (symbol === '$') {
        text += this.#dollar();
        continue;
      }
      this.#at++;
      if (symbol === '"') return text;
      if (symbol === ESCAPE) {
        const next = this.#peek();
        if (next === undefined) continue;
        // Only these can be escaped here; before anything else the escape stays.
        if (next === '"' || next === '$' || next === ESCAPE) {
          text += next;
          this.#at++;
          continue;
        }
      }
      text += symbol;
    }
    throw new Error('unexpected end of statement while looking for matching double-quote');
  }

  #dollar(): string {
    this.#at++;
    if (this.#peek() !== '{') {
      const name = this.#name();
      return name === '' ? '$' : (this.variables.get(name) ?? '');
    }
    this.#at++;
    const first = this.#peek();
    if (first === undefined) throw new Error("syntax error: missing '}'");
    if ('{}:'.includes(first)) throw new Error('syntax error: bad substitution');
    const name = this.#name();
    let modifier = this.#next() ?? '';
    const value = this.variables.get(name);
    if (modifier === '}') return value ?? '';
    const colon = modifier === ':';
    if (colon) modifier = this.#next() ?? '';
    if (!['+', '-', '?'].includes(modifier))
      throw new Error(`unsupported modifier (${colon ? ':' : ''}${modifier}) in substitution`);
    const word = this.#braced();
    const missing = value === undefined || (colon && value === '');
    if (modifier === '+') return missing ? '' : word;
    if (!missing) return value;
    if (modifier === '-') return word;
    throw new Error(`${name}: ${word || `is not allowed to be ${value === undefined ? 'unset' : 'empty'}`}`);
  }

  #braced(): string {
    try {
      return this.#until('}').text;
    } catch (error) {
      throw this.#peek() === undefined ? new Error("syntax error: missing '}'") : error;
    }
  }

  #name(): string {
    const rest = this.#symbols.slice(this.#at).join('');
    const name = /^(?:\d+|[@*#?\-$!]|[\p{L}_][\p{L}\p{Nd}_]*)/u.exec(rest)?.[0] ?? '';
    this.#at += [...name].length;
    return name;
  }

  #peek = (): string | undefined => this.#symbols[this.#at];
  #next = (): string | undefined => this.#symbols[this.#at++];
}
