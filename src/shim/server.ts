/** The shim's ears: JSON lines on `ctl`, clients' descriptors on `fd`. What the operations do is container.ts's. */
import { chmodSync, closeSync } from 'node:fs';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { join } from 'node:path';
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
import { CTL_SOCKET, FD_SOCKET } from '../protocol/paths.ts';
import { removeFile } from '../sys/file.ts';
import { listenUnix, peerOf } from '../sys/socket.ts';
import { VERSION } from '../version.ts';
import { Clients, type Client } from './clients.ts';
import type { Journal } from './journal.ts';
import { Refused } from './refused.ts';
import type { Container } from './container.ts';

export interface ServerOptions {
  id: string;
  container: Container;
  journal: Journal;
  /** The bundle that this shim runs from. */
  bundle: string;
  /** The container was removed, or the shim is not wanted any more. */
  onRelease: () => void;
  complain: (what: string, error: unknown) => void;
}

const BACKLOG = 512;
/** A line longer than this is no request. */
const MAX_LINE = 16 * 1024 * 1024;
const NEWLINE = 0x0a;
const NOTHING = {};

type Handler<O extends Op> = (request: Extract<Request, { op: O }>) => Answers[O] | Promise<Answers[O]>;

export class Server {
  #net: NetServer | null = null;
  #clients: Clients | null = null;
  #connections = new Set<Socket>();
  #pending = 0;
  #ringing = false;
  #connectedAt = 0;

  constructor(private readonly o: ServerOptions) {}

  get connections(): number {
    return this.#connections.size;
  }

  /** When somebody connected last; 0 = nobody ever has. */
  get connectedAt(): number {
    return this.#connectedAt;
  }

  /** Requests that are not answered yet. */
  get pending(): number {
    return this.#pending;
  }

  /** Resolves when both sockets can be connected to. */
  async listen(directory: string): Promise<void> {
    const [ctl, fd] = [join(directory, CTL_SOCKET), join(directory, FD_SOCKET)];
    // We hold the container's lock: whoever made these is dead.
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
  }

  /** Tells every connection that the journal has grown. Once a tick is enough. */
  ring(): void {
    if (this.#ringing) return;
    this.#ringing = true;
    setImmediate(() => {
      this.#ringing = false;
      const bell: Doorbell = { ring: this.o.journal.seq };
      const line = `${JSON.stringify(bell)}\n`;
      for (const connection of this.#connections) connection.write(line);
    });
  }

  /** Nobody can connect any more. */
  close(directory: string): void {
    removeFile(join(directory, CTL_SOCKET));
    removeFile(join(directory, FD_SOCKET));
    this.#net?.close();
    this.#clients?.close();
    for (const connection of this.#connections) connection.destroy();
  }

  #accept(socket: Socket): void {
    if (!isTrusted(peerOf(handleOf(socket)).uid)) return void socket.destroy();
    this.#connections.add(socket);
    this.#connectedAt = Date.now();
    this.o.container.daemonChanged();
    let rest: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let end: number;
      while ((end = rest.indexOf(NEWLINE)) >= 0) {
        void this.#take(socket, rest.toString('utf8', 0, end));
        rest = rest.subarray(end + 1);
      }
      if (rest.length > MAX_LINE) socket.destroy();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#connections.delete(socket);
      if (this.#connections.size === 0) this.#clients?.dropUnclaimed();
      this.o.container.daemonChanged();
    });
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
    if (!socket.destroyed) socket.write(`${JSON.stringify(reply)}\n`);
  }

  async #reply(request: Request & { id: number }): Promise<Reply> {
    const handler = this.#handlers[request.op] as ((request: Request) => unknown) | undefined;
    try {
      if (!handler) throw new Refused('invalid', `this shim does not know the operation ${request.op}`);
      return { id: request.id, result: await handler(request) };
    } catch (error) {
      if (!(error instanceof Refused)) this.o.complain(request.op, error);
      return { id: request.id, error: refusal(error) };
    }
  }

  readonly #handlers: { [O in Op]: Handler<O> } = {
    hello: () => this.#hello(),
    since: ({ seq, limit }) => this.o.journal.since(seq, limit),
    committed: ({ seq }) => {
      this.o.journal.committed(seq);
      return NOTHING;
    },
    create: ({ operation }) => this.o.container.create(operation),
    start: ({ operation }) => this.o.container.start(operation),
    abandon: ({ operation, error, code }) => done(this.o.container.abandon(operation, { message: error, code })),
    signal: ({ operation, signal, asUser }) => done(this.o.container.signal(operation, signal, { asUser })),
    stop: ({ operation, signal, timeout }) => done(this.o.container.stop(operation, signal, timeout)),
    restart: ({ operation, signal, timeout }) => done(this.o.container.restart(operation, signal, timeout)),
    pause: () => done(this.o.container.pause()),
    resume: () => done(this.o.container.resume()),
    update: ({ restart }) => {
      this.o.container.update(restart);
      return NOTHING;
    },
    resize: ({ height, width }) => {
      this.o.container.resize(height, width);
      return NOTHING;
    },
    attach: ({ client, options }) => {
      this.#withClient(client, (claimed) => this.o.container.attach(claimed, options));
      return NOTHING;
    },
    wait: ({ client, condition }) => {
      this.#withClient(client, (claimed) => this.o.container.wait(claimed, condition));
      return NOTHING;
    },
    exec: async ({ exec, client, options }) => {
      const attached = client && options ? { client: this.#claim(client), options } : null;
      return { pid: await this.o.container.exec(exec, attached) };
    },
    'exec-resize': ({ exec, height, width }) => done(this.o.container.resizeExec(exec, height, width)),
    removed: () => {
      this.o.container.removed();
      this.o.onRelease();
      return NOTHING;
    },
    release: () => {
      if (this.o.container.phase !== 'idle')
        throw new Refused('conflict', `container ${this.o.id} is ${this.o.container.phase}`);
      this.o.onRelease();
      return NOTHING;
    },
  };

  #hello(): Hello {
    const { id, bundle, journal } = this.o;
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

  #claim(handed: HandedClient): Client {
    const client = this.#clients!.claim(handed);
    if (!client) throw new Refused('invalid', `no connection was handed over under the token ${handed.token}`);
    return client;
  }

  #withClient(handed: HandedClient, use: (client: Client) => void): void {
    const client = this.#claim(handed);
    try {
      use(client);
    } catch (error) {
      closeSync(client.fd);
      throw error;
    }
  }
}

const done = (work: Promise<unknown>): Promise<Record<string, never>> => work.then(() => NOTHING);

const isTrusted = (uid: number): boolean => uid === 0 || uid === process.getuid!();

const handleOf = (socket: Socket): number => (socket as unknown as { _handle: { fd: number } })._handle.fd;

function refusal(error: unknown): Refusal {
  if (error instanceof Refused)
    return { kind: error.kind, message: error.message, ...(error.code === undefined ? {} : { code: error.code }) };
  return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
}
