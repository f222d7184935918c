/** The shim's two sockets, `ctl` for requests as JSON lines and `fd` for clients' descriptors, and its bell. */
import { chmodSync } from 'node:fs';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { LineSplitter } from '../protocol/lines.ts';
import {
  PROTOCOL_VERSION,
  type Answers,
  type Doorbell,
  type HandedClient,
  type Hello,
  type Op,
  type Refusal,
  type Reply,
  type Request,
} from '../protocol/messages.ts';
import { BELL_FILE, CTL_SOCKET, FD_SOCKET } from '../protocol/paths.ts';
import { faultPoint } from '../sys/fault.ts';
import { removeFile } from '../sys/file.ts';
import { listenUnix, peerOf } from '../sys/socket.ts';
import { VERSION } from '../version.ts';
import { Bell } from './bell.ts';
import { Clients, type Client } from './clients.ts';
import type { Container } from './container.ts';
import type { Journal } from './journal.ts';
import { Refused } from './refused.ts';
import type { LogError } from './shim-log.ts';

export interface ServerDeps {
  id: string;
  container: Container;
  journal: Journal;
  /** Hash of the bundle that this shim runs from. */
  bundle: string;
  /** The container was removed, or the daemon does not need the shim any more. */
  onRelease: () => void;
  logError: LogError;
}

