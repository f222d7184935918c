/** One repository of a registry: its manifests and blobs. OCI distribution-spec. */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { sha256 } from '../digest.ts';
import { isDigest } from '../reference.ts';
import type { Credentials } from './credentials.ts';
import { MalformedResponse, RegistryRefusal } from './failure.ts';
import { ACCEPTED, MAX_MANIFEST, type Descriptor } from './manifest.ts';
import { refused, Session } from './session.ts';
import { discard, readAll, type Answer, type Transport } from './transport.ts';

export interface Manifest {
  digest: string;
  mediaType: string;
  bytes: Buffer;
}

/** A blob's bytes from `offset` on; 0 where the registry does not know how to go on. */
export interface Part {
  offset: number;
  bytes: AsyncIterable<Buffer>;
}

const MAX_TAGS = 16 * 1024 * 1024;
const MAX_PAGES = 1000;

export class Repository {
  readonly #session: Session;

  constructor(
    readonly transport: Transport,
    readonly path: string,
    credentials: Credentials,
    actions: 'pull' | 'pull,push',
  ) {
    this.#session = new Session(transport, credentials, [`repository:${path}:${actions}`]);
  }

  /**
   * What a tag or digest names, by a HEAD; undefined when the registry does not tell (then `manifest` does, or says why
   * not). @throws RegistryUnreachable
   */
  async head(reference: string, signal: AbortSignal): Promise<Descriptor | undefined> {
    const answer = await this.#session.send(this.#manifest(reference), {
      method: 'HEAD',
      headers: { accept: ACCEPTED },
      signal,
    });
    await discard(answer);
    if (answer.status !== 200) return undefined;
    const digest = String(answer.headers['docker-content-digest'] ?? '');
    const size = Number(answer.headers['content-length']);
    return isDigest(digest) && digest.startsWith('sha256:')
      ? { digest, mediaType: String(answer.headers['content-type'] ?? ''), size: Number.isSafeInteger(size) ? size : 0 }
      : undefined;
  }

  /** By tag or digest; what comes is what its digest says. @throws RegistryRefusal, MalformedResponse, RegistryUnreachable */
  async manifest(reference: string, signal: AbortSignal): Promise<Manifest> {
    const answer = await this.#session.demand(
      this.#manifest(reference),
      { method: 'GET', headers: { accept: ACCEPTED }, signal },
      [200],
    );
    const bytes = await readAll(answer, MAX_MANIFEST);
    const digest = sha256(bytes);
    if (isDigest(reference) && digest !== reference)
      throw new MalformedResponse(`manifest verification failed for digest ${reference}`);
    return { digest, bytes, mediaType: String(answer.headers['content-type'] ?? '') };
  }

  /** A blob that is read whole, verified. */
  async document({ digest, size }: Descriptor, limit: number, signal: AbortSignal): Promise<Buffer> {
    if (size > limit)
      throw new MalformedResponse(`blob ${digest} is too long to be an image's configuration (${size} bytes)`);
    const answer = await this.#session.demand(this.#blob(digest), { method: 'GET', signal }, [200]);
    const bytes = await readAll(answer, limit);
    if (sha256(bytes) !== digest) throw new MalformedResponse(`image config verification failed for digest ${digest}`);
    return bytes;
  }

  /** @throws RegistryRefusal, RegistryUnreachable */
  async open(digest: string, offset: number, signal: AbortSignal): Promise<Part> {
    const answer = await this.#session.demand(
      this.#blob(digest),
      { method: 'GET', headers: offset > 0 ? { range: `bytes=${offset}-` } : {}, signal },
      [200, 206, 416],
    );
    if (answer.status === 200) return { offset: 0, bytes: answer.body as AsyncIterable<Buffer> };
    const start = Number(/^bytes (\d+)-/.exec(String(answer.headers['content-range'] ?? ''))?.[1] ?? -1);
    if (answer.status === 206 && start === offset && offset > 0)
      return { offset, bytes: answer.body as AsyncIterable<Buffer> };
    answer.body.destroy();
    if (offset === 0)
      throw new MalformedResponse(`the registry answers ${answer.status} to a request for all of ${digest}`);
    return this.open(digest, 0, signal);
  }

  /** Its length, by a HEAD; undefined when the repository has no such blob. */
  async has(digest: string, signal: AbortSignal): Promise<number | undefined> {
    const answer = await this.#session.send(this.#blob(digest), { method: 'HEAD', signal });
    await discard(answer);
    if (answer.status === 200) return Number(answer.headers['content-length'] ?? 0);
    if (answer.status === 404) return undefined;
    // A HEAD's refusal has no words: none is invented but that of its status.
    throw await refused(answer);
  }

  /**
   * Opens an upload, or has the blob taken over from another repository of the same registry: then there is nothing to
   * upload.
   */
  async begin(
    from: { digest: string; path: string } | undefined,
    signal: AbortSignal,
  ): Promise<{ mounted: true } | { mounted: false; upload: Upload }> {
    if (from) this.#session.widen(`repository:${from.path}:pull`);
    const query = from ? `?${new URLSearchParams({ mount: from.digest, from: from.path }).toString()}` : '';
    const answer = await this.#session.demand(
      `v2/${this.path}/blobs/uploads/${query}`,
      { method: 'POST', body: '', signal },
      [201, 202],
    );
    await discard(answer);
    if (answer.status === 201) return { mounted: true };
    return { mounted: false, upload: new Upload(this.#session, this.transport, location(answer, this.transport)) };
  }

  async put(tag: string, { mediaType, bytes }: Omit<Manifest, 'digest'>, signal: AbortSignal): Promise<void> {
    await discard(
      await this.#session.demand(
        this.#manifest(tag),
        { method: 'PUT', headers: { 'content-type': mediaType }, body: bytes, signal },
        [200, 201, 202],
      ),
    );
  }

  /** All tags, page by page. */
  async tags(signal: AbortSignal): Promise<string[]> {
    const tags: string[] = [];
    let next: string | URL | undefined = `v2/${this.path}/tags/list`;
    for (let pages = 0; next !== undefined && pages < MAX_PAGES; pages++) {
      const answer: Answer = await this.#session.demand(next, { method: 'GET', signal }, [200]);
      const page = JSON.parse((await readAll(answer, MAX_TAGS)).toString()) as { tags?: unknown } | null;
      if (Array.isArray(page?.tags)) tags.push(...page.tags.filter((tag): tag is string => typeof tag === 'string'));
      const link: string | undefined = /<([^>]+)>\s*;\s*rel="?next"?/.exec(String(answer.headers.link ?? ''))?.[1];
      next = link === undefined ? undefined : this.transport.resolve(link, answer.url);
    }
    return tags;
  }

  #manifest = (reference: string): string => `v2/${this.path}/manifests/${reference}`;
  #blob = (digest: string): string => `v2/${this.path}/blobs/${digest}`;
}

