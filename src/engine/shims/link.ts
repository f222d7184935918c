/** The daemon's connection to a shim: requests, answers, doorbell, and handing over clients. */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { exactJson } from '../../protocol/exact-json.ts';
import { LineSplitter } from '../../protocol/lines.ts';
import {
  PROTOCOL_VERSION,
  type Answers,
  type HandedClient,
  type Hello,
  type Op,
  type Refusal,
  type Reply,
  type Request,
} from '../../protocol/messages.ts';
import { CTL_SOCKET, FD_SOCKET } from '../../protocol/paths.ts';
import { faultPoint } from '../../sys/fault.ts';
import { deliverFd } from '../../sys/socket.ts';
import { VERSION } from '../../version.ts';
import type { Client } from '../client.ts';
import { isShortage, SHORTAGE_MS, SHORTAGE_POLL_MS } from './shortage.ts';
import { Conflict, EngineError, InvalidParameter, NotFound, SystemFault, Unavailable } from '../../model/errors.ts';

/** A shim that does not answer `hello` within this counts as unreachable, never as dead. */
const HELLO_DEADLINE_MS = 5_000;
/** While requests are pending, the shim is probed with a `hello` this often. */
const PROBE_MS = 2_000;
/** Probes without any message before the shim counts as unresponsive. Not a time: the daemon may have been stopped. */
const MAX_SILENT_PROBES = 4;

const CLOSED = 'the connection to the shim is closed';

type RequestOf<O extends Op> = Extract<Request, { op: O }>;
/** A request that hands over a client, without the client. */
type WithoutClient<O extends Op> = Omit<RequestOf<O>, 'client'>;

/** The shim refused a start. `code` is Docker's exit code: 126, 127 or 128. */
export class StartFailed extends EngineError {
  constructor(
    message: string,
    readonly code: number,
  ) {
    super(message);
  }
}

/** The shim is alive but does not answer: frozen, or stuck. Never proves its death. */
export class ShimUnresponsive extends Unavailable {}

interface Pending {
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
}

interface LinkEvents {
  /** The journal's last sequence number has grown to `seq`. */
  onRing(seq: number): void;
  /** The connection has ended. */
  onEnd(): void;
  /** No descriptor is left. */
  onShortage?(): void;
}

export class ShimLink {
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  #closed = false;
  readonly #splitter = new LineSplitter();
  /** The shim has sent something since the last probe. */
  #heard = true;
  #silentProbes = 0;
  #probing: NodeJS.Timeout | undefined;
  /** When it was last used, ms since the epoch. */
  usedAt = Date.now();

  private constructor(
    private readonly socket: Socket,
    private readonly run: string,
    private readonly events: LinkEvents,
  ) {
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#end());
  }

