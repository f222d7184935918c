/** The HTTP layer: API versions, common headers, errors. Binds each operation of openapi.yaml to its handler. */
import websocket from '@fastify/websocket';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { randomUUID } from 'node:crypto';
import { createServer as createHttpServer } from 'node:http';
import type { Logger } from 'pino';
import type { Engine } from '../engine/engine.ts';
import { InvalidParameter } from '../model/errors.ts';
import { API_VERSION, VERSION } from '../version.ts';
import { Call, type Handler, type ResponseCheck } from './call.ts';
import { operations, type Operation } from './contract.ts';
import { errorBody, httpStatusOf, messageOf } from './errors.ts';
import { expectEarlyInput } from './hijack.ts';
import { HttpServers, MAX_HEADER_BYTES } from './http-servers.ts';
import { pathOf, rewriteUrl, stripOrigin, versionOf } from './request-path.ts';
import { archiveHandlers } from './routes/archives.ts';
import { containerHandlers } from './routes/containers.ts';
import { execHandlers } from './routes/exec.ts';
import { imageHandlers } from './routes/images.ts';
import { networkHandlers } from './routes/networks.ts';
import { registryHandlers } from './routes/registry.ts';
import { swarmHandlers } from './routes/swarm.ts';
import { systemHandlers } from './routes/system.ts';
import { volumeHandlers } from './routes/volumes.ts';
import { atLeast, checkVersion } from './version.ts';
import { webSocketRoute } from './websocket.ts';

/** Operations that hijack their connection: bytes that follow the request are the client's input. */
const HIJACKING = new Set(['ContainerAttach', 'ContainerWait', 'ExecStart']);
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
  ...swarmHandlers,
};

export interface ApiServer {
  /** Serves on these listening descriptors. */
  listen(fds: number[]): Promise<void>;
  close(): Promise<void>;
}

export interface ServerOptions {
  /** For tests: a JSON response that violates openapi.yaml is logged as an error and replaced by a 500. */
  checkResponses: boolean;
}

/** @throws when an operation of openapi.yaml has no handler */
export async function createServer(
  engine: Engine,
  log: Logger,
  { checkResponses }: ServerOptions = { checkResponses: false },
): Promise<ApiServer> {
  // A server that never listens: on a real one, the plugin would close every connection with `Upgrade: tcp`.
  const webSockets = createHttpServer();
  const servers = new HttpServers({
    route: (request, response) => app.routing(request, response),
    upgradeWebSocket: (request, socket, head) => void webSockets.emit('upgrade', request, socket, head),
  });
  const app = Fastify({
    serverFactory: (handler) => servers.create(handler),
    exposeHeadRoutes: false,
    rewriteUrl: (request) => rewriteUrl(request),
    // No limit of the router's own: a name that is too long is unknown, like any other.
    routerOptions: { maxParamLength: MAX_HEADER_BYTES },
    genReqId: () => randomUUID(),
    clientErrorHandler: () => undefined, // http-servers.ts has its own listener.
    // A path that cannot be decoded. Go's server rejects it before Docker's router, as text.
    frameworkErrors: (_error, _request, reply) =>
      void (reply as unknown as FastifyReply)
        .code(400)
        .header('content-type', 'text/plain; charset=utf-8')
        .send('400 Bad Request'),
  }) as unknown as FastifyInstance;
  behaveAsGo(app);
  await app.register(websocket, { options: { server: webSockets } });
  handleErrors(app, log);
  const check = checkResponses ? await responseCheck(log) : undefined;
  if (check) checkOtherResponses(app, check);
  bindRoutes(app, { engine, log, check });
  await app.ready();
  return {
    listen: (fds) => servers.listen(fds),
    close: () => servers.close(),
  };
}

