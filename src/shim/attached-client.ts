/** One attached client: its connection, and what it still has to get. */
import { Socket } from 'node:net';
import { frame, Stream, type OutputStream } from '../protocol/frames.ts';
import type { AttachOptions } from '../protocol/messages.ts';
import { ClientInput } from './client-input.ts';
import type { Client } from './clients.ts';
import { currentFile, LogCursor, LogGone } from './log/cursor.ts';
import type { Mark } from './log/writer.ts';
import { Patience } from './stall-detector.ts';
import type { Output, Stdio } from './stdio.ts';

/** Output that a client may have in memory; beyond, it is fed from the log, or else the output waits. */
const MEMORY_BYTES = 1 << 20;
/**
 * docker-py loses what arrives together with the head (api-wire.md 61), so the client gets a moment to read it alone.
 */
const HEAD_ALONE_MS = 5;
/** After our end a client has this long to close its own, lest a close with unread input becomes a reset. */
const LINGER_MS = 1000;

const EMPTY = Buffer.alloc(0);
const NO_HELD = { 1: EMPTY, 2: EMPTY } as const;
const STREAMS = [Stream.stdout, Stream.stderr] as const;

/** Copies of one chunk, made at most once for all clients: a socket keeps them until the kernel has taken them. */
export class Copies {
  #framed?: Buffer;
  #raw?: Buffer;

  constructor(readonly output: Output) {}