/** A blob on its way to the registry. */
class Upload {
  constructor(
    private readonly session: Session,
    private readonly transport: Transport,
    private at: URL,
  ) {}

  /** Sends all of `bytes`; the registry is told its digest, and checks it. */
  async send(bytes: Readable, signal: AbortSignal): Promise<Descriptor> {
    const hash = createHash('sha256');
    let size = 0;
    bytes.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      size += chunk.length;
    });
    bytes.pause();
    const answer = await this.session.demand(
      this.at,
      { method: 'PATCH', headers: { 'content-type': 'application/octet-stream' }, body: bytes, signal },
      [202, 204],
    );
    await discard(answer);
    this.at = location(answer, this.transport);
    const digest = `sha256:${hash.digest('hex')}`;
    await this.#commit(digest, '', signal);
    return { digest, size, mediaType: '' };
  }

  /** Sends a blob that is at hand. */
  async sendAll(digest: string, bytes: Buffer, signal: AbortSignal): Promise<void> {
    await this.#commit(digest, bytes, signal);
  }

  /** Gives it up; the registry forgets it sooner or later anyway. */
  async cancel(): Promise<void> {
    await this.session.send(this.at, { method: 'DELETE' }).then(discard, () => undefined);
  }

  async #commit(digest: string, body: Buffer | '', signal: AbortSignal): Promise<void> {
    const at = new URL(this.at);
    at.searchParams.set('digest', digest);
    await discard(
      await this.session.demand(
        at,
        { method: 'PUT', headers: { 'content-type': 'application/octet-stream' }, body, signal },
        [201, 204],
      ),
    );
  }
}

function location(answer: Answer, transport: Transport): URL {
  const { location } = answer.headers;
  if (typeof location !== 'string') throw new MalformedResponse('the registry does not say where to upload to');
  return transport.resolve(location, answer.url);
}

/** Whether it is no use to ask another endpoint, or again. */
export const isFinal = (error: unknown): boolean =>
  error instanceof RegistryRefusal && ['UNAUTHORIZED', 'DENIED', 'UNSUPPORTED'].includes(error.code);
