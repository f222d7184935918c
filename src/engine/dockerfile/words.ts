/** Expands quotes and `$variables` in Dockerfile words as BuildKit does (frontend/dockerfile/shell/lex.go). */
import { InvalidParameter } from '../../model/errors.ts';
import { parsePattern, PatternError, replaced, withoutPrefix, withoutSuffix } from './shell-pattern.ts';

export type Variables = ReadonlyMap<string, string>;

export interface Expanded {
  text: string;
  /** `text` split at unquoted whitespace, including whitespace in a variable's value. */
  words: string[];
  /** The variables that were asked for and are set, and those that are not. */
  set: Set<string>;
  unset: Set<string>;
}

export interface ExpandOptions {
  /** The Dockerfile's escape character, `\` or a backtick. */
  escape?: string;
  /** Quotes are removed, kept as they are, or are letters like any other. */
  quotes?: 'removed' | 'kept' | 'letters';
  /** A variable that is not set stays as written. */
  keepUnset?: boolean;
}

/** Removes a word's quotes and escapes and substitutes variables. @throws InvalidParameter for bad syntax */
export const expand = (text: string, variables: Variables, options: ExpandOptions = {}): Expanded =>
  new Expander(text, variables, options).run();

/** The text alone. @throws InvalidParameter */
export const expandWord = (text: string, variables: Variables, options?: ExpandOptions): string =>
  expand(text, variables, options).text;

/** The words alone. @throws InvalidParameter */
export const expandWords = (text: string, variables: Variables, options?: ExpandOptions): string[] =>
  expand(text, variables, options).words;

const SPACE = /\s/;
/** Modifiers of `${NAME…}` that are followed by a word. With a colon before them an empty value counts as unset. */
const MODIFIERS = new Set(['+', '-', '?', '#', '%']);

/** Collects the result, as one text and split into words. */
class Result {
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

class Expander {
  readonly #symbols: string[];
  readonly #set = new Set<string>();
  readonly #unset = new Set<string>();
  #at = 0;
  /** Within a pattern, escapes are kept: the pattern needs them. */
  #keepEscapes = false;
  private readonly escape: string;
  private readonly quotes: NonNullable<ExpandOptions['quotes']>;
  private readonly keepUnset: boolean;

  constructor(
    private readonly source: string,
    private readonly variables: Variables,
    { escape = '\\', quotes = 'removed', keepUnset = false }: ExpandOptions,
  ) {
    this.#symbols = Array.from(source);
    this.escape = escape;
    this.quotes = quotes;
    this.keepUnset = keepUnset;
  }

