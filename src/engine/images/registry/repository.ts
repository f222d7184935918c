/** Requests for one repository's manifests, blobs and tags (OCI distribution-spec). */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { sha256 } from '../digest.ts';
import { isDigest } from '../reference.ts';
import type { Credentials } from './credentials.ts';
import { MalformedResponse, RegistryRefusal } from './failure.ts';
import { ACCEPTED, MAX_MANIFEST_BYTES, type Descriptor } from './manifest.ts';
import { refusalOf, Session } from './session.ts';
import { discard, readAll, type RegistryResponse, type Transport } from './transport.ts';

export interface Manifest {
  digest: string;
  mediaType: string;
  bytes: Buffer;
}

/** A blob's content from `offset`; 0 if the registry cannot resume. */
export interface BlobRange {
  offset: number;
  bytes: AsyncIterable<Buffer>;
}

const MAX_TAG_PAGE_BYTES = 16 * 1024 * 1024;
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
   * Looks a tag or digest up with HEAD. Returns undefined if the response is not usable; `manifest` then gives the
   * reason.
   * @throws RegistryUnreachable
   */
  async head(reference: string, signal: AbortSignal): Promise<Descriptor | undefined> {
    const request = { method: 'HEAD', headers: { accept: ACCEPTED }, signal } as const;
    const response = await this.#session.send(this.#manifestPath(reference), request);
    await discard(response);
    if (response.status !== 200) return undefined;
    const digest = String(response.headers['docker-content-digest'] ?? '');
    if (!isDigest(digest) || !digest.startsWith('sha256:')) return undefined;
    const size = Number(response.headers['content-length']);
    return {
      digest,
      mediaType: String(response.headers['content-type'] ?? ''),
      size: Number.isSafeInteger(size) ? size : 0,
    };
  }

  /**
   * Fetches a manifest by tag or digest, and verifies the latter.
   * @throws RegistryRefusal, MalformedResponse, RegistryUnreachable
   */
  async manifest(reference: string, signal: AbortSignal): Promise<Manifest> {
    const request = { method: 'GET', headers: { accept: ACCEPTED }, signal } as const;
    const response = await this.#session.sendExpecting([200], this.#manifestPath(reference), request);
    const bytes = await readAll(response, MAX_MANIFEST_BYTES);
    const digest = sha256(bytes);
    if (isDigest(reference) && digest !== reference)
      throw new MalformedResponse(`manifest verification failed for digest ${reference}`);
    return { digest, bytes, mediaType: String(response.headers['content-type'] ?? '') };
  }

  /** Fetches an image configuration of at most `limit` bytes and verifies its digest. */
  async config({ digest, size }: Descriptor, limit: number, signal: AbortSignal): Promise<Buffer> {
    if (size > limit)
      throw new MalformedResponse(`blob ${digest} is too long to be an image's configuration (${size} bytes)`);
    const response = await this.#session.sendExpecting([200], this.#blobPath(digest), { method: 'GET', signal });
    const bytes = await readAll(response, limit);
    if (sha256(bytes) !== digest) throw new MalformedResponse(`image config verification failed for digest ${digest}`);
    return bytes;
  }

  /**
   * Opens a blob from `offset`, or from its start if the registry does not support ranges.
   * @throws RegistryRefusal, RegistryUnreachable, MalformedResponse
   */
  async openBlob(digest: string, offset: number, signal: AbortSignal): Promise<BlobRange> {
    const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
    const response = await this.#session.sendExpecting([200, 206, 416], this.#blobPath(digest), {
      method: 'GET',
      headers,
      signal,
    });
    const bytes = response.body as AsyncIterable<Buffer>;
    if (response.status === 200) return { offset: 0, bytes };
    const start = Number(/^bytes (\d+)-/.exec(String(response.headers['content-range'] ?? ''))?.[1] ?? -1);
    if (response.status === 206 && start === offset && offset > 0) return { offset, bytes };
    response.body.destroy();
    if (offset === 0)
      throw new MalformedResponse(`the registry answers ${response.status} to a request for all of ${digest}`);
    return this.openBlob(digest, 0, signal);
  }

  /** A blob's length in bytes, by HEAD; undefined if the repository does not have it. @throws RegistryRefusal */
  async blobSize(digest: string, signal: AbortSignal): Promise<number | undefined> {
    const response = await this.#session.send(this.#blobPath(digest), { method: 'HEAD', signal });
    await discard(response);
    if (response.status === 200) return Number(response.headers['content-length'] ?? 0);
    if (response.status === 404) return undefined;
    throw await refusalOf(response);
  }

  /**
   * Starts an upload, or has the registry mount the blob from another of its repositories instead.
   * @throws RegistryRefusal, RegistryUnreachable
   */
  async startUpload(
    mountFrom: { digest: string; path: string } | undefined,
    signal: AbortSignal,
  ): Promise<{ mounted: true } | { mounted: false; upload: Upload }> {
    if (mountFrom) this.#session.addScope(`repository:${mountFrom.path}:pull`);
    const query = mountFrom
      ? `?${new URLSearchParams({ mount: mountFrom.digest, from: mountFrom.path }).toString()}`
      : '';
    const path = `v2/${this.path}/blobs/uploads/${query}`;
    const response = await this.#session.sendExpecting([201, 202], path, { method: 'POST', body: '', signal });
    await discard(response);
    if (response.status === 201) return { mounted: true };
    return { mounted: false, upload: new Upload(this.#session, this.transport, uploadUrl(response, this.transport)) };
  }

  /** Uploads a manifest under a tag. @throws RegistryRefusal, RegistryUnreachable */
  async putManifest(tag: string, { mediaType, bytes }: Omit<Manifest, 'digest'>, signal: AbortSignal): Promise<void> {
    const response = await this.#session.sendExpecting([200, 201, 202], this.#manifestPath(tag), {
      method: 'PUT',
      headers: { 'content-type': mediaType },
      body: bytes,
      signal,
    });
    await discard(response);
  }

  /** Lists all tags, following the registry's pagination. */
  async tags(signal: AbortSignal): Promise<string[]> {
    const tags: string[] = [];
    let next: string | URL | undefined = `v2/${this.path}/tags/list`;
    for (let pages = 0; next !== undefined && pages < MAX_PAGES; pages++) {
      const response: RegistryResponse = await this.#session.sendExpecting([200], next, { method: 'GET', signal });
      const page = JSON.parse((await readAll(response, MAX_TAG_PAGE_BYTES)).toString()) as { tags?: unknown } | null;
      if (Array.isArray(page?.tags)) tags.push(...page.tags.filter((tag): tag is string => typeof tag === 'string'));
      const link: string | undefined = /<([^>]+)>\s*;\s*rel="?next"?/.exec(String(response.headers.link ?? ''))?.[1];
      next = link === undefined ? undefined : this.transport.resolve(link, response.url);
    }
    return tags;
  }

  #manifestPath = (reference: string): string => `v2/${this.path}/manifests/${reference}`;
  #blobPath = (digest: string): string => `v2/${this.path}/blobs/${digest}`;
}

