/** The HTTP server: versions, headers, errors, upgrades; routes are bound from the contract. */
import websocket, { type WebSocket } from '@fastify/websocket';
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import { createServer as createHttpServer, ServerResponse, type IncomingMessage, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Engine } from '../engine/engine.ts';
import { API_VERSION, VERSION } from '../version.ts';
import { Call, upgrades, type Handler } from './call.ts';
import { operations, type Operation } from './contract.ts';
import { errorBody, messageOf, statusOf } from './errors.ts';
import { expectStrays, keepStray, readUpgradeBody } from './hijack.ts';
import { containerHandlers, openWebSocket } from './routes/containers.ts';
import { archiveHandlers } from './routes/archives.ts';
import { execHandlers } from './routes/exec.ts';
import { imageHandlers } from './routes/images.ts';
import { networkHandlers } from './routes/networks.ts';
import { registryHandlers } from './routes/registry.ts';
import { systemHandlers } from './routes/system.ts';
import { volumeHandlers } from './routes/volumes.ts';
import { atLeast, checkVersion } from './version.ts';
import { InvalidParameter } from '../engine/errors.ts';
import { relayWebSocket } from './websocket.ts';

/** Clients repeat large options in the URL (dockerode); Go allows 1 MiB of head. */
const MAX_HEADER_BYTES = 1024 * 1024;
const MAX_UPGRADE_BODY = 1024 * 1024;
/** Operations that take their connection over: what a client sends behind such a request is its input. */
const TAKES_OVER = new Set(['ContainerAttach', 'ContainerWait', 'ExecStart']);
const HEADERS = { 'api-version': API_VERSION, 'docker-experimental': 'false', ostype: 'linux', server: `Docker/${VERSION} (linux)` };

export interface ApiServer {
  /** Serves on these listening descriptors. */
  listen(fds: number[]): Promise<void>;
  close(): Promise<void>;
}

const versions = new WeakMap<IncomingMessage, string>();

export interface ServerOptions {
  /** Every JSON answer is held against the contract; one that does not fit becomes a 500 and an error in the log. For tests. */
  checkAnswers: boolean;
}

