/** One request as a handler sees it. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Engine } from '../engine/engine.ts';
import { watchHangUp } from '../engine/hang-up.ts';
import { InvalidParameter } from '../model/errors.ts';
import { exactJson } from '../protocol/exact-json.ts';
import { httpStatusOf, messageOf } from './errors.ts';
import { bodies, type Operation } from './contract.ts';
import { descriptorOf, takeOver, takeUpgraded, type HijackedClient } from './hijack.ts';
import { decodeFilters, decodeQuery, type Decoded } from './query.ts';
import { atLeast } from './version.ts';
import { API_VERSION, VERSION } from '../version.ts';

/** An upgrade request's connection and body, which Node does not parse. */
export interface Upgraded {
  socket: Socket;
  body: Buffer;
  /** Bytes received after the body. */
  rest: Buffer;
}

/** Filled by the servers' upgrade listener (http-servers.ts). */
export const upgrades = new WeakMap<IncomingMessage, Upgraded>();

const MAX_BODY_BYTES = 64 * 1024 * 1024;

/** May be asynchronous; the result is awaited and ignored. */
export type Handler = (call: Call) => unknown;

/** @throws when a response violates openapi.yaml */
export type ResponseCheck = (operation: string, status: number, json: unknown, contentType?: string) => void;

/** Writes to a streamed response; resolves when the client can take more, or has disconnected. */
export type Write = (bytes: Buffer | string) => Promise<void>;

export class Call {
  readonly query: Record<string, Decoded>;

  constructor(
    readonly engine: Engine,
    private readonly operation: Operation,
    readonly request: FastifyRequest,
    readonly reply: FastifyReply,
    readonly version: string,
    private readonly check?: ResponseCheck,
  ) {
    const [, query = ''] = /\?(.*)$/s.exec(request.raw.url!) ?? [];
    this.query = decodeQuery(operation.query, query);
  }

  /** A path parameter. */
  param = (name: string): string => (this.request.params as Record<string, string>)[name] ?? '';
  /** Query parameters by type; '', false or undefined if not given. */
  text = (name: string): string => String(this.query[name] ?? '');
  flag = (name: string): boolean => this.query[name] === true;
  number = (name: string): number | undefined => this.query[name] as number | undefined;
  /** The query parameter `filters`. @throws InvalidParameter */
  filters = (): Map<string, string[]> => decodeFilters(this.text('filters'));
  /** Whether the request's API version is `version` or newer. */
  atLeast = (version: string): boolean => atLeast(this.version, version);

  /** The JSON body, decoded by the contract's schema; an empty body counts as `{}`. @throws InvalidParameter */
  async body<T>(): Promise<T> {
    const bytes = await this.#bytes();
    const { headers } = this.request;
    const type = headers['content-type'] ?? '';
    const chunked = headers['transfer-encoding'] !== undefined;
    const empty = bytes.length === 0 && !chunked;
    if (type === '' && !empty) throw new InvalidParameter('malformed Content-Type header (): mime: no media type');
    if (type !== '' && !/^\s*application\/json\s*(;|$)/i.test(type))
      throw new InvalidParameter(`unsupported Content-Type header (${type}): must be 'application/json'`);
    if (empty && this.operation.needsBody) throw new InvalidParameter('invalid JSON: EOF');
    const text = bytes.toString();
    if (!empty && text.trim() === '') throw new InvalidParameter('invalid JSON: got EOF while reading request body');
    return bodies.decode(empty ? '{}' : text, this.operation.body ?? {}) as T;
  }

  /** Drains an ignored body so it is not mistaken for stdin after the hijack. */
  async ignoreBody(): Promise<void> {
    await this.#bytes();
  }

  json(value: unknown, status = 200): void {
    const text = exactJson(value);
    this.check?.(this.operation.id, status, JSON.parse(text));
    void this.reply
      .code(status)
      .header('content-type', 'application/json')
      .send(Buffer.from(`${text}\n`));
  }

  empty(status: number): void {
    void this.reply.code(status).send();
  }

  /** Aborted when the client disconnects. */
  clientGone(): AbortSignal {
    const gone = new AbortController();
    this.#onGone(gone);
    return gone.signal;
  }

