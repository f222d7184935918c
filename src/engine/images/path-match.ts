/**
 * Shell patterns as Go's path.Match has them: `*` and `?` stop at a slash, `[a-z]`, `[^a-z]`, `\` takes the next
 * character as it is.
 */
import { InvalidParameter } from '../../model/errors.ts';

/** `*`, or what one character has to be. */
type Part = '*' | ((symbol: string) => boolean);

/** @throws InvalidParameter `syntax error in pattern`, also when the text could not have matched anyway */
export function matchPath(pattern: string, text: string): boolean {
  const parts = partsOf([...pattern]);
  const symbols = [...text];
  let part = 0;
  let at = 0;
  // As Go: only the last star is asked to take more, so the time does not grow with their number.
  let star = -1;
  let taken = 0;
  while (at < symbols.length) {
    const next = parts[part];
    if (next === '*') {
      star = part++;
      taken = at;
    } else if (next?.(symbols[at]!)) {
      part++;
      at++;
    } else if (star >= 0 && symbols[taken] !== '/') {
      part = star + 1;
      at = ++taken;
    } else {
      return false;
    }
  }
  return parts.slice(part).every((rest) => rest === '*');
}

function partsOf(symbols: string[]): Part[] {
  const parts: Part[] = [];
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i]!;
    if (symbol === '*') parts.push('*');
    else if (symbol === '?') parts.push((one) => one !== '/');
    else if (symbol === '[') {
      const { part, end } = readClass(symbols, i + 1);
      parts.push(part);
      i = end;
    } else {
      const wanted = symbol === '\\' ? (symbols[++i] ?? bad()) : symbol;
      parts.push((one) => one === wanted);
    }
  }
  return parts;
}

// From behind the `[` to its `]`. An empty class is an error, as is a range without its end. Go lets a class match a
// slash.
function readClass(symbols: string[], start: number): { part: Part; end: number } {
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
  return { part: (symbol) => isIn(symbol.codePointAt(0)!) !== negated, end: i };
}

function bad(): never {
  throw new InvalidParameter('syntax error in pattern');
}
