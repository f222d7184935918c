/**
 * Shell patterns as in Go's path.Match: `*` and `?` do not match a slash; `[a-z]`, `[^a-z]`; `\` escapes the next
 * character.
 */
import { InvalidParameter } from '../../model/errors.ts';

/** `*`, or a predicate for one character. */
type Token = '*' | ((symbol: string) => boolean);

/** Whether a pattern matches all of `text`. @throws InvalidParameter `syntax error in pattern` */
export function matchPath(pattern: string, text: string): boolean {
  const tokens = tokenize(Array.from(pattern));
  const symbols = Array.from(text);
  let token = 0;
  let at = 0;
  // Backtracks to the last star only, as Go does: linear in the number of stars.
  let star = -1;
  let starEnd = 0;
  while (at < symbols.length) {
    const next = tokens[token];
    if (next === '*') {
      star = token++;
      starEnd = at;
    } else if (next?.(symbols[at]!)) {
      token++;
      at++;
    } else if (star >= 0 && symbols[starEnd] !== '/') {
      token = star + 1;
      at = ++starEnd;
    } else {
      return false;
    }
  }
  return tokens.slice(token).every((rest) => rest === '*');
}

function tokenize(symbols: string[]): Token[] {
  const tokens: Token[] = [];
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i]!;
    if (symbol === '*') tokens.push('*');
    else if (symbol === '?') tokens.push((one) => one !== '/');
    else if (symbol === '[') {
      const { token, end } = readClass(symbols, i + 1);
      tokens.push(token);
      i = end;
    } else {
      const wanted = symbol === '\\' ? (symbols[++i] ?? bad()) : symbol;
      tokens.push((one) => one === wanted);
    }
  }
  return tokens;
}

// Reads a character class after its `[`; `end` is the position of its `]`. As in Go, a class may match a slash.
function readClass(symbols: string[], start: number): { token: Token; end: number } {
  let i = start;
  const negated = symbols[i] === '^';
  if (negated) i++;
  const ranges: [low: number, high: number][] = [];
  const one = (): number => {
    const symbol = symbols[i++];
    if (symbol === undefined || symbol === '-' || symbol === ']') return bad();
    return (symbol === '\\' ? (symbols[i++] ?? bad()) : symbol).codePointAt(0)!;
  };
  while (symbols[i] !== ']' || ranges.length === 0) {
    const low = one();
    let high = low;
    if (symbols[i] === '-') {
      i++;
      high = one();
    }
    ranges.push([low, high]);
  }
  const isIn = (point: number): boolean => ranges.some(([low, high]) => low <= point && point <= high);
  return { token: (symbol) => isIn(symbol.codePointAt(0)!) !== negated, end: i };
}

function bad(): never {
  throw new InvalidParameter('syntax error in pattern');
}
