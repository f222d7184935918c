/** One attached client: its connection and the output that it has still to receive. */
import type { Socket } from 'node:net';
import { frame, Stream, type OutputStream } from '../protocol/frames.ts';
import type { AttachOptions } from '../protocol/messages.ts';
import { ClientInput } from './client-input.ts';
import type { Client } from './clients.ts';
import { DetachKeys } from './detach-keys.ts';
import { currentFile, LogCursor, LogGone } from './log/cursor.ts';
import type { Mark } from './log/writer.ts';
import { StallDetector } from './stall-detector.ts';
import type { Output, Stdio } from './stdio.ts';

/** Output queued in memory for one client. Beyond, the client reads from the log, or else the output is paused. */
const MEMORY_BYTES = 1 << 20;
/** docker-py loses output that arrives in the same read as the head, so nothing follows the head for this long. */
const HEAD_ALONE_MS = 5;
/** After our FIN the client has this long to close: a close with unread input would become a reset. */
const LINGER_MS = 1000;

const EMPTY = Buffer.alloc(0);
const NO_HELD = { 1: EMPTY, 2: EMPTY } as const;
const STREAMS = [Stream.stdout, Stream.stderr] as const;

/** Copies of one chunk, made once for all clients: a socket keeps a reference until the kernel has taken the bytes. */
export class Copies {
  #framed?: Buffer;
  #raw?: Buffer;

  constructor(readonly output: Output) {}

