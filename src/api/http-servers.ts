/**
 * Node's HTTP servers, one for each listening socket, all over the same routes. A request with `Upgrade: tcp` becomes
 * an
 * ordinary one here, whose handler may take its connection.
 */
import { createServer, ServerResponse, type IncomingMessage, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { upgrades } from './call.ts';
import { keepStray, readUpgradeBody } from './hijack.ts';

/** Clients repeat large options in the URL (dockerode); Go allows 1 MiB of head. */
const MAX_HEADER_BYTES = 1024 * 1024;
const MAX_UPGRADE_BODY = 1024 * 1024;
const HEADERS_TIMEOUT_MS = 300_000;

type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

export interface HttpServersOptions {
  /** Answers a request. */
  route: RequestHandler;
  /** Takes the upgrade of a WebSocket. */
  webSocket: (request: IncomingMessage, socket: Socket, head: Buffer) => void;
}

export class HttpServers {
  readonly #servers: Server[] = [];

  constructor(private readonly o: HttpServersOptions) {}

  /** One more, which listens to nothing yet. */
  make(handler: RequestHandler = this.o.route): Server {
    const server = createServer(
      { maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: HEADERS_TIMEOUT_MS },
      handler,
    );
    server.setTimeout(0);
    server.on(
      'upgrade',
      (request: IncomingMessage, socket: Socket, head: Buffer) => void this.#upgrade(request, socket, head),
    );
    server.on('clientError', (error, socket) => {
      if (keepStray(socket as Socket, error as Error & { rawPacket?: Buffer })) return;
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    });
    this.#servers.push(server);
    return server;
  }

  /** Serves on these listening descriptors: the server that was made first on the first, more on the others. */
  async listen(fds: number[]): Promise<void> {
    while (this.#servers.length < fds.length) this.make();
    await Promise.all(
      fds.map(
        (fd, i) =>
          new Promise<void>((resolve, reject) => {
            this.#servers[i]!.once('error', reject);
            this.#servers[i]!.listen({ fd }, resolve);
          }),
      ),
    );
  }

  close(): void {
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
  }

  async #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    socket.setTimeout(0);
    if (isWebSocketAttach(request)) return void this.o.webSocket(request, socket, head);
    const framing = /chunked/i.test(request.headers['transfer-encoding'] ?? '')
      ? 'chunked'
      : Number(request.headers['content-length'] ?? 0) || 0;
    try {
      const { body, rest } = await readUpgradeBody(socket, head, framing, MAX_UPGRADE_BODY);
      upgrades.set(request, { socket, body, rest });
    } catch {
      // A body that is cut short or too long, before anybody could be told.
      return void socket.destroy();
    }
    // From here on an ordinary request; a handler that does not take the connection answers on it and closes.
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.on('finish', () => socket.end());
    this.o.route(request, response);
  }
}

const isWebSocketAttach = ({ method, headers, url }: IncomingMessage): boolean =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket' && /\/attach\/ws(\?|$)/.test(url!);
