/**
 * .dockerignore: which files of a context are left out (moby/patternmatcher). Patterns are matched in time proportional
 * to the product of the lengths: they come from clients, and are tried on every file.
 */
import { posix } from 'node:path';
import { InvalidParameter } from '../../model/errors.ts';

/** One symbol, or any number of them: within a name, or in any directories with the slash at their end. */
type Token =
  | { kind: 'one'; matches: (symbol: string) => boolean }
  | { kind: 'name' }
  | { kind: 'directories' }
  | { kind: 'everything' };

interface Pattern {
  /** `!`: what matches is not left out. */
  isException: boolean;
  text: string;
  tokens: Token[];
}

export class Ignore {
  readonly #patterns: Pattern[];

  /** @param lines from ignorePatterns() @throws InvalidParameter for a class that does not end */
  constructor(lines: string[]) {
    this.#patterns = lines.map((line) => {
      const isException = line.startsWith('!');
      const text = isException ? line.slice(1) : line;
      return { isException, text, tokens: tokenize(text) };
    });
  }

  /** Whether `a/b` is left out: the last pattern counts that matches it or a directory above it. */
  ignores(path: string): boolean {
    const names = path.split('/');
    const paths = names.map((_, i) => names.slice(0, i + 1).join('/'));
    let ignored = false;
    for (const { isException, tokens } of this.#patterns)
      if (isException === ignored && paths.some((above) => matches(tokens, above))) ignored = !isException;
    return ignored;
  }

  /** Whether something in an ignored directory may not be ignored. */
  mayKeepBelow(directory: string): boolean {
    return this.#patterns.some(
      ({ isException, text }) => isException && (/^[^/]*[*?[\\]/.test(text) || overlaps(text, directory)),
    );
  }
}

/** The patterns of a .dockerignore file, cleaned. @throws InvalidParameter */
export function ignorePatterns(text: string): string[] {
  return text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map(cleaned);
}

function cleaned(line: string): string {
  const isException = line.startsWith('!');
  const written = isException ? line.slice(1).trim() : line;
  if (written === '') throw new InvalidParameter(`illegal exclusion pattern: ${JSON.stringify(line)}`);
  const path = posix.normalize(written).replace(/(.)\/$/, '$1');
  return `${isException ? '!' : ''}${path.length > 1 ? path.replace(/^\//, '') : path}`;
}

// One lies below the other, as far as the pattern has no wildcard.
function overlaps(text: string, directory: string): boolean {
  const names = text.split('/');
  const plain = names.findIndex((name) => /[*?[\\]/.test(name));
  const prefix = (plain < 0 ? names : names.slice(0, plain)).join('/');
  return prefix === '' || `${prefix}/`.startsWith(`${directory}/`) || `${directory}/`.startsWith(`${prefix}/`);
}

function tokenize(text: string): Token[] {
  const symbols = Array.from(text);
  const tokens: Token[] = [];
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i]!;
    if (symbol === '*' && symbols[i + 1] === '*') {
      i++;
      if (symbols[i + 1] === '/') i++;
      tokens.push({ kind: i + 1 < symbols.length ? 'directories' : 'everything' });
    } else if (symbol === '*') tokens.push({ kind: 'name' });
    else if (symbol === '?') tokens.push({ kind: 'one', matches: (one) => one !== '/' });
    else if (symbol === '[') {
      const { token, end } = symbolClass(symbols, i + 1, text);
      tokens.push(token);
      i = end;
    } else {
      const wanted = symbol === '\\' ? (symbols[++i] ?? bad(text)) : symbol;
      tokens.push({ kind: 'one', matches: (one) => one === wanted });
    }
  }
  return tokens;
}

/** `[a-z]`, `[^a-z]`, read from behind its bracket; `end` is the place of the closing one. */
function symbolClass(symbols: string[], start: number, text: string): { token: Token; end: number } {
  const isNegated = symbols[start] === '^';
  const ranges: [low: string, high: string][] = [];
  let i = start + (isNegated ? 1 : 0);
  const next = (): string => (symbols[i] === '\\' ? symbols[++i] : symbols[i]) ?? bad(text);
  for (; symbols[i] !== ']' || ranges.length === 0; i++) {
    const low = next();
    const isRange = symbols[i + 1] === '-' && symbols[i + 2] !== ']';
    if (isRange) i += 2;
    ranges.push([low, isRange ? next() : low]);
  }
  const isIn = (one: string): boolean => ranges.some(([low, high]) => one >= low && one <= high);
  return { token: { kind: 'one', matches: (one) => isIn(one) !== isNegated }, end: i };
}

function bad(text: string): never {
  throw new InvalidParameter(`syntax error in pattern: ${JSON.stringify(text)}`);
}

/** All ways to match are followed at once, symbol by symbol. */
function matches(tokens: Token[], path: string): boolean {
  let places = new Set<number>();
  const enter = (place: number): void => {
    for (; !places.has(place); place++) {
      places.add(place);
      // What may match nothing can be passed over; so can directories, but only at their end.
      if (place >= tokens.length || tokens[place]!.kind === 'one') return;
    }
  };
  enter(0);
  for (const symbol of path) {
    const before = places;
    places = new Set();
    for (const place of before) {
      const token = tokens[place];
      if (!token) continue;
      if (token.kind === 'one') {
        if (token.matches(symbol)) enter(place + 1);
      } else if (token.kind === 'directories') {
        places.add(place);
        if (symbol === '/') enter(place + 1);
      } else if (token.kind === 'everything' || symbol !== '/') enter(place);
    }
    if (places.size === 0) return false;
  }
  return places.has(tokens.length);
}