/** @throws when an operation of the contract has no handler */
export async function createServer(engine: Engine, log: Logger, { checkAnswers }: ServerOptions = { checkAnswers: false }): Promise<ApiServer> {
  // Not loaded for nothing: the validator costs time at start.
  const answers = checkAnswers ? await import('./answers.ts') : undefined;
  const check = answers && ((operation: string, status: number, answer: unknown): void => {
    const misfit = answers.misfit(operation, status, answer);
    if (misfit === undefined) return;
    log.error({ misfit }, answers.MISFIT);
    throw new Error(`${answers.MISFIT}: ${misfit}`);
  });
  const handlers: Record<string, Handler> = { ...systemHandlers, ...containerHandlers, ...archiveHandlers, ...execHandlers, ...imageHandlers, ...registryHandlers, ...networkHandlers, ...volumeHandlers };
  const servers: Server[] = [];
  const make = (handler?: (request: IncomingMessage, response: ServerResponse) => void): Server => {
    const server = createHttpServer({ maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 300_000 }, handler);
    server.setTimeout(0);
    server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => void upgrade(request, socket, head));
    server.on('clientError', (error, socket) => {
      if (keepStray(socket as Socket, error as Error & { rawPacket?: Buffer })) return;
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    });
    servers.push(server);
    return server;
  };

  const app = Fastify({
    serverFactory: make,
    exposeHeadRoutes: false,
    rewriteUrl: (request) => rewrite(request as IncomingMessage),
    routerOptions: { maxParamLength: 4096 },
    genReqId: () => randomUUID(),
    clientErrorHandler: () => undefined, // Each server has its own listener (make).
    // A path that cannot be decoded: Go's server does not get as far as JSON either.
    frameworkErrors: (_error, _request, reply) => void (reply as unknown as FastifyReply).code(400).header('content-type', 'text/plain; charset=utf-8').send('400 Bad Request'),
  });
  app.addHook('onRequest', (request, reply, done) => {
    const path = request.raw.url!.replace(/\?.*$/, '');
    if (request.method === 'OPTIONS') return void reply.code(200).send();
    // gorilla/mux sends a client with an empty name in its path to the cleaned one.
    if (path.includes('//')) return void reply.code(301).header('location', path.replace(/\/{2,}/g, '/')).send();
    done();
  });
  // On a server that never listens: on its own it would close every `Upgrade: tcp` (parts.md).
  const webSockets = createHttpServer();
  await app.register(websocket, { options: { server: webSockets } });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
  app.setNotFoundHandler((_request, reply) => reply.code(404).header('content-type', 'application/json').send(Buffer.from('{"message":"page not found"}\n')));
  app.setErrorHandler((error, request, reply) => {
    const status = statusOf(error);
    if (status >= 500) log.error({ reqId: request.id, method: request.method, url: pathOf(request), status, err: error }, 'request failed');
    else log.debug({ reqId: request.id, status, reason: messageOf(error) }, 'request refused');
    if (status === 304) return reply.code(304).send();
    const { contentType, text } = errorBody(error, versions.get(request.raw) ?? API_VERSION);
    return reply.code(status).header('content-type', contentType).send(Buffer.from(text));
  });
  for (const operation of operations) {
    const handler = handlers[operation.id];
    if (!handler) throw new Error(`openapi.yaml names ${operation.id}, and nothing handles it`);
    app.route({
      method: operation.method as 'GET', url: operation.url,
      onRequest: (request, _reply, done) => {
        // In the tick of the request: what is behind it reaches Node's parser in the same.
        if (TAKES_OVER.has(operation.id)) expectStrays(request.raw.socket);
        done();
      },
      ...(operation.id === 'ContainerAttachWebsocket' ? webSocketRoute(operation) : {}),
      handler: async (request, reply) => {
        await handler(callOf(operation, request, reply));
        return reply;
      },
    });
  }
  await app.ready();

  function callOf(operation: Operation, request: FastifyRequest, reply: FastifyReply): Call {
    void reply.headers(HEADERS);
    const version = versions.get(request.raw) ?? API_VERSION;
    log.debug({ reqId: request.id, operation: operation.id, method: request.method, url: pathOf(request), version }, 'request');
    checkVersion(version);
    if (!atLeast(version, operation.since)) throw new InvalidParameter(`${operation.method} ${operation.path} requires minimum API version ${operation.since}`);
    return new Call(engine, operation, request, reply, version, check);
  }

  /** Refused while it still is HTTP, so that a refusal is an ordinary answer; opened only then. */
  function webSocketRoute(operation: Operation) {
    const opened = new WeakMap<IncomingMessage, { stream: Duplex; binary: boolean }>();
    return {
      preValidation: async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
        if (request.headers.upgrade?.toLowerCase() !== 'websocket') return;
        const call = callOf(operation, request, reply);
        const stream = await openWebSocket(call);
        request.raw.socket.once('close', () => stream.destroy());
        opened.set(request.raw, { stream, binary: call.atLeast('1.28') });
      },
      wsHandler: (socket: WebSocket, request: FastifyRequest): void => {
        const { stream, binary } = opened.get(request.raw)!;
        relayWebSocket(socket, stream, { binary });
      },
    };
  }

  async function upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    socket.setTimeout(0);
    if (request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket' && /\/attach\/ws(\?|$)/.test(request.url!)) return void webSockets.emit('upgrade', request, socket, head);
    const framing = /chunked/i.test(request.headers['transfer-encoding'] ?? '') ? 'chunked' : Number(request.headers['content-length'] ?? 0) || 0;
    try {
      const { body, rest } = await readUpgradeBody(socket, head, framing, MAX_UPGRADE_BODY);
      upgrades.set(request, { socket, body, rest });
    } catch {
      return void socket.destroy();
    }
    // From here on an ordinary request; a handler that does not take the connection answers on it and closes.
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.on('finish', () => socket.end());
    app.routing(request, response);
  }

  return {
    async listen(fds) {
      const [, ...others] = fds;
      const all = [servers[0]!, ...others.map(() => make((request, response) => app.routing(request, response)))];
      await Promise.all(fds.map((fd, i) => new Promise<void>((resolve, reject) => {
        all[i]!.once('error', reject);
        all[i]!.listen({ fd }, resolve);
      })));
    },
    async close() {
      for (const server of servers) {
        server.close();
        server.closeAllConnections();
      }
    },
  };
}

/** What was asked for, without its query: that may hold what a log should not. */
const pathOf = (request: FastifyRequest): string => request.raw.url!.replace(/\?.*$/, '');

// `/v1.43/x` is `/x` of that version; image names keep their slashes as %2F, so that they are one parameter.
function rewrite(request: IncomingMessage): string {
  // A proxy's client names the server too.
  const asked = request.url!.replace(/^https?:\/\/[^/?]*(?=\/)/i, '');
  const found = /^\/v([0-9.]+)(\/.*)$/.exec(asked);
  if (found) versions.set(request, found[1]!);
  const url = found ? found[2]! : asked;
  const distributed = /^\/distribution\/(.+)\/json(\?.*)?$/.exec(url);
  if (distributed) return `/distribution/${distributed[1]!.replaceAll('/', '%2F')}/json${distributed[2] ?? ''}`;
  const named = /^\/images\/(.+?)\/(json|history|tag|push|get)(\?.*)?$/.exec(url) ?? /^\/images\/((?!(?:json|create|load|get|prune|search)(?:\?|$)).+?)()(\?.*)?$/.exec(url);
  // Elsewhere an escaped slash is a slash, as in Go: /containers/a%2Fb/json leads nowhere.
  if (!named) return /^\/(containers|exec)\//.test(url) ? url.replace(/^[^?]*/, (path) => path.replace(/%2f/gi, '/')) : url;
  const [, name = '', verb = '', query = ''] = named;
  return `/images/${name.replaceAll('/', '%2F')}${verb && `/${verb}`}${query}`;
}
