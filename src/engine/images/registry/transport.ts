/**
 * HTTP with one registry: which of https and http it speaks, where it sends us on to, and the network's errors in
 * Docker's words.
 */
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { VERSION } from '../../../version.ts';
import { goText, MalformedResponse, RegistryUnreachable } from './failure.ts';

const MAX_REDIRECTS = 5;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

export interface Asked {
  method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  headers?: Record<string, string>;
  body?: Buffer | Readable | string;
  signal?: AbortSignal;
}

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Dispatcher.ResponseData['body'];
  /** What was answered: another than what was asked for after a redirection. */
  url: URL;
}

export class Transport {
  readonly isMirror: boolean;
  readonly insecure: boolean;
  /** The one that answered. */
  #base: URL | undefined;

  constructor(
    private readonly bases: URL[],
    private readonly dispatcher: Dispatcher,
    { insecure, isMirror }: { insecure: boolean; isMirror: boolean },
  ) {
    this.insecure = insecure;
    this.isMirror = isMirror;
  }

  /** Where it is asked, or would be first. */
  get base(): URL {
    return this.#base ?? this.bases[0]!;
  }

  /**
   * Asks for a path below the registry's base, or for a URL that it gave. Redirections are followed, without what the
   * headers say of who asks. @throws RegistryUnreachable
   */
  async send(target: string | URL, asked: Asked): Promise<Answer> {
    if (target instanceof URL) return this.#follow(target, asked);
    // An insecure registry may speak either; which one is found out once.
    const bases = this.#base ? [this.#base] : this.bases;
    let failure: unknown;
    for (const base of bases) {
      try {
        const answer = await this.#follow(new URL(`${base.href.replace(/\/$/, '')}/${target}`), asked);
        this.#base = base;
        return answer;
      } catch (error) {
        if (!(error instanceof RegistryUnreachable) || asked.signal?.aborted) throw error;
        // Docker asks for /v2/ first, and its error says so.
        failure = new RegistryUnreachable('GET', `${base.href.replace(/\/$/, '')}/v2/`, error.why, { cause: error });
      }
    }
    this.#base = undefined;
    throw failure instanceof Error ? failure : new MalformedResponse('no registry to ask');
  }

  close = (): Promise<void> => this.dispatcher.destroy();

  async #follow(url: URL, asked: Asked): Promise<Answer> {
    let at = url;
    let { headers = {} } = asked;
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      const answer = await this.#once(at, { ...asked, headers });
      const location = answer.headers.location;
      if (
        !REDIRECTS.has(answer.status) ||
        typeof location !== 'string' ||
        (asked.method !== 'GET' && asked.method !== 'HEAD')
      )
        return answer;
      await discard(answer);
      const next = this.resolve(location, at);
      // Whoever is sent on to must not learn who asks.
      if (next.origin !== at.origin)
        headers = Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'authorization'));
      at = next;
    }
    throw new MalformedResponse(
      `${asked.method[0]}${asked.method.slice(1).toLowerCase()} "${url.href}": stopped after ${MAX_REDIRECTS} redirects`,
    );
  }

  /** A URL that a registry gives. @throws MalformedResponse for one that leads out of HTTP, or out of TLS */
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

  async #once(url: URL, { method, headers, body, signal }: Asked): Promise<Answer> {
    try {
      // Loaded when a registry is first asked: a daemon's start must not pay for it.
      const { request } = await import('undici');
      const answer = await request(url, {
        method,
        dispatcher: this.dispatcher,
        headers: { 'user-agent': `docker/holdfast-${VERSION}`, ...headers },
        ...(body !== undefined && { body }),
        ...(signal && { signal }),
      });
      // Broken off later, it is the reader who is told.
      answer.body.on('error', () => undefined);
      return { status: answer.statusCode, headers: answer.headers, body: answer.body, url };
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new RegistryUnreachable(method, url.href, goText(error, url), { cause: error });
    }
  }
}

/**
 * Reads away a body that nobody wants, so that its connection can be used again; of a long one no more than the
 * beginning.
 */
export async function discard({ body }: Pick<Answer, 'body'>): Promise<void> {
  await body.dump({ limit: 64 * 1024 }).catch(() => undefined);
}

/** @throws MalformedResponse for one that is longer than `limit` */
export async function readAll(
  { body, url }: Pick<Answer, 'body' | 'url'>,
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
