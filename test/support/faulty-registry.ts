/** A small in-process registry that misbehaves on request: it cuts, delays, redirects or sends wrong data. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { digestOf } from './tar.ts';

export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
const CONFIG = 'application/vnd.docker.container.image.v1+json';
const LAYER = 'application/vnd.docker.image.rootfs.diff.tar.gzip';

export interface Seen {
  method: string;
  url: string;
  range: string | undefined;
  authorization: string | undefined;
}

/** Returns true when it has answered the request, false to let the registry answer. */
export type Fault = (request: IncomingMessage, response: ServerResponse, body: Buffer | undefined) => boolean;

export interface MadeImage {
  digest: string;
  manifest: Buffer;
  config: Buffer;
  /** Digests of the layers' blobs, lowest first. */
  layers: string[];
}

export class FaultyRegistry implements AsyncDisposable {
  readonly seen: Seen[] = [];
  fault: Fault = () => false;
  readonly blobs = new Map<string, Buffer>();
  /** Keyed by `PATH REFERENCE`. */
  readonly #manifests = new Map<string, { bytes: Buffer; type: string }>();

  private constructor(
    readonly host: string,
    private readonly server: Server,
  ) {}

  static async start({
    address = '127.0.0.1',
    tls,
  }: { address?: string; tls?: { cert: string; key: string } } = {}): Promise<FaultyRegistry> {
    const server = tls ? createTlsServer(tls) : createServer();
    await new Promise<void>((resolve) => server.listen(0, address, resolve));
    const { port } = server.address() as AddressInfo;
    const registry = new FaultyRegistry(`${address}:${port}`, server);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => registry.#answer(request, response));
    return registry;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** How many requests had this method and this text in their URL. */
  count = (method: string, part: string): number =>
    this.seen.filter((each) => each.method === method && each.url.includes(part)).length;

  blob(bytes: Buffer): string {
    this.blobs.set(digestOf(bytes), bytes);
    return digestOf(bytes);
  }

  manifest(path: string, tag: string, document: unknown, type: string): string {
    const bytes = Buffer.isBuffer(document) ? document : Buffer.from(JSON.stringify(document));
    for (const reference of [tag, digestOf(bytes)]) this.#manifests.set(`${path} ${reference}`, { bytes, type });
    return digestOf(bytes);
  }

  /** Adds an image made of these tar archives. */
  image(
    path: string,
    tag: string,
    tars: Buffer[],
    {
      architecture = 'amd64',
      os = 'linux',
      compress = (tar: Buffer): Buffer => gzipSync(tar),
      configType = CONFIG,
      layerType = LAYER,
    }: {
      architecture?: string;
      os?: string;
      compress?: (tar: Buffer) => Buffer;
      configType?: string;
      layerType?: string;
    } = {},
  ): MadeImage {
    const config = Buffer.from(
      JSON.stringify({
        architecture,
        os,
        config: { Labels: { made: 'here' } },
        rootfs: { type: 'layers', diff_ids: tars.map(digestOf) },
      }),
    );
    const layers = tars.map((tar) => compress(tar));
    const document = {
      schemaVersion: 2,
      mediaType: DOCKER_MANIFEST,
      config: { mediaType: configType, digest: this.blob(config), size: config.length },
      layers: layers.map((bytes) => ({ mediaType: layerType, digest: this.blob(bytes), size: bytes.length })),
    };
    const manifest = Buffer.from(JSON.stringify(document));
    return {
      digest: this.manifest(path, tag, manifest, DOCKER_MANIFEST),
      manifest,
      config,
      layers: layers.map(digestOf),
    };
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { method = '', url = '' } = request;
    this.seen.push({ method, url, range: request.headers.range, authorization: request.headers.authorization });
    const [, path = '', kind = '', reference = ''] = /^\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)$/.exec(url) ?? [];
    const manifest = kind === 'manifests' ? this.#manifests.get(`${path} ${reference}`) : undefined;
    const body = manifest?.bytes ?? (kind === 'blobs' ? this.blobs.get(reference) : undefined);
    if (this.fault(request, response, body)) return;
    if (url === '/v2/') return void response.writeHead(200).end('{}');
    if (!body)
      return void response.writeHead(404, { 'content-type': 'application/json' }).end(
        method === 'HEAD'
          ? undefined
          : JSON.stringify({
              errors: [
                {
                  code: kind === 'blobs' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN',
                  message: kind === 'blobs' ? 'blob unknown to registry' : 'manifest unknown',
                },
              ],
            }),
      );
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const head = {
      'content-length': body.length - start,
      ...(manifest
        ? { 'content-type': manifest.type, 'docker-content-digest': digestOf(body) }
        : { 'content-type': 'application/octet-stream' }),
      ...(start > 0 && { 'content-range': `bytes ${start}-${body.length - 1}/${body.length}` }),
    };
    response.writeHead(start > 0 ? 206 : 200, head);
    response.end(method === 'HEAD' ? undefined : body.subarray(start));
  }
}