/** Mimics Go's server and Docker's router around routing. Handlers read their bodies themselves. */
function behaveAsGo(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    if (request.method === 'OPTIONS') return void reply.code(200).send();
    const url = stripOrigin(request.originalUrl);
    // gorilla/mux redirects a path with an empty segment to the cleaned path.
    const cleaned = url.replace(/^[^?]*/, (path) => path.replace(/\/{2,}/g, '/'));
    if (cleaned !== url) return void reply.code(301).header('location', cleaned).send();
    done();
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).header('content-type', 'application/json').send(Buffer.from('{"message":"page not found"}\n')),
  );
}

function handleErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler((error, request, reply) => {
    const { id: reqId, method } = request;
    const status = httpStatusOf(error);
    if (status >= 500) log.error({ reqId, method, url: pathOf(request.raw), status, err: error }, 'request failed');
    else log.debug({ reqId, status, reason: messageOf(error) }, 'request rejected');
    if (status === 304) return reply.code(304).send();
    const { contentType, text } = errorBody(error, versionOf(request.raw));
    return reply.code(status).header('content-type', contentType).send(Buffer.from(text));
  });
}

/** The validator is loaded for tests only: it costs start-up time. */
async function responseCheck(log: Logger): Promise<ResponseCheck> {
  const { contractViolation, CONTRACT_VIOLATION } = await import('./contract-check.ts');
  return (operation, status, json, contentType) => {
    const violation = contractViolation(operation, status, json, contentType);
    if (violation === undefined) return;
    log.error({ violation }, CONTRACT_VIOLATION);
    throw new Error(`${CONTRACT_VIOLATION}: ${violation}`);
  };
}

/** Checks responses that Call.json does not see: errors, and responses without JSON. Violations are only logged. */
function checkOtherResponses(app: FastifyInstance, check: ResponseCheck): void {
  app.addHook('onSend', (request, reply, payload, done) => {
    const { operation } = request.routeOptions.config as { operation?: string };
    const type = payload ? String(reply.getHeader('content-type')).replace(/;.*/, '') : '';
    if (operation !== undefined && request.method !== 'HEAD' && reply.statusCode !== 304) {
      try {
        check(operation, reply.statusCode, type === 'application/json' ? JSON.parse(String(payload)) : undefined, type);
      } catch {
        // The check has logged it; the client gets the response all the same.
      }
    }
    done(null, payload);
  });
}

interface RouteDeps {
  engine: Engine;
  log: Logger;
  check: ResponseCheck | undefined;
}

function bindRoutes(app: FastifyInstance, deps: RouteDeps): void {
  for (const operation of operations) {
    const handler = handlers[operation.id];
    if (!handler) throw new Error(`no handler for the operation ${operation.id} of openapi.yaml`);
    const toCall = (request: FastifyRequest, reply: FastifyReply): Call => callOf(operation, request, reply, deps);
    app.route({
      method: operation.method,
      url: operation.url,
      config: { operation: operation.id },
      onRequest: (request, _reply, done) => {
        // In the tick of the request: bytes that follow it reach Node's parser in the same tick.
        if (HIJACKING.has(operation.id)) expectEarlyInput(request.raw.socket);
        done();
      },
      ...(operation.id === 'ContainerAttachWebsocket' ? webSocketRoute(toCall) : {}),
      handler: async (request, reply) => {
        await handler(toCall(request, reply));
        return reply;
      },
    });
  }
}

/** @throws InvalidParameter when the request's API version is not supported or does not have the operation */
function callOf(operation: Operation, request: FastifyRequest, reply: FastifyReply, deps: RouteDeps): Call {
  const { engine, log, check } = deps;
  void reply.headers(HEADERS);
  const version = versionOf(request.raw);
  const { id: reqId, method } = request;
  log.debug({ reqId, operation: operation.id, method, url: pathOf(request.raw), version }, 'request');
  checkVersion(version);
  if (!atLeast(version, operation.since))
    throw new InvalidParameter(`${operation.method} ${operation.path} requires minimum API version ${operation.since}`);
  return new Call(engine, operation, request, reply, version, check);
}
