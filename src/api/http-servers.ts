/**
 * Node's HTTP servers, one per listening socket, all with the same routes. A request with `Upgrade: tcp` is routed like
 * any other; its handler may hijack the connection.
 */
import { createServer, ServerResponse, type IncomingMessage, type Server } from 'node:http';
import { Socket } from 'node:net';
import { upgrades } from './call.ts';
import { keepEarlyInput } from './hijack.ts';
import { readUpgradeBody, type BodyFraming } from './upgrade-body.ts';

/** dockerode repeats large options in the URL. Go allows a head of 1 MiB. */
/** Of a request's first line and its headers together, as in Go. */
export const MAX_HEADER_BYTES = 1024 * 1024;
const MAX_UPGRADE_BODY_BYTES = 1024 * 1024;
const HEADERS_TIMEOUT_MS = 300_000;
/** How long a closing server waits for requests under way: streams such as `docker events` never end. */
const DRAIN_MS = 1000;
const DRAIN_POLL_MS = 10;

type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

export interface HttpServersDeps {
  route: RequestHandler;
  upgradeWebSocket: (request: IncomingMessage, socket: Socket, head: Buffer) => void;
}

export class HttpServers {
  readonly #servers: Server[] = [];

  constructor(private readonly deps: HttpServersDeps) {}

  /** Adds a server that does not listen yet. */
  create(handler: RequestHandler = this.deps.route): Server {
    const server = createServer(
      { maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: HEADERS_TIMEOUT_MS },
      handler,
    );
    server.setTimeout(0);
    server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      continueAtRead(request, response);
      handler(request, response);
    });
    server.on(
      'upgrade',
      (request: IncomingMessage, socket: Socket, head: Buffer) => void this.#upgrade(request, socket, head),
    );
    server.on('clientError', (error: Error & { rawPacket?: Buffer }, socket) => {
      if (socket instanceof Socket && keepEarlyInput(socket, error)) return;
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    });
    this.#servers.push(server);
    return server;
  }

  /** Serves on these listening descriptors: the first server on the first one, and so on; adds servers as needed. */
  async listen(fds: number[]): Promise<void> {
    while (this.#servers.length < fds.length) this.create();
    await Promise.all(fds.map((fd, i) => listening(this.#servers[i]!, fd)));
  }

  /** Accepts no more connections, lets the requests under way finish for a while, and closes what is left. */
  async close(): Promise<void> {
    let open = this.#servers.filter(({ listening }) => listening).length;
    for (const server of this.#servers) server.close(() => open--);
    for (const deadline = Date.now() + DRAIN_MS; open > 0 && Date.now() < deadline;) {
      // A connection whose request has finished meanwhile is idle now.
      for (const server of this.#servers) server.closeIdleConnections();
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    }
    for (const server of this.#servers) server.closeAllConnections();
  }

  async #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    socket.setTimeout(0);
    if (isWebSocketAttach(request)) return void this.deps.upgradeWebSocket(request, socket, head);
    try {
      const { body, rest } = await readUpgradeBody(socket, head, framingOf(request), MAX_UPGRADE_BODY_BYTES);
      upgrades.set(request, { socket, body, rest });
    } catch {
      // The body is malformed, truncated or too long: there is no request to respond to.
      return void socket.destroy();
    }
    // From here on an ordinary request: a handler that does not hijack the connection responds on it and closes it.
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.on('finish', () => socket.end());
    this.deps.route(request, response);
  }
}

/**
 * Asks for the body of a request with `Expect: 100-continue` when the handler reads it, as Go's server does. Before, an
 * early response is the only one, and the connection is closed: the client may send the body or not.
 */
function continueAtRead(request: IncomingMessage, response: ServerResponse): void {
  const { shouldKeepAlive } = response;
  response.shouldKeepAlive = false;
  const read = request._read.bind(request);
  request._read = (size) => {
    request._read = read;
    if (!response.headersSent && !response.writableEnded) {
      response.shouldKeepAlive = shouldKeepAlive;
      response.writeContinue();
    }
    read(size);
  };
}

const listening = (server: Server, fd: number): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd }, resolve);
  });

const framingOf = ({ headers }: IncomingMessage): BodyFraming =>
  /chunked/i.test(headers['transfer-encoding'] ?? '') ? 'chunked' : Number(headers['content-length'] ?? 0) || 0;

const isWebSocketAttach = ({ method, headers, url }: IncomingMessage): boolean =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket' && /\/attach\/ws(\?|$)/.test(url!);
