/** The HTTP layer: versions, headers, errors; routes are bound from the contract. */
import websocket from '@fastify/websocket';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { randomUUID } from 'node:crypto';
import { createServer as createHttpServer } from 'node:http';
import type { Logger } from 'pino';
import type { Engine } from '../engine/engine.ts';
import { InvalidParameter } from '../model/errors.ts';
import { API_VERSION, VERSION } from '../version.ts';
import { Call, type AnswerCheck, type Handler } from './call.ts';
import { operations, type Operation } from './contract.ts';
import { errorBody, messageOf, statusOf } from './errors.ts';
import { expectStrays } from './hijack.ts';
import { HttpServers } from './http-servers.ts';
import { pathOf, rewriteUrl, versionOf } from './request-path.ts';
import { archiveHandlers } from './routes/archives.ts';
import { containerHandlers } from './routes/containers.ts';
import { execHandlers } from './routes/exec.ts';
import { imageHandlers } from './routes/images.ts';
import { networkHandlers } from './routes/networks.ts';
import { registryHandlers } from './routes/registry.ts';
import { systemHandlers } from './routes/system.ts';
import { volumeHandlers } from './routes/volumes.ts';
import { atLeast, checkVersion } from './version.ts';
import { webSocketRoute } from './websocket.ts';

/** Operations that take their connection over: what a client sends behind such a request is its input. */
const TAKES_OVER = new Set(['ContainerAttach', 'ContainerWait', 'ExecStart']);
const HEADERS = {
  'api-version': API_VERSION,
  'docker-experimental': 'false',
  ostype: 'linux',
  server: `Docker/${VERSION} (linux)`,
};

const handlers: Record<string, Handler> = {
  ...systemHandlers,
  ...containerHandlers,
  ...archiveHandlers,
  ...execHandlers,
  ...imageHandlers,
  ...registryHandlers,
  ...networkHandlers,
  ...volumeHandlers,
};

export interface ApiServer {
  /** Serves on these listening descriptors. */
  listen(fds: number[]): Promise<void>;
  close(): Promise<void>;
}

export interface ServerOptions {
  /**
   * Every JSON answer is held against the contract; one that does not fit becomes a 500 and an error in the log. For
   * tests.
   */
  checkAnswers: boolean;
}

/** @throws when an operation of the contract has no handler */
export async function createServer(
  engine: Engine,
  log: Logger,
  { checkAnswers }: ServerOptions = { checkAnswers: false },
): Promise<ApiServer> {
  // On a server that never listens: on its own it would close every `Upgrade: tcp` (parts.md).
  const webSockets = createHttpServer();
  const servers = new HttpServers({
    route: (request, response) => app.routing(request, response),
    webSocket: (request, socket, head) => void webSockets.emit('upgrade', request, socket, head),
  });
  const app = Fastify({
    serverFactory: (handler) => servers.make(handler),
    exposeHeadRoutes: false,
    rewriteUrl: (request) => rewriteUrl(request),
    routerOptions: { maxParamLength: 4096 },
    genReqId: () => randomUUID(),
    clientErrorHandler: () => undefined, // Each server has its own listener (http-servers.ts).
    // A path that cannot be decoded: Go's server does not get as far as JSON either.
    frameworkErrors: (_error, _request, reply) =>
      void (reply as unknown as FastifyReply)
        .code(400)
        .header('content-type', 'text/plain; charset=utf-8')
        .send('400 Bad Request'),
  }) as unknown as FastifyInstance;
  behaveAsGo(app);
  await app.register(websocket, { options: { server: webSockets } });
  answerErrors(app, log);
  const check = checkAnswers ? await answerCheck(log) : undefined;
  if (check) checkRefusals(app, check);
  bindRoutes(app, { engine, log, check });
  await app.ready();
  return {
    listen: (fds) => servers.listen(fds),
    close: async () => servers.close(),
  };
}

/**
 * What Go's server and Docker's router do before a route is looked for, and where there is none. Bodies are read by the
 * routes.
 */
function behaveAsGo(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    const path = pathOf(request.raw);
    if (request.method === 'OPTIONS') return void reply.code(200).send();
    // gorilla/mux sends a client with an empty name in its path to the cleaned one.
    if (path.includes('//'))
      return void reply
        .code(301)
        .header('location', path.replace(/\/{2,}/g, '/'))
        .send();
    done();
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).header('content-type', 'application/json').send(Buffer.from('{"message":"page not found"}\n')),
  );
}

function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler((error, request, reply) => {
    const status = statusOf(error);
    if (status >= 500)
      log.error(
        { reqId: request.id, method: request.method, url: pathOf(request.raw), status, err: error },
        'request failed',
      );
    else log.debug({ reqId: request.id, status, reason: messageOf(error) }, 'request refused');
    if (status === 304) return reply.code(304).send();
    const { contentType, text } = errorBody(error, versionOf(request.raw));
    return reply.code(status).header('content-type', contentType).send(Buffer.from(text));
  });
}

/** Loaded for tests only: the validator costs time at start. */
async function answerCheck(log: Logger): Promise<AnswerCheck> {
  const { misfit, MISFIT } = await import('./contract-check.ts');
  return (operation, status, answer, type) => {
    const found = misfit(operation, status, answer, type);
    if (found === undefined) return;
    log.error({ misfit: found }, MISFIT);
    throw new Error(`${MISFIT}: ${found}`);
  };
}

/** What no handler has answered by itself: errors, and JSON that is not there. What does not fit is in the log. */
function checkRefusals(app: FastifyInstance, check: AnswerCheck): void {
  app.addHook('onSend', (request, reply, payload, done) => {
    const operation = (request.routeOptions.config as { operation?: string }).operation;
    const type = payload ? String(reply.getHeader('content-type')).replace(/;.*/, '') : '';
    if (operation !== undefined && request.method !== 'HEAD' && reply.statusCode !== 304) {
      try {
        check(operation, reply.statusCode, type === 'application/json' ? JSON.parse(String(payload)) : undefined, type);
      } catch {
        // It is told of, and the client gets what it would get.
      }
    }
    done(null, payload);
  });
}

function bindRoutes(
  app: FastifyInstance,
  { engine, log, check }: { engine: Engine; log: Logger; check: AnswerCheck | undefined },
): void {
  const callOf = (operation: Operation, request: FastifyRequest, reply: FastifyReply): Call => {
    void reply.headers(HEADERS);
    const version = versionOf(request.raw);
    log.debug(
      { reqId: request.id, operation: operation.id, method: request.method, url: pathOf(request.raw), version },
      'request',
    );
    checkVersion(version);
    if (!atLeast(version, operation.since))
      throw new InvalidParameter(
        `${operation.method} ${operation.path} requires minimum API version ${operation.since}`,
      );
    return new Call(engine, operation, request, reply, version, check);
  };
  for (const operation of operations) {
    const handler = handlers[operation.id];
    if (!handler) throw new Error(`openapi.yaml names ${operation.id}, and nothing handles it`);
    app.route({
      method: operation.method,
      url: operation.url,
      config: { operation: operation.id },
      onRequest: (request, _reply, done) => {
        // In the tick of the request: what is behind it reaches Node's parser in the same.
        if (TAKES_OVER.has(operation.id)) expectStrays(request.raw.socket);
        done();
      },
      ...(operation.id === 'ContainerAttachWebsocket'
        ? webSocketRoute((request, reply) => callOf(operation, request, reply))
        : {}),
      handler: async (request, reply) => {
        await handler(callOf(operation, request, reply));
        return reply;
      },
    });
  }
}
