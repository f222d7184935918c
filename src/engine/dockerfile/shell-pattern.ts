/**
 * Shell patterns of `${NAME#PATTERN}` and the like: `*` and `?` are wildcards. Matched in time proportional to the
 * product of the lengths, whatever the pattern: both come from clients, so that regular expressions, which backtrack,
 * will not do.
 */

export class PatternError extends Error {}

const ANY_TEXT = Symbol('*');
const ANY_SYMBOL = Symbol('?');
type Token = string | typeof ANY_TEXT | typeof ANY_SYMBOL;

export type Pattern = readonly Token[];

/** @throws PatternError for an escape of something that needs none */
export function parsePattern(text: string): Pattern {
  const symbols = Array.from(text);
  const tokens: Token[] = [];
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i]!;
    if (symbol === '*') tokens.push(ANY_TEXT);
    else if (symbol === '?') tokens.push(ANY_SYMBOL);
    else if (symbol !== '\\') tokens.push(symbol);
    else {
      const escaped = symbols[++i] ?? '';
      // `}` and `/` are escaped for the sake of the surrounding `${}`.
      if (!['*', '?', '\\', '}', '/'].includes(escaped)) throw new PatternError(`invalid escape '\\${escaped}'`);
      tokens.push(escaped);
    }
  }
  return tokens;
}

/** `value` without the shortest or longest prefix that matches. */
export function withoutPrefix(value: string, pattern: Pattern, longest: boolean): string {
  const symbols = Array.from(value);
  const end = matchEnd(symbols, 0, pattern, longest);
  return end === undefined ? value : symbols.slice(end).join('');
}

/** `value` without the shortest or longest suffix that matches. */
export function withoutSuffix(value: string, pattern: Pattern, longest: boolean): string {
  const symbols = Array.from(value).reverse();
  const end = matchEnd(symbols, 0, [...pattern].reverse(), longest);
  return end === undefined ? value : symbols.slice(end).reverse().join('');
}

/** `value` with the first match, or every one, replaced; a match is as long as possible. */
export function replaced(value: string, pattern: Pattern, replacement: string, every: boolean): string {
  const symbols = Array.from(value);
  let result = '';
  let at = 0;
  let matchedTo = -1;
  while (at <= symbols.length) {
    const end = matchEnd(symbols, at, pattern, true);
    // An empty match right behind the last one is none (Go's regexp.ReplaceAll).
    const isMatch = end !== undefined && !(end === at && at === matchedTo);
    if (isMatch) {
      result += replacement;
      matchedTo = end;
    }
    if (isMatch && !every) return result + symbols.slice(end).join('');
    if (isMatch && end > at) at = end;
    else result += symbols[at++] ?? '';
  }
  return result;
}

/** Where the shortest or longest match from `start` ends; undefined if nothing matches. */
function matchEnd(symbols: string[], start: number, pattern: Pattern, longest: boolean): number | undefined {
  let end: number | undefined;
  // The positions in the pattern that the symbols so far can have led to.
  let positions = closure([0], pattern);
  for (let at = start; positions.size > 0; at++) {
    if (positions.has(pattern.length)) {
      end = at;
      if (!longest) return end;
    }
    const symbol = symbols[at];
    if (symbol === undefined) break;
    positions = closure(
      [...positions].flatMap((position) => {
        const token = pattern[position];
        if (token === ANY_TEXT) return [position];
        return token === ANY_SYMBOL || token === symbol ? [position + 1] : [];
      }),
      pattern,
    );
  }
  return end;
}

// `*` also matches nothing.
function closure(positions: number[], pattern: Pattern): Set<number> {
  const closed = new Set<number>();
  for (let position of positions) {
    closed.add(position);
    while (pattern[position] === ANY_TEXT) closed.add(++position);
  }
  return closed;
}
