/** One request as a handler sees it. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Engine } from '../engine/engine.ts';
import { InvalidParameter } from '../model/errors.ts';
import { messageOf, statusOf } from './errors.ts';
import { bodies, type Operation } from './contract.ts';
import { takeOver, takeUpgraded, type HijackedClient } from './hijack.ts';
import { decodeFilters, decodeQuery, type Decoded } from './query.ts';
import { atLeast } from './version.ts';
import { API_VERSION, VERSION } from '../version.ts';

/** What came with an upgrade request, which Node does not parse. */
export interface Upgraded {
  socket: Socket;
  body: Buffer;
  rest: Buffer;
}

/** By request; filled by the server's upgrade listener. */
export const upgrades = new WeakMap<IncomingMessage, Upgraded>();

const MAX_BODY = 64 * 1024 * 1024;

export type Handler = (call: Call) => Promise<unknown> | unknown;

/** @throws when an answer does not fit the contract */
export type AnswerCheck = (operation: string, status: number, answer: unknown, type?: string) => void;

export class Call {
  readonly query: Record<string, Decoded>;

  constructor(
    readonly engine: Engine,
    private readonly operation: Operation,
    readonly request: FastifyRequest,
    readonly reply: FastifyReply,
    readonly version: string,
    private readonly check?: AnswerCheck,
  ) {
    const at = request.raw.url!.indexOf('?');
    this.query = decodeQuery(operation.query, at < 0 ? '' : request.raw.url!.slice(at + 1));
  }

  param = (name: string): string => (this.request.params as Record<string, string>)[name] ?? '';
  text = (name: string): string => String(this.query[name] ?? '');
  flag = (name: string): boolean => this.query[name] === true;
  number = (name: string): number | undefined => this.query[name] as number | undefined;
  filters = (): Map<string, string[]> => decodeFilters(this.text('filters'));
  atLeast = (version: string): boolean => atLeast(this.version, version);

  /** The JSON body by the contract's schema; an empty one is the zero value. @throws InvalidParameter */
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

  /** Reads a body that means nothing away, so that it is not taken for a taken connection's input. */
  async ignoreBody(): Promise<void> {
    await this.#bytes();
  }

  json(value: unknown, status = 200): void {
    this.check?.(this.operation.id, status, value);
    void this.reply
      .code(status)
      .header('content-type', 'application/json')
      .send(Buffer.from(`${JSON.stringify(value)}\n`));
  }

  empty(status: number): void {
    void this.reply.code(status).send();
  }

  /** Aborted when the client has left. */
  gone(): AbortSignal {
    const gone = new AbortController();
    this.reply.raw.on('close', () => gone.abort());
    return gone.signal;
  }

  /** Streams an answer: head flushed at once, `signal` aborts when the client leaves. */
  async stream(
    contentType: string,
    work: (write: (bytes: Buffer | string) => Promise<void>, signal: AbortSignal) => Promise<void>,
    gone = new AbortController(),
  ): Promise<void> {
    const { raw } = this.reply;
    this.reply.hijack();
    raw.writeHead(200, { ...(this.reply.getHeaders() as Record<string, string>), 'content-type': contentType });
    raw.flushHeaders();
    raw.on('close', () => gone.abort());
    raw.on('error', () => gone.abort());
    const write = (bytes: Buffer | string): Promise<void> =>
      new Promise((resolve) => {
        if (this.check && contentType === 'application/json')
          for (const line of bytes.toString().split('\n'))
            if (line.trim() !== '') this.check(this.operation.id, 200, JSON.parse(line));
        if (gone.signal.aborted || raw.write(bytes)) return resolve();
        const slow = setTimeout(() => raw.destroy(), this.engine.config.slowClientMs);
        const go = (): void => {
          clearTimeout(slow);
          raw.off('drain', go);
          gone.signal.removeEventListener('abort', go);
          resolve();
        };
        raw.on('drain', go);
        gone.signal.addEventListener('abort', go);
      });
    try {
      await work(write, gone.signal);
    } finally {
      raw.end();
    }
  }

  /**
   * Streams an archive. What fails before its first byte is an ordinary answer; later the connection breaks off, so
   * that a part does not pass for all of it.
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

  /** Takes the connection for a raw stream: 101 where the client asked for an upgrade, else 200 (api-wire 56, 57). */
  hijack({ framed, headers }: { framed: boolean; headers: boolean }): HijackedClient {
    const upgrade = this.request.headers.upgrade !== undefined;
    const type = `application/vnd.docker.${upgrade && framed && this.atLeast('1.42') ? 'multiplexed' : 'raw'}-stream`;
    const more = headers ? this.headerLines() : '';
    return this.take(
      upgrade
        ? `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n${more}\r\n`
        : `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\n${more}\r\n`,
    );
  }

  /** The headers that every answer has, as lines of a head that is written by hand. */
  headerLines(): string {
    return `Api-Version: ${API_VERSION}\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/${VERSION} (linux)\r\n`;
  }

  /** Takes the connection; `head` is written by whoever answers. */
  take(head: string): HijackedClient {
    this.reply.hijack();
    const upgraded = upgrades.get(this.request.raw);
    return upgraded
      ? takeUpgraded(upgraded.socket, head, upgraded.rest)
      : takeOver(this.request.raw, this.reply.raw, head);
  }

  /** Hands the taken client to `work`; a refusal becomes an ordinary answer on the same connection. */
  async handing(
    client: HijackedClient,
    work: (client: HijackedClient) => Promise<void>,
    options: { plain: boolean },
  ): Promise<void> {
    try {
      await work(client);
    } catch (error) {
      const status = statusOf(error);
      const body = options.plain ? `${messageOf(error)}\r\n` : `${JSON.stringify({ message: messageOf(error) })}\n`;
      const type = options.plain ? 'application/vnd.docker.raw-stream' : 'application/json';
      client.refuse(
        `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n`,
        body,
      );
      if (!options.plain) this.check?.(this.operation.id, status, { message: messageOf(error) });
    }
  }

  #read: Promise<Buffer> | undefined;
  #bytes(): Promise<Buffer> {
    this.#read ??= this.#readAll();
    return this.#read;
  }

  async #readAll(): Promise<Buffer> {
    const upgraded = upgrades.get(this.request.raw);
    if (upgraded) return upgraded.body;
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.request.raw as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_BODY) throw new InvalidParameter('http: request body too large');
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }
}