  framed = (): Buffer => (this.#framed ??= frame(this.output.stream, this.output.chunk));
  raw = (): Buffer => (this.#raw ??= Buffer.from(this.output.chunk));
}

/** Where a backlog ends; without an offset, at the end of the file. */
type End = Omit<Mark, 'offset'> & { offset?: number };

/** What a client receives from the log instead of from memory: every byte once. */
interface Backlog {
  cursor: LogCursor;
  /** Bytes at each stream's start that the client has received already, when they were in no file yet. */
  skip: Record<OutputStream, number>;
  /** Where the live output in `#after` continues; null = the client still follows the log. */
  end: End | null;
}

/** What a client reports to its sessions. */
export interface Owner {
  /** The log of a container that is not running; null = none that can be read, undefined = it never ran. */
  logPath(): string | null | undefined;
  /** The client has typed its detach keys. */
  detached(): void;
  /** The connection is closed. */
  gone(client: AttachedClient): void;
}

export class AttachedClient {
  readonly #socket: Socket;
  readonly #options: AttachOptions;
  readonly #owner: Owner;
  readonly #input: ClientInput;
  readonly #stall: StallDetector;
  #stdio: Stdio | null = null;
  #headAlone: boolean;
  #backlog: Backlog | null = null;
  /** Live output to send after the backlog. */
  #after: Buffer[] = [];
  #afterBytes = 0;
  #finishing = false;
  #pumping = false;

  /** Opens the client. @throws Error */
  constructor(client: Client, options: AttachOptions, owner: Owner) {
    this.#options = options;
    this.#owner = owner;
    // May throw, so it comes before open().
    const keys = new DetachKeys(options.detachKeys);
    this.#socket = client.open();
    this.#socket.on('error', () => {}); // 'close' follows.
    this.#socket.on('close', () => this.#closed());
    this.#headAlone = client.head.length > 0;
    if (this.#headAlone) this.#writeHead(client.head);
    this.#stall = new StallDetector(this.#socket);
    this.#input = new ClientInput(this.#socket, client.early, {
      keys,
      options,
      onDetached: () => this.#detached(),
      onLeft: () => this.finish(),
    });
  }

  /** Starts serving; `stdio` is null while there is no process. */
  start(stdio: Stdio | null): void {
    if (stdio) this.bind(stdio);
    if (this.#options.logs) this.#replay();
    if (!this.#options.stream && !this.#backlog) this.finish();
  }

  /** Connects the client to a process's streams. */
  bind(stdio: Stdio): void {
    this.#stdio = stdio;
    this.#input.bind(stdio);
  }

  /** Sends a chunk that the process has just written. */
  deliver(copies: Copies): void {
    const { stream, before, faithful } = copies.output;
    if (!this.#options.stream || this.#finishing || !this.#wants(stream)) return;
    // The log does not contain this chunk byte for byte: the client reads the log up to here, then from memory.
    if (this.#backlog && !this.#backlog.end && !faithful) this.#backlog.end = before;
    if (this.#backlog && !this.#backlog.end) return;
    const bytes = this.#options.framed ? copies.framed() : copies.raw();
    if (this.#backlog) {
      this.#after.push(bytes);
      this.#afterBytes += bytes.length;
    } else if (this.#inMemory() > MEMORY_BYTES && faithful) {
      return this.#fallBehind(before!);
    } else {
      this.#write(bytes);
    }
    // A faithful log needs no pause: the next chunk moves the client to the log.
    if (!faithful && this.#inMemory() > MEMORY_BYTES) this.#stdio?.pauseOutput(this);
  }

  /** Sends what is left, then ends the stream. A client that does not read it is dropped like any slow client. */
  finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    if (this.#backlog && !this.#backlog.end) this.#backlog.end = this.#logEnd();
    this.#stdio?.resumeOutput(this);
    this.#input.stop();
    if (!this.#backlog) this.#end();
  }

  /** Sends a text of the engine, as if on stdout. */
  say(text: Buffer): void {
    if (!this.#finishing) this.#write(this.#options.framed ? frame(Stream.stdout, text) : text);
  }

  /** Closes the connection at once. */
  drop(): void {
    this.#socket.destroy();
  }

  /** Drops the client when it has accepted no byte for `slowClientMs`. `now` is a performance.now(). */
  dropIfStalled(now: number, slowClientMs: number): void {
    if (this.#stall.isStalled(now, slowClientMs)) this.drop();
  }

  #wants = (stream: OutputStream): boolean => (stream === Stream.stdout ? this.#options.stdout : this.#options.stderr);

  #inMemory = (): number => this.#socket.writableLength + this.#afterBytes;

  #writeHead(head: Buffer): void {
    this.#socket.write(head, () =>
      setTimeout(() => {
        this.#headAlone = false;
        this.#socket.uncork();
        if (this.#finishing && !this.#backlog) this.#end();
      }, HEAD_ALONE_MS),
    );
    this.#socket.cork();
  }

  #write(bytes: Buffer): void {
    this.#socket.write(bytes, this.#written);
  }

  #written = (): void => {
    this.#stall.onWritten();
    if (this.#inMemory() > MEMORY_BYTES / 2) return;
    this.#stdio?.resumeOutput(this);
    this.#pump();
  };

  /** Too much output is in memory: the client continues in the log, at the chunk that was just written there. */
  #fallBehind(from: Mark): void {
    const log = this.#stdio!.log!;
    const cursor = openLog(() => LogCursor.at(log.path!, from, (file) => log.next(file)));
    if (!cursor) return this.drop();
    this.#backlog = { cursor, skip: { 1: from.held[1].length, 2: from.held[2].length }, end: null };
  }

  #replay(): void {
    const log = this.#stdio?.log;
    const path = this.#stdio ? (log?.path ?? null) : this.#owner.logPath();
    if (path === null || this.#options.logUnreadable) {
      this.say(Buffer.from('Error attaching: configured logging driver does not support reading\n'));
      return this.finish();
    }
    if (path === undefined) return;
    const cursor = openLog(() => LogCursor.oldest(path, (file) => log?.next(file)));
    if (!cursor) return;
    this.#backlog = { cursor, skip: { 1: 0, 2: 0 }, end: this.#options.stream && log ? null : this.#logEnd() };
    this.#pump();
  }

  #logEnd(): End {
    const mark = this.#stdio?.log?.mark();
    if (mark) return mark;
    const path = this.#stdio?.log?.path ?? this.#owner.logPath();
    return { file: (path && currentFile(path)) || 0, held: NO_HELD };
  }

  /** Sends from the log, one chunk per turn of the event loop. */
  #pump(): void {
    if (!this.#backlog || this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      if (this.#backlog && !this.#socket.destroyed && this.#socket.writableLength <= MEMORY_BYTES / 2)
        this.#feed(this.#backlog);
    });
  }

  #feed(backlog: Backlog): void {
    const end = backlog.end ?? this.#logEnd();
    let entries;
    try {
      entries = backlog.cursor.read(end);
    } catch (error) {
      if (!(error instanceof LogGone)) throw error;
      return this.drop(); // A disconnect is better than an unnoticed gap.
    }
    if (!entries) return this.#caughtUp(backlog, end);
    for (const { stream, output } of entries) this.#writeFromLog(backlog, stream, output);
    this.#pump();
  }

  #caughtUp(backlog: Backlog, end: End): void {
    for (const stream of STREAMS) this.#writeFromLog(backlog, stream, end.held[stream]);
    backlog.cursor.close();
    this.#backlog = null;
    for (const bytes of this.#after) this.#write(bytes);
    this.#after = [];
    this.#afterBytes = 0;
    if (this.#finishing) this.#end();
    else if (!this.#options.stream) this.finish();
  }

  #writeFromLog({ skip }: Backlog, stream: OutputStream, output: Buffer): void {
    const skipped = Math.min(skip[stream], output.length);
    skip[stream] -= skipped;
    if (skipped === output.length || !this.#wants(stream)) return;
    const rest = output.subarray(skipped);
    this.#write(this.#options.framed ? frame(stream, rest) : rest);
  }

  #end(): void {
    if (this.#headAlone || this.#socket.writableEnded) return; // #writeHead() calls this again.
    this.#socket.end(() => setTimeout(() => this.#socket.destroy(), LINGER_MS).unref());
  }

  #closed(): void {
    this.#backlog?.cursor.close();
    this.#backlog = null;
    this.#after = [];
    this.#stdio?.resumeOutput(this);
    this.#input.closed();
    this.#finishing = true;
    this.#owner.gone(this);
  }

  #detached(): void {
    this.#owner.detached();
    this.finish();
  }
}

function openLog(open: () => LogCursor | undefined): LogCursor | undefined {
  try {
    return open();
  } catch {
    return undefined; // Just rotated away, or unreadable.
  }
}
