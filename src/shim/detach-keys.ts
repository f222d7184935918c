/** Finds the detach sequence in the input of a client with a terminal. */

export interface Screened {
  /** Input for the process. */
  pass: Buffer;
  /** The sequence is complete: the client detaches, and the input after the sequence is dropped. */
  detached: boolean;
}

/**
 * Holds a started sequence back until it is complete or broken; a broken one is passed on whole. The byte that breaks
 * it does not start a new one (moby/term proxy.go): ctrl-p pressed twice sends ctrl-p twice.
 */
export class DetachKeys {
  readonly #keys: Buffer;
  #matched = 0;

  constructor(keys: readonly number[]) {
    this.#keys = Buffer.from(keys);
  }

  screen(input: Buffer): Screened {
    const keys = this.#keys;
    if (keys.length === 0) return { pass: input, detached: false };
    if (this.#matched === 0 && input.indexOf(keys[0]!) < 0) return { pass: input, detached: false };
    const pass = Buffer.allocUnsafe(keys.length + input.length);
    let length = 0;
    for (const byte of input) {
      if (byte === keys[this.#matched]) {
        if (++this.#matched < keys.length) continue;
        this.#matched = 0;
        return { pass: pass.subarray(0, length), detached: true };
      }
      length += keys.copy(pass, length, 0, this.#matched);
      this.#matched = 0;
      pass[length++] = byte;
    }
    return { pass: pass.subarray(0, length), detached: false };
  }

  /** The input has ended: returns what was held back. */
  end(): Buffer {
    const held = this.#keys.subarray(0, this.#matched);
    this.#matched = 0;
    return held;
  }
}