/** An upload in progress; the registry names a URL for its next step. */
class Upload {
  constructor(
    private readonly session: Session,
    private readonly transport: Transport,
    private url: URL,
  ) {}

  /** Uploads a stream, and has the registry verify its digest. */
  async send(bytes: Readable, signal: AbortSignal): Promise<Descriptor> {
    const hash = createHash('sha256');
    let size = 0;
    bytes.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      size += chunk.length;
    });
    bytes.pause();
    const response = await this.session.sendExpecting([202, 204], this.url, {
      method: 'PATCH',
      headers: { 'content-type': 'application/octet-stream' },
      body: bytes,
      signal,
    });
    await discard(response);
    this.url = uploadUrl(response, this.transport);
    const digest = `sha256:${hash.digest('hex')}`;
    await this.#commit(digest, '', signal);
    return { digest, size, mediaType: '' };
  }

  /** Uploads a blob in one request. */
  async sendAll(digest: string, bytes: Buffer, signal: AbortSignal): Promise<void> {
    await this.#commit(digest, bytes, signal);
  }

  /** Cancels the upload. Ignores failures: registries expire uploads. */
  async cancel(): Promise<void> {
    await this.session.send(this.url, { method: 'DELETE' }).then(discard, () => undefined);
  }

  async #commit(digest: string, body: Buffer | '', signal: AbortSignal): Promise<void> {
    const url = new URL(this.url);
    url.searchParams.set('digest', digest);
    const response = await this.session.sendExpecting([201, 204], url, {
      method: 'PUT',
      headers: { 'content-type': 'application/octet-stream' },
      body,
      signal,
    });
    await discard(response);
  }
}

function uploadUrl(response: RegistryResponse, transport: Transport): URL {
  const { location } = response.headers;
  if (typeof location !== 'string') throw new MalformedResponse('the registry does not say where to upload to');
  return transport.resolve(location, response.url);
}

/** Whether neither a retry nor another endpoint can help. */
export const isFinal = (error: unknown): boolean =>
  error instanceof RegistryRefusal && ['UNAUTHORIZED', 'DENIED', 'UNSUPPORTED'].includes(error.code);
