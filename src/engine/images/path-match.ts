/** Shell patterns as Go's path.Match has them: `*` and `?` stop at a slash, `[a-z]`, `[^a-z]`, `\` takes the next character as it is. */
import { InvalidParameter } from '../errors.ts';

/** @throws InvalidParameter `syntax error in pattern`, also when the text could not have matched anyway */
export function matchPath(pattern: string, text: string): boolean {
  return compile(pattern).test(text);
}

const compiled = new Map<string, RegExp>();
const MAX_COMPILED = 100;

function compile(pattern: string): RegExp {
  let regexp = compiled.get(pattern);
  if (!regexp) {
    if (compiled.size >= MAX_COMPILED) compiled.clear();
    compiled.set(pattern, (regexp = translate(pattern)));
  }
  return regexp;
}

function translate(pattern: string): RegExp {
  const symbols = [...pattern];
  let source = '';
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i]!;
    if (symbol === '*') {
      while (symbols[i + 1] === '*') i++;
      source += '[^/]*';
    } else if (symbol === '?') source += '[^/]';
    else if (symbol === '\\') source += literal(symbols[++i] ?? bad());
    else if (symbol === '[') {
      const set = readClass(symbols, i + 1);
      source += set.source;
      i = set.end;
    } else source += literal(symbol);
  }
  return new RegExp(`^${source}$`, 'su');
}

// From behind the `[` to its `]`. An empty class is an error, as is a range without its end.
function readClass(symbols: string[], start: number): { source: string; end: number } {
  let i = start;
  const negated = symbols[i] === '^';
  if (negated) i++;
  const ranges: string[] = [];
  const one = (): string => {
    const symbol = symbols[i++];
    if (symbol === undefined || symbol === '-' || symbol === ']') return bad();
    return symbol === '\\' ? symbols[i++] ?? bad() : symbol;
  };
  while (symbols[i] !== ']' || ranges.length === 0) {
    const low = one();
    let high = low;
    if (symbols[i] === '-') {
      i++;
      high = one();
    }
    // Go takes a range the wrong way round as one that nothing is in.
    if (low.codePointAt(0)! <= high.codePointAt(0)!) ranges.push(`${inClass(low)}-${inClass(high)}`);
    else ranges.push('');
  }
  const set = ranges.join('');
  // Go lets a class match a slash.
  if (negated) return { source: set ? `[^${set}]` : '[\\s\\S]', end: i };
  return { source: set ? `[${set}]` : '(?!)', end: i };
}

const literal = (symbol: string): string => (/[\^$\\.*+?()[\]{}|/]/.test(symbol) ? `\\${symbol}` : symbol);
// The hyphen may be escaped in a class only.
const inClass = (symbol: string): string => (symbol === '-' ? '\\-' : literal(symbol));

function bad(): never {
  throw new InvalidParameter('syntax error in pattern');
}