  /**
   * Connects to the shim of the run directory `run`.
   * @throws Error with `code` ENOENT or ECONNREFUSED when no shim listens; Unavailable when it does not answer in time
   */
  static async open(run: string, events: LinkEvents): Promise<{ link: ShimLink; hello: Hello }> {
    const socket = await connected(join(run, CTL_SOCKET));
    const link = new ShimLink(socket, run, events);
    const deadline = setTimeout(() => socket.destroy(), HELLO_DEADLINE_MS);
    try {
      return { link, hello: await link.request({ op: 'hello', protocol: PROTOCOL_VERSION, daemon: VERSION }) };
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(deadline);
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Requests that are not answered yet. */
  get pending(): number {
    return this.#pending.size;
  }

  /** @throws EngineError by the refusal's kind; Unavailable when the connection ended first */
  request<O extends Op>(request: RequestOf<O>): Promise<Answers[O]> {
    if (this.#closed) return Promise.reject(new Unavailable(CLOSED));
    const id = this.#next++;
    this.usedAt = Date.now();
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: (result) => resolve(result as Answers[O]), reject });
      this.#probing ??= setInterval(() => this.#probe(), PROBE_MS).unref();
      faultPoint('request.before');
      this.socket.write(`${exactJson({ id, ...request })}\n`);
      faultPoint('request.sent');
    });
  }

  /**
   * Sends a request together with a client's connection. The descriptor is sent first. The daemon closes its own copy
   * only once the shim has accepted, so that it can answer the client itself after a refusal.
   * @throws as request(); SystemFault when the shim ended meanwhile: the client's connection is closed then
   */
  async handOver<O extends 'attach' | 'wait' | 'exec'>(request: WithoutClient<O>, client: Client): Promise<void> {
    if (this.#closed) throw new Unavailable(CLOSED);
    const token = randomBytes(8).toString('hex');
    await this.#deliver(token, client);
    const handed: HandedClient = {
      token,
      head: client.head.toString('base64'),
      early: client.early.toString('base64'),
    };
    try {
      await this.request({ ...request, client: handed } as unknown as RequestOf<O>);
    } catch (error) {
      // The shim may have written the head before it died: the client must not get another one, or an error after it.
      if (!(error instanceof Unavailable) || client.head.length === 0) throw error;
      client.release();
      throw new SystemFault('the shim died before it had taken the client', { cause: error });
    }
    client.release();
  }

  /** Sends the descriptor, as soon as one is left to send it with. */
  async #deliver(token: string, client: Client): Promise<void> {
    for (const deadline = Date.now() + SHORTAGE_MS; ;) {
      try {
        deliverFd(join(this.run, FD_SOCKET), Buffer.from(token), client.fd);
        return;
      } catch (error) {
        if (!isShortage(error) || Date.now() > deadline) throw error;
      }
      this.events.onShortage?.();
      await new Promise((resolve) => setTimeout(resolve, SHORTAGE_POLL_MS));
    }
  }

  /** Closes the connection; the shim keeps running. */
  close(): void {
    this.socket.destroy();
  }

  // An operation such as a stop may take long, the answer to `hello` may not.
  #probe(): void {
    if (this.#pending.size === 0) return this.#stopProbing();
    this.#silentProbes = this.#heard ? 0 : this.#silentProbes + 1;
    this.#heard = false;
    if (this.#silentProbes >= MAX_SILENT_PROBES) return this.#end(new ShimUnresponsive('the shim does not answer'));
    this.socket.write(
      `${JSON.stringify({ id: this.#next++, op: 'hello', protocol: PROTOCOL_VERSION, daemon: VERSION })}\n`,
    );
  }

  #stopProbing(): void {
    clearInterval(this.#probing);
    this.#probing = undefined;
    this.#heard = true;
    this.#silentProbes = 0;
  }

  #receive(chunk: Buffer): void {
    this.#heard = true;
    for (const line of this.#splitter.push(chunk)) {
      const message = parsed(line);
      if (!message) return this.#end(new Unavailable('the shim sent an invalid message'));
      this.#take(message);
    }
  }

  #take(message: Reply | { ring: number }): void {
    if ('ring' in message) return this.events.onRing(message.ring);
    const pending = this.#pending.get(message.id);
    if (!pending) return; // The answer to a probe.
    this.#pending.delete(message.id);
    this.usedAt = Date.now();
    faultPoint('request.answered');
    if ('error' in message) pending.reject(refusal(message.error));
    else pending.resolve(message.result);
  }

  #end(reason: Error = new Unavailable('the shim ended the connection')): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopProbing();
    this.socket.destroy();
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
    this.events.onEnd();
  }
}

function parsed(line: string): Reply | { ring: number } | undefined {
  try {
    return JSON.parse(line) as Reply | { ring: number };
  } catch {
    return undefined;
  }
}

function refusal(r: Refusal): Error {
  if (r.code !== undefined) return new StartFailed(r.message, r.code);
  switch (r.kind) {
    case 'conflict':
      return new Conflict(r.message);
    case 'invalid':
      return new InvalidParameter(r.message);
    case 'notfound':
      return new NotFound(r.message);
    case 'failed':
      return new SystemFault(r.message);
  }
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