const BACKLOG = 512;
/** A connection that sends a longer line is dropped. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const NOTHING = {};

type Handler<O extends Op> = (request: Extract<Request, { op: O }>) => Answers[O] | Promise<Answers[O]>;

export class Server {
  #net: NetServer | null = null;
  #clients: Clients | null = null;
  #bell: Bell | null = null;
  readonly #connections = new Set<Socket>();
  #pending = 0;
  #ringing = false;
  #connectedAt = 0;

  constructor(private readonly deps: ServerDeps) {}

  /** When the last connection was accepted, ms since the epoch; 0 = never. */
  get connectedAt(): number {
    return this.#connectedAt;
  }

  /** Requests that are not answered yet. */
  get pending(): number {
    return this.#pending;
  }

  /** Listens on both sockets in `directory`. Resolves when they accept connections. */
  async listen(directory: string): Promise<void> {
    const [ctl, fd] = [join(directory, CTL_SOCKET), join(directory, FD_SOCKET)];
    // This shim holds the container's lock, so existing sockets are a dead shim's.
    removeFile(ctl);
    removeFile(fd);
    const mask = process.umask(0o177);
    try {
      this.#clients = new Clients(listenUnix(fd, BACKLOG), isTrusted);
      this.#net = createServer((socket) => this.#accept(socket));
      const listening = new Promise<void>((resolve, reject) =>
        this.#net!.once('listening', resolve).once('error', reject),
      );
      this.#net.listen({ path: ctl, backlog: BACKLOG });
      await listening;
    } finally {
      process.umask(mask);
    }
    chmodSync(ctl, 0o600);
    this.#bell = new Bell(join(directory, BELL_FILE), this.deps.journal.seq, this.deps.logError);
  }

  /** Tells every daemon that the journal has grown, at most once per turn of the event loop. */
  ring(): void {
    if (this.#ringing) return;
    this.#ringing = true;
    setImmediate(() => {
      this.#ringing = false;
      const { seq } = this.deps.journal;
      this.#bell?.ring(seq);
      const bell: Doorbell = { ring: seq };
      const line = `${JSON.stringify(bell)}\n`;
      for (const connection of this.#connections) connection.write(line);
    });
  }

  /** Removes bell and sockets from `directory` and closes every connection. */
  close(directory: string): void {
    removeFile(join(directory, CTL_SOCKET));
    removeFile(join(directory, FD_SOCKET));
    this.#bell?.close();
    this.#bell = null;
    this.#net?.close();
    this.#clients?.close();
    this.#clients = null; // The connections' 'close' events come later.
    for (const connection of this.#connections) connection.destroy();
  }

  #accept(socket: Socket): void {
    if (!isTrusted(peerOf(handleOf(socket)).uid)) return void socket.destroy();
    this.#connections.add(socket);
    this.#connectedAt = Date.now();
    this.#connectionsChanged();
    const splitter = new LineSplitter();
    socket.on('data', (chunk: Buffer) => {
      for (const line of splitter.push(chunk)) void this.#take(socket, line);
      if (splitter.partialBytes > MAX_LINE_BYTES) socket.destroy();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#connections.delete(socket);
      if (this.#connections.size === 0) this.#clients?.dropUnclaimed();
      this.#connectionsChanged();
    });
  }

  #connectionsChanged(): void {
    this.deps.container.setDaemonConnected(this.#connections.size > 0);
  }

  async #take(socket: Socket, line: string): Promise<void> {
    let request: Request & { id: number };
    try {
      request = JSON.parse(line) as Request & { id: number };
    } catch {
      return void socket.destroy();
    }
    this.#pending++;
    const reply = await this.#reply(request);
    this.#pending--;
    faultPoint('answer.before', request.op);
    if (socket.destroyed) return;
    socket.write(`${JSON.stringify(reply)}\n`);
    faultPoint('answer.after', request.op);
  }

  async #reply(request: Request & { id: number }): Promise<Reply> {
    const handler = this.#handlers[request.op] as ((request: Request) => unknown) | undefined;
    try {
      if (!handler) throw new Refused('invalid', `this shim does not know the operation ${request.op}`);
      return { id: request.id, result: await handler(request) };
    } catch (error) {
      if (!(error instanceof Refused)) this.deps.logError(request.op, error);
      return { id: request.id, error: refusal(error) };
    }
  }

  readonly #handlers: { [O in Op]: Handler<O> } = {
    hello: () => this.#hello(),
    since: ({ seq, limit }) => this.deps.journal.since(seq, limit),
    committed: ({ seq }) => {
      this.deps.journal.committed(seq);
      return NOTHING;
    },
    create: ({ operation }) => this.deps.container.create(operation),
    start: ({ operation }) => this.deps.container.start(operation),
    abandon: ({ operation, error, code }) => done(this.deps.container.abandon(operation, { message: error, code })),
    signal: ({ operation, signal, asUser }) => done(this.deps.container.signal(operation, signal, { asUser })),
    stop: ({ operation, signal, timeout }) => done(this.deps.container.stop(operation, signal, timeout)),
    restart: ({ operation, signal, timeout }) => done(this.deps.container.restart(operation, signal, timeout)),
    pause: () => done(this.deps.container.pause()),
    resume: () => done(this.deps.container.resume()),
    update: ({ restart }) => {
      this.deps.container.update(restart);
      return NOTHING;
    },
    resize: ({ height, width }) => {
      this.deps.container.resize(height, width);
      return NOTHING;
    },
    attach: ({ client: handed, options }) => {
      using client = this.#claim(handed);
      this.deps.container.attach(client, options);
      return NOTHING;
    },
    wait: ({ client: handed, condition }) => {
      using client = this.#claim(handed);
      this.deps.container.wait(client, condition);
      return NOTHING;
    },
    exec: async ({ exec, client: handed, options }) => {
      using client = handed && options ? this.#claim(handed) : null;
      const attached = client && options ? { client, options } : null;
      return { pid: await this.deps.container.exec(exec, attached) };
    },
    'exec-resize': ({ exec, height, width }) => done(this.deps.container.resizeExec(exec, height, width)),
    removed: () => {
      this.deps.container.removed();
      this.deps.onRelease();
      return NOTHING;
    },
    release: () => {
      const { id, container } = this.deps;
      if (container.phase !== 'idle') throw new Refused('conflict', `container ${id} is ${container.phase}`);
      this.deps.onRelease();
      return NOTHING;
    },
  };

  #hello(): Hello {
    const { id, bundle, journal } = this.deps;
    return {
      protocol: PROTOCOL_VERSION,
      version: VERSION,
      bundle,
      pid: process.pid,
      container: id,
      seq: journal.seq,
      state: journal.state,
    };
  }

  /** @throws Refused */
  #claim(handed: HandedClient): Client {
    const client = this.#clients!.claim(handed);
    if (!client) throw new Refused('invalid', `no connection was handed over under the token ${handed.token}`);
    return client;
  }
}

const done = (work: Promise<unknown>): Promise<Record<string, never>> => work.then(() => NOTHING);

const isTrusted = (uid: number): boolean => uid === 0 || uid === process.getuid!();

const handleOf = (socket: Socket): number => (socket as unknown as { _handle: { fd: number } })._handle.fd;

function refusal(error: unknown): Refusal {
  if (!(error instanceof Refused))
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  const { kind, message, code } = error;
  return code === undefined ? { kind, message } : { kind, message, code };
}