  framed = (): Buffer => (this.#framed ??= frame(this.output.stream, this.output.chunk));
  raw = (): Buffer => (this.#raw ??= Buffer.from(this.output.chunk));
}

/** The end of a backlog; without an offset, of the file as it is. */
type End = Omit<Mark, 'offset'> & { offset?: number };

/** What a client gets from the log instead of from memory. Nothing in it is sent twice, and nothing left out. */
interface Backlog {
  cursor: LogCursor;
  /** Bytes at each stream's beginning that the client has already: they were in no file yet when it got them. */
  skip: Record<OutputStream, number>;
  /** Where live output, in `after`, takes over; null = still following the log. */
  end: End | null;
}

export interface Owner {
  /** The log of a container that is not running. */
  logPath(): string | null;
  detached(): void;
  gone(client: AttachedClient): void;
}

export class AttachedClient {
  readonly #socket: Socket;
  readonly #o: AttachOptions;
  readonly #owner: Owner;
  readonly #input: ClientInput;
  readonly #patience: Patience;
  #stdio: Stdio | null = null;
  #headAlone: boolean;
  #backlog: Backlog | null = null;
  /** Live output that comes behind the backlog. */
  #after: Buffer[] = [];
  #afterBytes = 0;
  #finishing = false;
  #pumping = false;

  constructor({ fd, head, early }: Client, options: AttachOptions, owner: Owner) {
    this.#o = options;
    this.#owner = owner;
    this.#socket = new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
    this.#socket.on('error', () => {}); // 'close' follows
    this.#socket.on('close', () => this.#closed());
    this.#headAlone = head.length > 0;
    if (this.#headAlone) this.#writeHead(head);
    this.#patience = new Patience(this.#socket);
    this.#input = new ClientInput(this.#socket, early, options, {
      detached: () => this.#detached(),
      left: () => this.finish(),
    });
  }

  /** Begins, with the process if there is one already. */
  begin(stdio: Stdio | null): void {
    if (stdio) this.bind(stdio);
    if (this.#o.logs) this.#replay();
    if (!this.#o.stream && !this.#backlog) this.finish();
  }

  /** From now on this process's streams are the client's. */
  bind(stdio: Stdio): void {
    this.#stdio = stdio;
    this.#input.bind(stdio);
  }

  /** A chunk that the process has just written. */
  deliver(copies: Copies): void {
    const { stream, before, faithful } = copies.output;
    if (!this.#o.stream || this.#finishing || !this.#wants(stream)) return;
    // The log does not hold this chunk as it is: up to here the client is fed from there, then from memory.
    if (this.#backlog && !this.#backlog.end && !faithful) this.#backlog.end = before;
    if (this.#backlog && !this.#backlog.end) return;
    const bytes = this.#o.framed ? copies.framed() : copies.raw();
    if (this.#backlog) {
      this.#after.push(bytes);
      this.#afterBytes += bytes.length;
    } else if (this.#inMemory() > MEMORY_BYTES && faithful) {
      return this.#fallBehind(before!);
    } else {
      this.#write(bytes);
    }
    // What the log holds need not wait: with the next chunk the client falls behind, into it.
    if (!faithful && this.#inMemory() > MEMORY_BYTES) this.#stdio?.hold(this);
  }

  /** Sends what is left, then ends the stream. A client that takes nothing of it is dropped as any slow one. */
  finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    if (this.#backlog && !this.#backlog.end) this.#backlog.end = this.#logEnd();
    this.#stdio?.release(this);
    this.#input.stop();
    if (!this.#backlog) this.#end();
  }

  /** Says something of the engine's own, as if on stdout. */
  say(text: Buffer): void {
    if (!this.#finishing) this.#write(this.#o.framed ? frame(Stream.stdout, text) : text);
  }

  /** Ends the connection at once. */
  drop(): void {
    this.#socket.destroy();
  }

  /** Drops a client that has accepted no byte for `slowClientMs`. */
  check(now: number, slowClientMs: number): void {
    if (this.#patience.isExhausted(now, slowClientMs)) this.drop();
  }

  #wants = (stream: OutputStream): boolean => (stream === Stream.stdout ? this.#o.stdout : this.#o.stderr);

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
    this.#patience.wrote();
    if (this.#inMemory() > MEMORY_BYTES / 2) return;
    this.#stdio?.release(this);
    this.#pump();
  };

  /** The client is too slow for memory: it goes on in the log, at the chunk that was just written there. */
  #fallBehind(from: Mark): void {
    const log = this.#stdio!.log!;
    const cursor = openLog(() => LogCursor.at(log.path!, from, (file) => log.next(file)));
    if (!cursor) return this.drop();
    this.#backlog = { cursor, skip: { 1: from.held[1].length, 2: from.held[2].length }, end: null };
  }

  #replay(): void {
    const log = this.#stdio?.log;
    const path = this.#stdio ? (log?.path ?? null) : this.#owner.logPath();
    if (path === null) {
      this.say(Buffer.from('Error attaching: configured logging driver does not support reading\n'));
      return this.finish();
    }
    const cursor = openLog(() => LogCursor.oldest(path, (file) => log?.next(file)));
    if (!cursor) return;
    this.#backlog = { cursor, skip: { 1: 0, 2: 0 }, end: this.#o.stream && log ? null : this.#logEnd() };
    this.#pump();
  }

  #logEnd(): End {
    const mark = this.#stdio?.log?.mark();
    if (mark) return mark;
    const path = this.#stdio?.log?.path ?? this.#owner.logPath();
    return { file: (path && currentFile(path)) || 0, held: NO_HELD };
  }

  /** Feeds from the log, one piece a turn. */
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
      return this.drop(); // rather than a gap that nobody sees
    }
    if (!entries) return this.#caughtUp(backlog, end);
    for (const { stream, output } of entries) this.#writeBehind(backlog, stream, output);
    this.#pump();
  }

  #caughtUp(backlog: Backlog, end: End): void {
    for (const stream of STREAMS) this.#writeBehind(backlog, stream, end.held[stream]);
    backlog.cursor.close();
    this.#backlog = null;
    for (const bytes of this.#after) this.#write(bytes);
    this.#after = [];
    this.#afterBytes = 0;
    if (this.#finishing) this.#end();
    else if (!this.#o.stream) this.finish(); // nothing live follows
  }

  #writeBehind({ skip }: Backlog, stream: OutputStream, output: Buffer): void {
    const skipped = Math.min(skip[stream], output.length);
    skip[stream] -= skipped;
    if (skipped === output.length || !this.#wants(stream)) return;
    const rest = output.subarray(skipped);
    this.#write(this.#o.framed ? frame(stream, rest) : rest);
  }

  #end(): void {
    if (this.#headAlone || this.#socket.writableEnded) return; // the head's own turn comes here again
    this.#socket.end(() => setTimeout(() => this.#socket.destroy(), LINGER_MS).unref());
  }

  #closed(): void {
    this.#backlog?.cursor.close();
    this.#backlog = null;
    this.#after = [];
    this.#stdio?.release(this);
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
    return undefined; // rotated away in this very moment, or unreadable
  }
}
