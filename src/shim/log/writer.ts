/** Writes and rotates the container's log file, in the tick in which the output is read. Never blocks the container. */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import type { OutputStream } from '../../protocol/frames.ts';
import { formatLogTime, parseLogLine } from '../../protocol/log-format.ts';
import type { LogSpec } from '../../protocol/spec.ts';
import { faultPoint } from '../../sys/fault.ts';
import { LogClock } from './clock.ts';
import { Encoder } from './encoder.ts';
import { PartialFile, SAVE_AFTER_MS } from './partials.ts';
import { existingFiles, renameFiles, type FileSpec } from './rotation.ts';

/** dockerd's mode. */
const LOG_MODE = 0o640;
const NEWLINE = 10;

/** A place in the log: output before it is in the files, `held` is in none yet. */
export interface Mark {
  /** Inode of the file. */
  file: number;
  offset: number;
  held: Readonly<Record<OutputStream, Buffer>>;
}

export interface Dropped {
  lines: number;
  bytes: number;
}

/**
 * No method throws or waits: what a full or broken disk refuses is dropped and counted. A line in the log reports the
 * loss once the log can be written again.
 */
export class LogWriter {
  readonly #spec: FileSpec | null;
  readonly #clock = new LogClock();
  readonly #encoder: Encoder;
  readonly #partials: PartialFile | null = null;
  #saveTimer: NodeJS.Timeout | null = null;
  #fd = -1;
  #file = 0;
  #size = 0;
  /** Inodes of the files written so far, oldest first. Only those that still have a name can be opened. */
  #files: number[] = [];
  #dropped: Dropped = { lines: 0, bytes: 0 };
  #reason = '';
  /** The file ends within a line that could not be removed. */
  #torn = false;
  #faithful = true;

  constructor(spec: LogSpec) {
    this.#spec = spec.driver === 'json-file' ? spec : null;
    this.#encoder = new Encoder(this.#spec?.attrs ?? {}, (bytes, entries, output) =>
      this.#append(bytes, entries, output),
    );
    if (!this.#spec) return;
    this.#partials = new PartialFile(`${this.#spec.path}.partial`);
    this.#files = existingFiles(this.#spec);
    this.#open();
    this.#restore();
  }

  /** null when there is no file that can be read back. */
  get path(): string | null {
    return this.#spec?.path ?? null;
  }

  /** What the disk has refused and the log does not report yet. */
  get dropped(): Dropped {
    return this.#dropped;
  }

  /** Whether the last write() can be read back byte for byte: all of it written, valid UTF-8, nothing in between. */
  get faithful(): boolean {
    return this.#faithful && this.#encoder.faithful;
  }