  // The client may have disconnected already.
  #onGone(gone: AbortController): void {
    const { raw } = this.reply;
    if (raw.destroyed) return gone.abort();
    raw.on('close', () => gone.abort());
    const body = this.request.raw;
    if (body.complete) return;
    const stop = watchHangUp(
      () => descriptorOf(body.socket),
      () => body.destroy(),
    );
    raw.on('close', stop);
    body.on('end', stop);
  }

  /** Streams a 200 response: the head is sent at once; `gone` is aborted when the client disconnects. */
  async stream(
    contentType: string,
    work: (write: Write, signal: AbortSignal) => Promise<void>,
    gone = new AbortController(),
  ): Promise<void> {
    const { raw } = this.reply;
    this.reply.hijack();
    raw.writeHead(200, { ...(this.reply.getHeaders() as Record<string, string>), 'content-type': contentType });
    raw.flushHeaders();
    this.#onGone(gone);
    raw.on('error', () => gone.abort());
    const write: Write = async (bytes) => {
      if (contentType === 'application/json') this.#checkLines(bytes);
      if (!gone.signal.aborted && !raw.write(bytes)) await this.#drained(gone.signal);
    };
    try {
      await work(write, gone.signal);
    } finally {
      raw.end();
    }
  }

  #checkLines(bytes: Buffer | string): void {
    if (!this.check) return;
    const lines = bytes.toString().split('\n');
    for (const line of lines.filter((each) => each.trim() !== '')) this.check(this.operation.id, 200, JSON.parse(line));
  }

  /** Resolves when the response's buffer is empty or the client is gone. Disconnects a client that takes too long. */
  #drained(gone: AbortSignal): Promise<void> {
    const { raw } = this.reply;
    return new Promise((resolve) => {
      const tooSlow = setTimeout(() => raw.destroy(), this.engine.config.slowClientMs);
      const proceed = (): void => {
        clearTimeout(tooSlow);
        raw.off('drain', proceed);
        gone.removeEventListener('abort', proceed);
        resolve();
      };
      raw.on('drain', proceed);
      gone.addEventListener('abort', proceed);
    });
  }

  /**
   * Streams an archive. An error before the first chunk becomes an ordinary error response; a later one aborts the
   * connection, so that the client cannot take a truncated archive for a complete one.
   */
  async archive(contentType: string, chunks: AsyncIterable<Buffer>): Promise<void> {
    const iterator = chunks[Symbol.asyncIterator]();
    const first = await iterator.next();
    await this.stream(contentType, async (write, signal) => {
      try {
        for (let next = first; !next.done && !signal.aborted; next = await iterator.next()) await write(next.value);
      } catch (error) {
        this.reply.raw.destroy(error as Error);
      } finally {
        await iterator.return?.();
      }
    });
  }

  /**
   * Takes the connection over as a raw stream. The response's head is 101 if the client asked for an upgrade, else 200;
   * a framed stream is announced as multiplexed only with 101, and only since API 1.42, as dockerd does.
   */
  hijack({ framed, headers }: { framed: boolean; headers: boolean }): HijackedClient {
    const upgrade = this.request.headers.upgrade !== undefined;
    const type = `application/vnd.docker.${upgrade && framed && this.atLeast('1.42') ? 'multiplexed' : 'raw'}-stream`;
    const more = headers ? this.headerLines() : '';
    return this.takeConnection(
      upgrade
        ? `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n${more}\r\n`
        : `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\n${more}\r\n`,
    );
  }

  /** The headers common to all responses, for a head that is written without Fastify. */
  headerLines(): string {
    return `Api-Version: ${API_VERSION}\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/${VERSION} (linux)\r\n`;
  }

  /** Takes the connection out of HTTP. `head` is the success head, sent by whichever process writes the response. */
  takeConnection(head: string): HijackedClient {
    this.reply.hijack();
    const upgraded = upgrades.get(this.request.raw);
    return upgraded
      ? takeUpgraded(upgraded.socket, head, upgraded.rest)
      : takeOver(this.request.raw, this.reply.raw, head);
  }

  /** Passes a hijacked connection to `work`; an error it throws is answered on that connection. */
  async handOver(
    client: HijackedClient,
    work: (client: HijackedClient) => Promise<void>,
    options: { plain: boolean },
  ): Promise<void> {
    try {
      await work(client);
    } catch (error) {
      this.sendError(client, error, options);
    }
  }

  /** Sends an error response on a hijacked connection: as text if `plain`, else as JSON. */
  sendError(client: HijackedClient, error: unknown, { plain }: { plain: boolean }): void {
    const status = httpStatusOf(error);
    const message = messageOf(error);
    const body = plain ? `${message}\r\n` : `${JSON.stringify({ message })}\n`;
    const type = plain ? 'application/vnd.docker.raw-stream' : 'application/json';
    client.sendError(
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n`,
      body,
    );
    if (!plain) this.check?.(this.operation.id, status, { message });
  }

  #body: Promise<Buffer> | undefined;
  #bytes(): Promise<Buffer> {
    this.#body ??= this.#readAll();
    return this.#body;
  }

  async #readAll(): Promise<Buffer> {
    const upgraded = upgrades.get(this.request.raw);
    if (upgraded) return upgraded.body;
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.request.raw as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_BODY_BYTES) throw new InvalidParameter('http: request body too large');
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }
}
