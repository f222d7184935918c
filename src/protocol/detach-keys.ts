/** The text form of a detach key sequence: `ctrl-p,ctrl-q`, `a,DEL`, `ctrl-[` (api-wire.md 67). */

/** ctrl-p, ctrl-q. */
const DEFAULT_DETACH_KEYS: readonly number[] = [16, 17];

const DELETE = 127;
// ctrl-@ is 0, ctrl-a 1 … ctrl-_ 31.
const CONTROLS = '@abcdefghijklmnopqrstuvwxyz[\\]^_';

/** Worded as attach says it; exec create says "Invalid escape keys (…) provided" of the same `keys`. */
export class InvalidDetachKeys extends Error {
  constructor(readonly keys: string) {
    super(`Invalid detach keys (${keys}) provided`);
    this.name = 'InvalidDetachKeys';
  }
}

/** The bytes that `text` names; an empty text means the default.
 *  @throws InvalidDetachKeys */
export function parseDetachKeys(text: string): number[] {
  if (text === '') return [...DEFAULT_DETACH_KEYS];
  return text.split(',').map((key) => {
    if (Buffer.byteLength(key) === 1) return key.charCodeAt(0);
    if (key === 'DEL') return DELETE;
    const control = key.length === 6 && key.startsWith('ctrl-') ? CONTROLS.indexOf(key.charAt(5)) : -1;
    if (control < 0) throw new InvalidDetachKeys(text);
    return control;
  });
}
