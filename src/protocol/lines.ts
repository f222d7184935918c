/** Newline-delimited JSON, the format between daemon and shim: splits a byte stream into lines. */

const NEWLINE = 0x0a;

export class LineSplitter {
  #partial: Buffer[] = [];
  #partialBytes = 0;

  /** Size of the line that is not complete yet. The stream's reader bounds it. */
  get partialBytes(): number {
    return this.#partialBytes;
  }

  /** Returns the lines that `chunk` completes, without their newlines. Keeps a reference to the rest of `chunk`. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      lines.push(this.#complete(chunk.subarray(from, end)));
      from = end + 1;
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
    return lines;
  }

  // Decoded as a whole line: a UTF-8 character may be split between two chunks.
  #complete(end: Buffer): string {
    if (this.#partialBytes === 0) return end.toString();
    const line = Buffer.concat([...this.#partial, end]).toString();
    this.#partial = [];
    this.#partialBytes = 0;
    return line;
  }

  #keep(bytes: Buffer): void {
    this.#partial.push(bytes);
    this.#partialBytes += bytes.length;
  }
}
