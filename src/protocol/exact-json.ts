/** JSON whose integers keep all their digits, as in Go: those that no double holds are bigints. */

/** An integer of 16 digits or more, where a value may begin. Ordinary texts have none and are parsed at once. */
const LONG = /(?:^|[[:,\s])-?\d{16}/;
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** 2^64 has 20 digits. Longer ones are outside of every integer type, and stay doubles. */
const UNSAFE_INTEGER = /^-?\d{16,20}$/;

/**
 * Like JSON.parse, but an integer of up to 20 digits that is not safe is a bigint.
 * @throws SyntaxError
 */
export function parseExactJson(text: string): unknown {
  const plain: unknown = JSON.parse(text);
  if (!LONG.test(text)) return plain;
  const mark = unusedMark(text);
  return JSON.parse(markIntegers(text, mark), (_key, value: unknown) =>
    typeof value === 'string' && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value,
  );
}

/** Like JSON.stringify, with bigints as integers. */
export function exactJson(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    // Not a look for bigints before: nearly no value has one.
    return jsonWithIntegers(value, (part) => (typeof part === 'bigint' ? String(part) : undefined));
  }
}

/** JSON in which `digits` replaces what it returns a text for, an integer. */
export function jsonWithIntegers(value: unknown, digits: (part: unknown) => string | undefined): string {
  const write = (mark: string): string =>
    JSON.stringify(value, (_key, part: unknown) => {
      const integer = digits(part);
      return integer === undefined ? part : `${mark}${integer}`;
    });
  const mark = unusedMark(write(''));
  return write(mark).replaceAll(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1');
}

/** A beginning that no string of the text has. */
function unusedMark(text: string): string {
  let mark = 'number ';
  while (text.includes(`"${mark}`)) mark += '-';
  return mark;
}

/** Makes strings of the unsafe integers. The text is valid JSON. */
function markIntegers(text: string, mark: string): string {
  let marked = '';
  let at = 0;
  while (at < text.length) {
    const quote = text.indexOf('"', at);
    const stop = quote < 0 ? text.length : quote;
    marked += text
      .slice(at, stop)
      .replaceAll(NUMBER, (number) =>
        UNSAFE_INTEGER.test(number) && !Number.isSafeInteger(Number(number)) ? `"${mark}${number}"` : number,
      );
    at = quote < 0 ? stop : endOfString(text, quote);
    marked += text.slice(stop, at);
  }
  return marked;
}

/** The position after the string that begins at `quote`. */
function endOfString(text: string, quote: number): number {
  let at = quote;
  for (;;) {
    at = text.indexOf('"', at + 1);
    let escapes = 0;
    while (text[at - 1 - escapes] === '\\') escapes++;
    if (escapes % 2 === 0) return at + 1;
  }
}
