/** Expands quotes and `$variables` in Dockerfile words as BuildKit does (frontend/dockerfile/shell/lex.go). */
import { InvalidParameter } from '../../model/errors.ts';

export type Variables = ReadonlyMap<string, string>;

/** Removes a word's quotes and escapes and substitutes variables. @throws InvalidParameter for bad syntax */
export const expandWord = (text: string, variables: Variables): string => new Lexer(text, variables).run().text;

/** As `expandWord`, then splits at unquoted whitespace, including whitespace in a variable's value. */
export const expandWords = (text: string, variables: Variables): string[] => new Lexer(text, variables).run().words;

const SPACE = /\s/;
const ESCAPE = '\\';

/** Collects the result, as one text and split into words. */
class Expansion {
  text = '';
  readonly #words: string[] = [];
  #word = '';

  add(text: string, quoted: boolean): void {
    this.text += text;
    for (const symbol of quoted ? [text] : text) {
      if (quoted || !SPACE.test(symbol)) this.#word += symbol;
      else this.#endWord();
    }
  }

  words(): string[] {
    this.#endWord();
    return this.#words;
  }

  #endWord(): void {
    if (this.#word !== '') this.#words.push(this.#word);
    this.#word = '';
  }
}

class Lexer {
  readonly #symbols: string[];
  #at = 0;

  constructor(
    private readonly source: string,
    private readonly variables: Variables,
  ) {
    this.#symbols = Array.from(source);
  }

  run(): { text: string; words: string[] } {
    try {
      const expansion = this.#expandUntil(undefined);
      return { text: expansion.text, words: expansion.words() };
    } catch (error) {
      throw new InvalidParameter(`failed to process ${JSON.stringify(this.source)}: ${(error as Error).message}`);
    }
  }

  #expandUntil(stop: string | undefined): Expansion {
    const expansion = new Expansion();
    for (let symbol = this.#peek(); symbol !== undefined; symbol = this.#peek()) {
      if (symbol === stop) {
        this.#at++;
        return expansion;
      }
      if (symbol === "'") expansion.add(this.#singleQuoted(), true);
      else if (symbol === '"') expansion.add(this.#doubleQuoted(), true);
      else if (symbol === '$') expansion.add(this.#variable(), false);
      else if (symbol === ESCAPE) {
        this.#at++;
        const next = this.#next();
        if (next !== undefined) expansion.add(next, true);
      } else {
        this.#at++;
        expansion.add(symbol, false);
      }
    }
    if (stop !== undefined) throw new Error(`unexpected end of statement while looking for matching ${stop}`);
    return expansion;
  }

  #singleQuoted(): string {
    const end = this.#symbols.indexOf("'", this.#at + 1);
    if (end < 0) throw new Error('unexpected end of statement while looking for matching single-quote');
    const text = this.#symbols.slice(this.#at + 1, end).join('');
    this.#at = end + 1;
    return text;
  }

  #doubleQuoted(): string {
    let text = '';
    this.#at++;
    for (let symbol = this.#peek(); symbol !== undefined; symbol = this.#peek()) {
      if (symbol === '$') {
        text += this.#variable();
        continue;
      }
      this.#at++;
      if (symbol === '"') return text;
      if (symbol === ESCAPE) {
        const next = this.#peek();
        if (next === undefined) continue;
        // Within double quotes a backslash escapes only these.
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

  // `$NAME`, `${NAME}`, `${NAME:-WORD}` and the like.
  #variable(): string {
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
      return this.#expandUntil('}').text;
    } catch (error) {
      throw this.#peek() === undefined ? new Error("syntax error: missing '}'") : error;
    }
  }

  #name(): string {
    const rest = this.#symbols.slice(this.#at).join('');
    const name = /^(?:\d+|[@*#?\-$!]|[\p{L}_][\p{L}\p{Nd}_]*)/u.exec(rest)?.[0] ?? '';
    this.#at += Array.from(name).length;
    return name;
  }

  #peek = (): string | undefined => this.#symbols[this.#at];
  #next = (): string | undefined => this.#symbols[this.#at++];
}