  run(): Expanded {
    try {
      const result = this.#expandUntil(undefined);
      return { text: result.text, words: result.words(), set: this.#set, unset: this.#unset };
    } catch (error) {
      throw new InvalidParameter(`failed to process ${JSON.stringify(this.source)}: ${(error as Error).message}`);
    }
  }

  #expandUntil(stop: string | undefined): Result {
    const result = new Result();
    for (let symbol = this.#peek(); symbol !== undefined; symbol = this.#peek()) {
      if (symbol === stop) {
        this.#at++;
        return result;
      }
      if (symbol === "'" && this.quotes !== 'letters') result.add(this.#singleQuoted(), true);
      else if (symbol === '"' && this.quotes !== 'letters') result.add(this.#doubleQuoted(), true);
      else if (symbol === '$') result.add(this.#variable(), false);
      else if (symbol === this.escape) {
        this.#at++;
        if (this.#keepEscapes) result.add(symbol, true);
        const next = this.#next();
        if (next !== undefined) result.add(next, true);
      } else {
        this.#at++;
        result.add(symbol, false);
      }
    }
    if (stop !== undefined) throw new Error(`unexpected end of statement while looking for matching ${stop}`);
    return result;
  }

  #singleQuoted(): string {
    const end = this.#symbols.indexOf("'", this.#at + 1);
    if (end < 0) throw new Error('unexpected end of statement while looking for matching single-quote');
    const text = this.#symbols.slice(this.#at + 1, end).join('');
    this.#at = end + 1;
    return this.quotes === 'kept' ? `'${text}'` : text;
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
      if (symbol === '"') return this.quotes === 'kept' ? `"${text}"` : text;
      if (symbol === this.escape) {
        if (this.#keepEscapes) text += symbol;
        const next = this.#peek();
        if (next === undefined) continue;
        // Within double quotes only these can be escaped.
        if (next === '"' || next === '$' || next === this.escape) {
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
      return name === '' ? '$' : (this.#valueOf(name) ?? this.#unsetText(`$${name}`));
    }
    this.#at++;
    const first = this.#peek();
    if (first === undefined) throw new Error("syntax error: missing '}'");
    if ('{}:'.includes(first)) throw new Error('syntax error: bad substitution');
    const name = this.#name();
    const modifier = this.#next() ?? '';
    if (modifier === '}') return this.#valueOf(name) ?? this.#unsetText(`\${${name}}`);
    if (modifier === '/') return this.#replaced(name);
    if (modifier === ':') return this.#modified(name, this.#next() ?? '', true);
    return this.#modified(name, modifier, false);
  }

  #modified(name: string, modifier: string, isEmptyUnset: boolean): string {
    const unsupported = (): Error =>
      new Error(`unsupported modifier (${isEmptyUnset ? ':' : ''}${modifier}) in substitution`);
    // After a colon BuildKit reads the word before it looks at the modifier.
    if (!isEmptyUnset && !MODIFIERS.has(modifier)) throw unsupported();
    const isPattern = modifier === '#' || modifier === '%';
    const word = this.#braced('}', isPattern, "missing '}'");
    const value = this.#valueOf(name);
    if (value === undefined && this.keepUnset) return `\${${name}${isEmptyUnset ? ':' : ''}${modifier}${word}}`;
    const isMissing = value === undefined || (isEmptyUnset && value === '');
    switch (modifier) {
      case '+':
        return isMissing ? '' : word;
      case '-':
        return isMissing ? word : value;
      case '?':
        if (!isMissing) return value;
        throw new Error(`${name}: ${word || `is not allowed to be ${value === undefined ? 'unset' : 'empty'}`}`);
      case '#':
      case '%': {
        const isLongest = word.startsWith(modifier);
        const pattern = patternOf(isLongest ? word.slice(1) : word);
        return (modifier === '#' ? withoutPrefix : withoutSuffix)(value ?? '', pattern, isLongest);
      }
      default:
        throw unsupported();
    }
  }

  // `${NAME/PATTERN/TEXT}` replaces the first match, `${NAME//PATTERN/TEXT}` all.
  #replaced(name: string): string {
    const isEvery = this.#peek() === '/';
    if (isEvery) this.#at++;
    const pattern = this.#braced('/', true, "missing '/' in ${}");
    const text = this.#braced('}', true, "missing '}'");
    const value = this.#valueOf(name);
    if (value === undefined && this.keepUnset) return `\${${name}/${pattern}/${text}}`;
    return replaced(value ?? '', patternOf(pattern), text, isEvery);
  }

  #braced(stop: string, keepEscapes: boolean, missing: string): string {
    const before = this.#keepEscapes;
    this.#keepEscapes = keepEscapes;
    try {
      return this.#expandUntil(stop).text;
    } catch (error) {
      throw this.#peek() === undefined ? new Error(`syntax error: ${missing}`) : error;
    } finally {
      this.#keepEscapes = before;
    }
  }

  #valueOf(name: string): string | undefined {
    const value = this.variables.get(name);
    (value === undefined ? this.#unset : this.#set).add(name);
    return value;
  }

  #unsetText = (written: string): string => (this.keepUnset ? written : '');

  #name(): string {
    const rest = this.#symbols.slice(this.#at).join('');
    const name = /^(?:\d+|[@*#?\-$!]|[\p{L}_][\p{L}\p{Nd}_]*)/u.exec(rest)?.[0] ?? '';
    this.#at += Array.from(name).length;
    return name;
  }

  #peek = (): string | undefined => this.#symbols[this.#at];
  #next = (): string | undefined => this.#symbols[this.#at++];
}

function patternOf(text: string): ReturnType<typeof parsePattern> {
  try {
    return parsePattern(text);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw new Error(`invalid pattern (${text}) in substitution: ${error.message}`, { cause: error });
  }
}