  write(stream: OutputStream, chunk: Buffer): void {
    if (!this.#spec || chunk.length === 0) return;
    this.#faithful = this.#fd >= 0;
    this.#encoder.faithful = true;
    this.#encoder.encode(stream, chunk, this.#now());
    this.#keepPartials();
  }

  /** The streams have ended: output after the last newline becomes an entry without a newline. */
  flush(): void {
    if (!this.#spec) return;
    for (const stream of [1, 2] as const) this.#encoder.flush(stream, this.#now());
    this.#keepPartials();
  }

  /** Closes the files; held output is saved for the next writer of this log. */
  close(): void {
    if (this.#saveTimer) this.#savePartials();
    this.#partials?.close();
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  /** Where the log ends now; null when it cannot be read back from here. */
  mark(): Mark | null {
    if (this.#fd < 0) return null;
    return {
      file: this.#file,
      offset: fstatSync(this.#fd).size,
      held: { 1: this.#encoder.held(1), 2: this.#encoder.held(2) },
    };
  }

  /** Inode of the file after `file`; undefined when it is not known. */
  next(file: number): number | undefined {
    const at = this.#files.indexOf(file);
    return at < 0 ? undefined : this.#files[at + 1];
  }

  #now = (): string => formatLogTime(this.#clock.now());

  #append(bytes: Buffer, entries: number, output: number): void {
    if ((this.#dropped.lines > 0 || this.#fd < 0) && !this.#resume()) return this.#drop(entries, output);
    let rest = bytes;
    while (rest.length > 0) {
      const piece = this.#piece(rest);
      const written = this.#write(piece);
      if (written < piece.length) return this.#dropRest(rest, written, entries, output, bytes);
      rest = rest.subarray(piece.length);
    }
  }

  /** The part of `lines` for the current file: through the entry that fills it. Rotates first when the file is full. */
  #piece(lines: Buffer): Buffer {
    const { maxSize } = this.#spec!;
    if (maxSize === 0) return lines;
    this.#size = fstatSync(this.#fd).size;
    if (this.#size >= maxSize && this.#rotate()) this.#size = 0;
    if (this.#size >= maxSize || this.#size + lines.length <= maxSize) return lines;
    return lines.subarray(0, lines.indexOf(NEWLINE, maxSize - this.#size - 1) + 1);
  }

  /** Returns how many bytes of `lines` were written; after a failure, whole lines only. */
  #write(lines: Buffer): number {
    let written = 0;
    try {
      if (this.#torn) {
        writeSync(this.#fd, '\n');
        this.#torn = false;
      }
      while (written < lines.length) written += writeSync(this.#fd, lines, written);
      faultPoint('log.written');
      return written;
    } catch (error) {
      this.#reason = (error as NodeJS.ErrnoException).code ?? String(error);
      const whole = written === 0 ? 0 : lines.lastIndexOf(NEWLINE, written - 1) + 1;
      if (whole < written) this.#removeTail(written - whole);
      return whole;
    }
  }

  #removeTail(bytes: number): void {
    try {
      ftruncateSync(this.#fd, fstatSync(this.#fd).size - bytes);
    } catch {
      this.#torn = true;
    }
  }

  #drop(lines: number, bytes: number): void {
    this.#faithful = false;
    this.#dropped = { lines: this.#dropped.lines + lines, bytes: this.#dropped.bytes + bytes };
  }

  #dropRest(rest: Buffer, written: number, entries: number, output: number, all: Buffer): void {
    if (written === 0 && rest === all) return this.#drop(entries, output);
    for (const line of rest.subarray(written).toString().split('\n')) {
      if (line) this.#drop(1, Buffer.byteLength(parseLogLine(line)?.log ?? ''));
    }
  }

  /** Reports in the log what was dropped. False when the disk still refuses. */
  #resume(): boolean {
    if (this.#fd < 0 && !this.#open()) return false;
    this.#faithful = false;
    const { lines, bytes } = this.#dropped;
    if (lines === 0) return true;
    const notice = this.#encoder.notice(
      `[holdfast] ${lines} lines (${bytes} bytes) of output were dropped: the log could not be written (${this.#reason})`,
      this.#now(),
    );
    if (this.#write(notice) < notice.length) return false;
    this.#dropped = { lines: 0, bytes: 0 };
    return true;
  }

  #open(): boolean {
    try {
      this.#fd = openSync(this.#spec!.path, 'a+', LOG_MODE);
    } catch (error) {
      this.#reason = (error as NodeJS.ErrnoException).code ?? String(error);
      return false;
    }
    const stat = fstatSync(this.#fd);
    this.#file = stat.ino;
    // The newest, even when an older, deleted file had the same inode number: file systems reuse them at once.
    if (this.#files.at(-1) !== stat.ino) this.#files = [...this.#files.filter((file) => file !== stat.ino), stat.ino];
    if (stat.size > 0) this.#torn = !endsInNewline(this.#fd, stat.size);
    return true;
  }

  /** path → path.1 → path.2 …; the oldest is deleted. Readers keep their open files. False when the disk refuses. */
  #rotate(): boolean {
    faultPoint('rotation.before');
    try {
      // Otherwise an earlier attempt has renamed it already.
      const hasItsName = statSync(this.#spec!.path, { throwIfNoEntry: false })?.ino === this.#file;
      if (hasItsName) renameFiles(this.#spec!);
    } catch (error) {
      this.#reason = (error as NodeJS.ErrnoException).code ?? String(error);
      return false;
    }
    const full = this.#fd;
    // When the new file cannot be created, the old one, under its new name, is written further.
    if (!this.#open()) return false;
    faultPoint('rotation.opened');
    closeSync(full);
    return true;
  }

  #keepPartials(): void {
    const held = this.#encoder.held(1).length + this.#encoder.held(2).length;
    if (held === 0) {
      if (this.#saveTimer) clearTimeout(this.#saveTimer);
      this.#saveTimer = null;
      this.#partials!.clear();
    } else {
      this.#saveTimer ??= setTimeout(() => this.#savePartials(), SAVE_AFTER_MS).unref();
    }
  }

  #savePartials(): void {
    if (this.#saveTimer) clearTimeout(this.#saveTimer);
    this.#saveTimer = null;
    const mark = this.mark();
    if (!mark) return;
    const held = ([1, 2] as const)
      .filter((stream) => mark.held[stream].length > 0)
      .map((stream) => ({ stream, text: mark.held[stream], splitAt: this.#encoder.splitAt(stream) }));
    this.#partials!.save({ file: mark.file, size: mark.offset, held });
  }

  /** Restores the lines that a previous writer held, except those that it wrote before it died. */
  #restore(): void {
    const saved = this.#partials!.load();
    if (saved?.file !== this.#file) return;
    const since = entriesFrom(this.#fd, saved.size);
    for (const { stream, text, splitAt } of saved.held) {
      if (!since.has(stream)) this.#encoder.restore(stream, text, splitAt);
    }
    this.#keepPartials();
  }
}

function endsInNewline(fd: number, size: number): boolean {
  const last = Buffer.alloc(1);
  try {
    // In mode 'a+', reads are positional and writes append.
    return readSync(fd, last, 0, 1, size - 1) === 1 && last[0] === NEWLINE;
  } catch {
    return true;
  }
}

/** The streams that have an entry after `offset`. */
function entriesFrom(fd: number, offset: number): Set<OutputStream> {
  const size = fstatSync(fd).size;
  const bytes = Buffer.alloc(Math.max(0, size - offset));
  readSync(fd, bytes, 0, bytes.length, offset);
  const lines = bytes.toString().split('\n');
  return new Set(
    lines.flatMap((line) => {
      const entry = line ? parseLogLine(line) : undefined;
      return entry ? [entry.stream === 'stderr' ? 2 : 1] : [];
    }),
  );
}
