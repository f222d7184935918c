/** The daemon's one connection to a living shim: requests, answers, doorbell, and clients handed over. */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
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
import { Conflict, EngineError, InvalidParameter, NotFound, SystemFault, Unavailable } from '../../model/errors.ts';

/** How long a shim may take to say who it is before it counts as unreachable (never as dead). */
const HELLO_DEADLINE_MS = 5_000;

/**
 * While something is asked of it, it is looked this often whether a shim still says anything; it is asked for a sign of
 * life then.
 */
const LOOK_MS = 2_000;
/**
 * So many looks without a word, and it counts as silent. Looks, not seconds: a daemon that was stopped itself finds its
 * answers later.
 */
const SILENT_LOOKS = 4;

type RequestOf<O extends Op> = Extract<Request, { op: O }>;
/** A request that brings a client along, without the client. */
type Unclaimed<O extends Op> = Omit<RequestOf<O>, 'client'>;

/** A shim refused a start: Docker's exit code comes with the text. */
export class StartFailed extends EngineError {
  constructor(
    message: string,
    readonly code: number,
  ) {
    super(message);
  }
}

/** A shim lives, but does not answer: frozen, or stuck. Never a proof of death. */
export class Silent extends Unavailable {}

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class ShimLink {
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  #closed = false;
  #buffered = '';
  #heard = true;
  #silentLooks = 0;
  #looking: NodeJS.Timeout | undefined;

  private constructor(
    private readonly socket: Socket,
    private readonly run: string,
    private readonly events: { onRing(seq: number): void; onEnd(): void },
  ) {
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#end());
  }

  /** @throws when nobody listens (`ENOENT`, `ECONNREFUSED` as `code`) or the shim does not say hello in time */
  static async open(
    run: string,
    events: { onRing(seq: number): void; onEnd(): void },
  ): Promise<{ link: ShimLink; hello: Hello }> {
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

  /** @throws the shim's refusal as a typed error; Unavailable when the connection ended first */
  request<O extends Op>(request: RequestOf<O>): Promise<Answers[O]> {
    if (this.#closed) return Promise.reject(new Unavailable('the connection to the shim is closed'));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve, reject });
      this.#looking ??= setInterval(() => this.#look(), LOOK_MS).unref();
      faultPoint('request.before');
      this.socket.write(`${JSON.stringify({ id, ...request })}\n`);
      faultPoint('request.sent');
    });
  }

  /**
   * Hands a client's connection over with a request. The descriptor travels first; the daemon's copy is let go only
   * when the shim has acknowledged, so that a refusal can still be answered here.
   */
  async handOver<O extends 'attach' | 'wait' | 'exec'>(request: Unclaimed<O>, client: Client): Promise<void> {
    const token = randomBytes(8).toString('hex');
    deliverFd(join(this.run, FD_SOCKET), Buffer.from(token), client.fd);
    const handed: HandedClient = {
      token,
      head: client.head.toString('base64'),
      early: client.early.toString('base64'),
    };
    await this.request({ ...request, client: handed } as unknown as RequestOf<O>);
    client.release();
  }

  /** Closes the daemon's end; the shim lives on. */
  close(): void {
    this.socket.destroy();
  }

  // An operation may take its time (a stop, say), a sign of life may not.
  #look(): void {
    if (this.#pending.size === 0) return this.#restEars();
    this.#silentLooks = this.#heard ? 0 : this.#silentLooks + 1;
    this.#heard = false;
    if (this.#silentLooks >= SILENT_LOOKS) return this.#end(new Silent('the shim does not answer'));
    this.socket.write(
      `${JSON.stringify({ id: this.#next++, op: 'hello', protocol: PROTOCOL_VERSION, daemon: VERSION })}\n`,
    );
  }

  #restEars(): void {
    clearInterval(this.#looking);
    this.#looking = undefined;
    this.#heard = true;
    this.#silentLooks = 0;
  }

  #receive(text: string): void {
    this.#heard = true;
    this.#buffered += text;
    let from = 0;
    for (let end = this.#buffered.indexOf('\n', from); end >= 0; end = this.#buffered.indexOf('\n', from)) {
      const message = parsed(this.#buffered.slice(from, end));
      if (!message) return this.#end(new Unavailable('the shim said what is no message'));
      this.#take(message);
      from = end + 1;
    }
    this.#buffered = this.#buffered.slice(from);
  }

  #take(message: Reply | { ring: number }): void {
    if ('ring' in message) return this.events.onRing(message.ring);
    const pending = this.#pending.get(message.id);
    if (!pending) return; // a sign of life
    this.#pending.delete(message.id);
    faultPoint('request.answered');
    if ('error' in message) pending.reject(refusal(message.error));
    else pending.resolve(message.result);
  }

  #end(why: Error = new Unavailable('the shim ended the connection')): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#restEars();
    this.socket.destroy();
    for (const { reject } of this.#pending.values()) reject(why);
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
