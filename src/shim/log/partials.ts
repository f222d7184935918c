/**
 * `${log}.partial`: the output after the last newline, saved so that the line is not torn when the shim is killed. One
 * JSON line; bytes after it are the rest of an older, longer one.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { faultPoint } from '../../sys/fault.ts';

/** A held line is saved after this long. Under steady output none is held that long. */
export const SAVE_AFTER_MS = 50;

export interface Partial {
  stream: 1 | 2;
  text: Buffer;
  splitAt: string;
}

export interface Partials {
  /** Inode and size, in bytes, of the log at that time: what was appended since may contain these lines. */
  file: number;
  size: number;
  held: Partial[];
}

export class PartialFile {
  #fd = -1;
  #empty = true;

  constructor(private readonly path: string) {}

  load(): Partials | undefined {
    try {
      const line = readFileSync(this.path, 'latin1').split('\n', 1)[0]!;
      if (line === '') return undefined;
      this.#empty = false;
      const saved = JSON.parse(line) as {
        file: number;
        size: number;
        held: { stream: 1 | 2; text: string; splitAt: string }[];
      };
      return {
        file: saved.file,
        size: saved.size,
        held: saved.held.map((h) => ({ ...h, text: Buffer.from(h.text, 'base64') })),
      };
    } catch {
      return undefined; // Missing or torn: nothing to restore.
    }
  }

  save(partials: Partials): void {
    if (partials.held.length === 0) return this.clear();
    const held = partials.held.map((h) => ({ ...h, text: h.text.toString('base64') }));
    this.#write(`${JSON.stringify({ ...partials, held })}\n`);
    this.#empty = false;
  }

  clear(): void {
    if (this.#empty) return;
    this.#empty = true;
    try {
      if (this.#fd < 0) this.#open();
      ftruncateSync(this.#fd, 0);
      faultPoint('partial.cleared');
    } catch {
      // A stale file is recognized by the log's size.
    }
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #open(): void {
    this.#fd = openSync(this.path, 'r+');
  }

  #write(line: string): void {
    try {
      if (this.#fd < 0) this.#fd = openSync(this.path, 'w+', 0o600);
      writeSync(this.#fd, line, 0, 'latin1');
      faultPoint('partial.saved');
    } catch {
      // A full disk: the line stays in memory only.
    }
  }
}
