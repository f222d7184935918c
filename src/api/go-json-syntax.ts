/** Go's encoding/json error message for malformed JSON. Runs only after JSON.parse has failed. */

class Unexpected extends Error {}

/** dockerd's message for a body that JSON.parse has rejected. */
export function syntaxError(text: string, prefix: string): string {
  try {
    new Scanner(text).value();
  } catch (error) {
    if (error instanceof Unexpected) return `${prefix}${error.message}`;
    // The stack overflows here; Go limits the depth to 10,000.
    if (error instanceof RangeError) return `${prefix}exceeded max depth`;
    throw error;
  }
  // The first value is well-formed, so the error is after it. Go's decoder would not have read on; dockerd checks.
  return 'unexpected content after JSON';
}

/** Scans one JSON value. */
class Scanner {
  #at = 0;

  constructor(private readonly text: string) {}

  value(): void {
    this.#space();
    const c = this.#peek();
    if (c === '{') return this.#object();
    if (c === '[') return this.#array();
    if (c === '"') return this.#string();
    if (c === '-' || isDigit(c)) return this.#number();
    for (const word of ['true', 'false', 'null']) if (c === word[0]) return this.#literal(word);
    throw this.#unexpected('looking for beginning of value');
  }

  #object(): void {
    this.#at++;
    this.#space();
    if (this.#peek() === '}') return void this.#at++;
    for (;;) {
      this.#space();
      if (this.#peek() !== '"') throw this.#unexpected('looking for beginning of object key string');
      this.#string();
      this.#space();
      if (this.#peek() !== ':') throw this.#unexpected('after object key');
      this.#at++;
      this.value();
      this.#space();
      const c = this.#peek();
      if (c !== ',' && c !== '}') throw this.#unexpected('after object key:value pair');
      this.#at++;
      if (c === '}') return;
    }
  }

  #array(): void {
    this.#at++;
    this.#space();
    if (this.#peek() === ']') return void this.#at++;
    for (;;) {
      this.value();
      this.#space();
      const c = this.#peek();
      if (c !== ',' && c !== ']') throw this.#unexpected('after array element');
      this.#at++;
      if (c === ']') return;
    }
  }

  #string(): void {
    this.#at++;
    for (;;) {
      const c = this.#peek();
      if (c === '"') return void this.#at++;
      if (c < ' ') throw this.#unexpected('in string literal');
      this.#at++;
      if (c === '\\') this.#escape();
    }
  }

  #escape(): void {
    const c = this.#peek();
    if (!'bfnrt\\/"u'.includes(c)) throw this.#unexpected('in string escape code');
    this.#at++;
    if (c !== 'u') return;
    for (let i = 0; i < 4; i++, this.#at++)
      if (!/[0-9a-fA-F]/.test(this.#peek())) throw this.#unexpected('in \\u hexadecimal character escape');
  }

  #number(): void {
    if (this.#peek() === '-') this.#at++;
    if (!isDigit(this.#peek())) throw this.#unexpected('in numeric literal');
    if (this.#peek() === '0') this.#at++;
    else this.#digits();
    if (this.text[this.#at] === '.') {
      this.#at++;
      if (!isDigit(this.#peek())) throw this.#unexpected('after decimal point in numeric literal');
      this.#digits();
    }
    if (/[eE]/.test(this.text[this.#at] ?? '')) {
      this.#at++;
      if (/[+-]/.test(this.#peek())) this.#at++;
      if (!isDigit(this.#peek())) throw this.#unexpected('in exponent of numeric literal');
      this.#digits();
    }
  }

  #digits(): void {
    while (isDigit(this.text[this.#at] ?? '')) this.#at++;
  }

  #literal(word: string): void {
    for (const expected of word) {
      if (this.#peek() !== expected) throw this.#unexpected(`in literal ${word} (expecting '${expected}')`);
      this.#at++;
    }
  }

  #space(): void {
    while (/[ \t\r\n]/.test(this.text[this.#at] ?? '')) this.#at++;
  }

  #peek(): string {
    const c = this.text[this.#at];
    if (c === undefined) throw new Unexpected('unexpected EOF');
    return c;
  }

  #unexpected(where: string): Unexpected {
    return new Unexpected(
      `invalid character ${quoted(String.fromCodePoint(this.text.codePointAt(this.#at)!))} ${where}`,
    );
  }
}

const isDigit = (c: string): boolean => c >= '0' && c <= '9';

/** Quotes a character like Go. */
function quoted(c: string): string {
  if (c === "'") return "'\\''";
  if (c === '"') return `'"'`;
  return `'${JSON.stringify(c).slice(1, -1)}'`;
}
