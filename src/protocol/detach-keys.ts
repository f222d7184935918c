/** The text form of a detach key sequence: `ctrl-p,ctrl-q`, `a,DEL`, `ctrl-[` (moby/term ascii.go). */

/** ctrl-p, ctrl-q. */
const DEFAULT_DETACH_KEYS: readonly number[] = [16, 17];

const DELETE = 127;
// ctrl-@ is 0, ctrl-a 1 … ctrl-_ 31.
const CONTROLS = '@abcdefghijklmnopqrstuvwxyz[\\]^_';

/** With attach's text; exec create answers "Invalid escape keys (…) provided" with the same `keys`. */
export class InvalidDetachKeys extends Error {
  constructor(readonly keys: string) {
    super(`Invalid detach keys (${keys}) provided`);
    this.name = 'InvalidDetachKeys';
  }
}

/** The bytes that `text` stands for; '' stands for the default sequence. @throws InvalidDetachKeys */
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
