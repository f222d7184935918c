/** Reads a journal file piece by piece: what was read once is not read again. */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { parseJournal, type ParsedJournal } from '../../../protocol/journal-format.ts';
import { isShortage } from '../../shims/shortage.ts';

const NOTHING: Pick<ParsedJournal, 'snapshot' | 'records'> = { snapshot: null, records: [] };

export class JournalReader {
  /** A compacted journal is another file. */
  #inode = 0;
  /** Bytes that were read. */
  #read = 0;
  /** Inode and size when last looked at. */
  #version = '';

  constructor(private readonly path: string) {}

  /** Whether the file has changed since the last call. */
  hasChanged(): boolean {
    const file = statSync(this.path, { throwIfNoEntry: false });
    const version = file ? `${file.ino}:${file.size}` : '';
    const changed = version !== this.#version;
    this.#version = version;
    return changed;
  }

  /** Bytes. */
  size = (): number => statSync(this.path, { throwIfNoEntry: false })?.size ?? 0;

  /**
   * What was appended since the last call; all of it after a compaction or rewind().
   * @throws Error EMFILE, ENFILE: a file that cannot be read for another reason counts as empty
   */
  read(): Pick<ParsedJournal, 'snapshot' | 'records'> {
    try {
      const { snapshot, records, whole } = parseJournal(this.#readNew());
      this.#read += whole;
      return { snapshot, records };
    } catch (error) {
      if (isShortage(error)) throw error;
      return NOTHING;
    }
  }

  /** What was read could not be kept: read() starts at the beginning again. */
  rewind(): void {
    this.#read = 0;
    this.#version = '';
  }

  #readNew(): Buffer {
    const fd = openSync(this.path, 'r');
    try {
      const { ino, size } = fstatSync(fd);
      if (ino !== this.#inode || size < this.#read) this.#read = 0;
      this.#inode = ino;
      const bytes = Buffer.allocUnsafe(size - this.#read);
      let length = 0;
      while (length < bytes.length) {
        const n = readSync(fd, bytes, length, bytes.length - length, this.#read + length);
        if (n === 0) break;
        length += n;
      }
      return bytes.subarray(0, length);
    } finally {
      closeSync(fd);
    }
  }
}
