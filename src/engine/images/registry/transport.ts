/**
 * HTTP requests to one registry: the choice between https and http, redirections, and network errors in Docker's
 * wording.
 */
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { VERSION } from '../../../version.ts';
import { goText, MalformedResponse, RegistryUnreachable, requestLabel } from './failure.ts';

const MAX_REDIRECTS = 5;
const MAX_DRAINED_BYTES = 64 * 1024;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

export interface RegistryRequest {
  method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  headers?: Record<string, string>;
  body?: Buffer | Readable | string;
  signal?: AbortSignal;
}

export interface RegistryResponse {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Dispatcher.ResponseData['body'];
  /** The URL after redirections. */
  url: URL;
}

export class Transport {
  readonly isMirror: boolean;
  readonly insecure: boolean;
  /** The base URL that worked. */
  #base: URL | undefined;

  /** @param bases the registry's URLs, in the order to try them */
  constructor(
    private readonly bases: URL[],
    private readonly dispatcher: Dispatcher,
    { insecure, isMirror }: { insecure: boolean; isMirror: boolean },
  ) {
    this.insecure = insecure;
    this.isMirror = isMirror;
  }

  /** The URL in use, or the first to try. */
  get base(): URL {
    return this.#base ?? this.bases[0]!;
  }

  /**
   * Sends a request for a path below the registry's base, or for a URL that the registry returned. GET and HEAD follow
   * redirections; another origin does not receive the Authorization header.
   * @throws RegistryUnreachable, MalformedResponse
   */
  async send(target: string | URL, request: RegistryRequest): Promise<RegistryResponse> {
    if (target instanceof URL) return this.#follow(target, request);
    // An insecure registry may use https or http; remembers which one works.
    const bases = this.#base ? [this.#base] : this.bases;
    let failure: unknown;
    for (const base of bases) {
      const root = base.href.replace(/\/$/, '');
      try {
        const response = await this.#follow(new URL(`${root}/${target}`), request);
        this.#base = base;
        return response;
      } catch (error) {
        if (!(error instanceof RegistryUnreachable) || request.signal?.aborted) throw error;
        // Docker requests /v2/ first, and its error names that URL.
        failure = new RegistryUnreachable('GET', `${root}/v2/`, error.why, { cause: error });
      }
    }
    this.#base = undefined;
    throw failure instanceof Error ? failure : new MalformedResponse('no registry to ask');
  }

  close = (): Promise<void> => this.dispatcher.destroy();

  async #follow(first: URL, request: RegistryRequest): Promise<RegistryResponse> {
    const mayRedirect = request.method === 'GET' || request.method === 'HEAD';
    let url = first;
    let { headers = {} } = request;
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      const response = await this.#sendOnce(url, { ...request, headers });
      const { location } = response.headers;
      if (!mayRedirect || !REDIRECTS.has(response.status) || typeof location !== 'string') return response;
      await discard(response);
      const next = this.resolve(location, url);
      // Another host must not receive the credentials.
      if (next.origin !== url.origin)
        headers = Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'authorization'));
      url = next;
    }
    throw new MalformedResponse(
      `${requestLabel(request.method, first.href)}: stopped after ${MAX_REDIRECTS} redirects`,
    );
  }

  /**
   * Resolves a URL in a response.
   * @throws MalformedResponse for other schemes than http(s), and for a downgrade from https unless insecure
   */
  resolve(location: string, from: URL): URL {
    if (!URL.canParse(location, from.href))
      throw new MalformedResponse(`the registry sends to ${JSON.stringify(location.slice(0, 200))}, which is no URL`);
    const url = new URL(location, from);
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw new MalformedResponse(
        `the registry sends to ${JSON.stringify(url.href.slice(0, 200))}: unsupported protocol scheme "${url.protocol.slice(0, -1)}"`,
      );
    if (from.protocol === 'https:' && url.protocol === 'http:' && !this.insecure)
      throw new MalformedResponse(`the registry sends from https to ${url.origin}: refused`);
    url.username = url.password = '';
    return url;
  }

  async #sendOnce(url: URL, { method, headers, body, signal }: RegistryRequest): Promise<RegistryResponse> {
    try {
      // Loaded on first use, to keep it out of the daemon's start.
      const { request } = await import('undici');
      const response = await request(url, {
        method,
        dispatcher: this.dispatcher,
        headers: { 'user-agent': `docker/holdfast-${VERSION}`, ...headers },
        ...(body !== undefined && { body }),
        ...(signal && { signal }),
      });
      // The body's reader receives the error too; without a listener it would be uncaught before that.
      response.body.on('error', () => undefined);
      return { status: response.statusCode, headers: response.headers, body: response.body, url };
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new RegistryUnreachable(method, url.href, goText(error, url), { cause: error });
    }
  }
}

/** Drains an ignored body, so that its connection can be reused; closes the connection if the body is long. */
export async function discard({ body }: Pick<RegistryResponse, 'body'>): Promise<void> {
  await body.dump({ limit: MAX_DRAINED_BYTES }).catch(() => undefined);
}

/** Reads a whole body of at most `limit` bytes. @throws MalformedResponse when it is longer, RegistryUnreachable */
export async function readAll(
  { body, url }: Pick<RegistryResponse, 'body' | 'url'>,
  limit: number,
  method = 'GET',
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > limit) {
        body.destroy();
        throw new MalformedResponse(`${url.href} is longer than ${limit} bytes`);
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof MalformedResponse
      ? error
      : new RegistryUnreachable(method, url.href, goText(error, url), { cause: error });
  }
  return Buffer.concat(chunks);
}
