/** pax records (POSIX pax, "Extended Header"): the values that replace fields of the ustar headers that follow. */
import { TarError, XATTR_PREFIX } from './tar.ts';

/** Keys and values. Values are bytes. */
export type Pax = ReadonlyMap<string, Buffer>;

const SPARSE_PREFIX = 'GNU.sparse.';
const FIELD_KEYS = new Set(['path', 'linkpath', 'uid', 'gid', 'size', 'mtime', 'atime']);
/** Limits for the values that apply to all following entries: they are processed with each of them. */
const MAX_GLOBAL_BYTES = 64 * 1024;
const MAX_GLOBAL_VALUES = 32;
/** Digits of a record's length; a header is at most 1 MiB long. */
const MAX_LENGTH_DIGITS = 7;
const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;

const isUsed = (key: string): boolean =>
  FIELD_KEYS.has(key) || key.startsWith(XATTR_PREFIX) || key.startsWith(SPARSE_PREFIX);

/** Whether the entry's body is a sparse file's map and data. */
export const isSparse = (pax: Pax): boolean =>
  pax.size > 0 && [...pax.keys()].some((key) => key.startsWith(SPARSE_PREFIX));

/** The values of one header that a reader uses; others are only checked for their form. @throws TarError */
export function parsePax(body: Buffer): Pax {
  const values = new Map<string, Buffer>();
  eachRecord(body, (keyStart, keyEnd, valueEnd) => {
    if (!mayBeUsed(body[keyStart]!)) return;
    const key = body.toString('utf8', keyStart, keyEnd);
    if (isUsed(key)) values.set(key, Buffer.from(body.subarray(keyEnd + 1, valueEnd)));
  });
  return values;
}

// Before a string is made of it: a header may have a hundred thousand records, and each entry such a header.
const FIRST_BYTES = new Set([...FIELD_KEYS, XATTR_PREFIX, SPARSE_PREFIX].map((key) => key.charCodeAt(0)));
const mayBeUsed = (firstByte: number): boolean => FIRST_BYTES.has(firstByte);

/** The values of global headers, which apply to all following entries. */
export class GlobalPax {
  /** Bytes of each key and value, of those that are not used as well. */
  readonly #sizes = new Map<string, number>();
  #totalSize = 0;
  readonly #used = new Map<string, Buffer>();

  /** Takes a header's records: an empty value removes its key. @throws TarError for more than the limits */
  update(body: Buffer): void {
    eachRecord(body, (keyStart, keyEnd, valueEnd) => {
      const key = body.toString('utf8', keyStart, keyEnd);
      const value = body.subarray(keyEnd + 1, valueEnd);
      this.#totalSize -= this.#sizes.get(key) ?? 0;
      if (value.length === 0) {
        this.#sizes.delete(key);
        this.#used.delete(key);
        return;
      }
      this.#sizes.set(key, key.length + value.length);
      this.#totalSize += key.length + value.length;
      if (isUsed(key)) this.#used.set(key, Buffer.from(value));
    });
    if (this.#totalSize > MAX_GLOBAL_BYTES) throw new TarError(`global headers of more than ${MAX_GLOBAL_BYTES} bytes`);
    if (this.#used.size > MAX_GLOBAL_VALUES)
      throw new TarError(`global headers with more than ${MAX_GLOBAL_VALUES} values`);
  }

  /**
   * An entry's values: the global ones, replaced by its own. An empty value restores the ustar header's field; only an
   * extended attribute may be empty.
   */
  with(own: Pax | undefined): Pax {
    if (!own) return this.#used;
    const merged = new Map([...this.#used, ...own]);
    for (const [key, value] of own) if (value.length === 0 && !key.startsWith(XATTR_PREFIX)) merged.delete(key);
    return merged;
  }
}

/**
 * Calls `take` for each record, `LENGTH KEY=VALUE\n`, where the length counts the whole record. Byte by byte, because
 * calls into Buffer's native methods cost more than a short record's scan.
 * @throws TarError
 */
function eachRecord(body: Buffer, take: (keyStart: number, keyEnd: number, valueEnd: number) => void): void {
  for (let at = 0; at < body.length;) {
    let length = 0;
    let space = at;
    for (; space < body.length && body[space] !== SPACE; space++) {
      const digit = body[space]! - 0x30;
      if (digit < 0 || digit > 9 || space - at >= MAX_LENGTH_DIGITS) throw new TarError('invalid pax header');
      length = length * 10 + digit;
    }
    const end = at + length;
    if (space === at || end <= space || end > body.length || body[end - 1] !== NEWLINE)
      throw new TarError('invalid pax header');
    let equals = space + 1;
    for (; equals < end && body[equals] !== EQUALS; equals++)
      if (body[equals] === 0) throw new TarError('invalid pax header');
    if (equals === end || equals === space + 1) throw new TarError('invalid pax header');
    take(space + 1, equals, end - 1);
    at = end;
  }
}
