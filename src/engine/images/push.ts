/**
 * `docker push`: uploads the layers that the registry lacks, the configuration and the manifest. Blobs seen earlier in
 * the same registry are reused.
 */
import { Readable, Transform } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { BlobRow, DistributionRows } from '../../store/distribution.ts';
import { faultPoint } from '../../sys/fault.ts';
import { EngineError, InvalidParameter, NotFound } from '../../model/errors.ts';
import { shortId } from '../../model/short-id.ts';
import { sha256 } from './digest.ts';
import type { Image } from './image.ts';
import type { Images } from './images.ts';
import type { Layer, Layers } from './layers.ts';
import { LayerProgress, type Report } from './progress.ts';
import { familiarName, familiarString, parseReference, repositoryOf, type Reference } from './reference.ts';
import type { Credentials } from './registry/credentials.ts';
import type { Endpoints } from './registry/endpoints.ts';
import { RegistryRefusal, RegistryUnreachable } from './registry/failure.ts';
import { MEDIA, parseManifest, type Descriptor } from './registry/manifest.ts';
import { isFinal, Repository } from './registry/repository.ts';

export interface PushDeps {
  endpoints: Endpoints;
  layers: Layers;
  images: Images;
  rows: DistributionRows;
  /** Layers uploaded at a time. */
  concurrent: number;
}

interface PushRequest {
  reference: Reference;
  repository: Repository;
  report: Report;
  signal: AbortSignal;
}

/** A manifest that the image had in a registry. */
interface KnownManifest {
  bytes: Buffer;
  mediaType: string;
  /** Of the layers, lowest first. */
  digests: string[];
}

interface LayerUpload {
  layer: Layer;
  /** Digests under which known manifests refer to the layer. */
  preferred: Set<string>;
  progress: LayerProgress;
}

const ATTEMPTS = 5;
/** Repositories to try mounting a blob from. */
const MAX_MOUNTS = 4;
const GZIP_CHUNK = 256 * 1024;

export class Pusher {
  constructor(private readonly deps: PushDeps) {}

  /**
   * Pushes one tag, or all of the repository's for a reference without one. The image is then also named by its digest.
   * @throws NotFound, InvalidParameter, EngineError, …
   */
  async push(reference: Reference, credentials: Credentials, report: Report, signal: AbortSignal): Promise<void> {
    report({ status: `The push refers to repository [${repositoryOf(reference)}]` });
    const all = this.deps.images.tagsOf(repositoryOf(reference));
    if (all.length === 0)
      throw new NotFound(`An image does not exist locally with the tag: ${familiarName(reference)}`);
    if (reference.digest !== undefined) throw new InvalidParameter('cannot push a digest reference');
    const asked = all.filter(({ reference: { tag } }) => reference.tag === undefined || tag === reference.tag);
    if (asked.length === 0) throw new NotFound(`tag does not exist: ${familiarString(reference)}`);
    const repository = new Repository(
      await this.deps.endpoints.registry(reference.domain),
      reference.path,
      credentials,
      'pull,push',
    );
    for (const each of asked) {
      try {
        await this.#push(each.id, { reference: each.reference, repository, report, signal });
      } catch (error) {
        signal.throwIfAborted();
        throw error instanceof RegistryRefusal ? new EngineError(error.message, { cause: error }) : error;
      }
    }
  }

  async #push(id: string, request: PushRequest): Promise<void> {
    const { images, layers, rows } = this.deps;
    const { reference, repository, report, signal } = request;
    const image = images.resolveWhole(id);
    const config = images.configOf(id)!;
    const pin = layers.pin();
    try {
      for (const chain of image.chains) pin.chains.add(chain);
      const known = this.#knownManifests(image);
      const descriptors = await this.#pushLayers(image, known, request);
      await this.#pushConfig(config, request);
      faultPoint('push.blobs');
      // With the same blobs the image gets the same manifest again.
      const same = known.find(({ digests }) => digests.every((digest, i) => digest === descriptors[i]!.digest));
      const { bytes, mediaType } = same ?? composeManifest(config, descriptors);
      const digest = sha256(bytes);
      await repository.putManifest(reference.tag!, { bytes, mediaType }, signal);
      report({ status: `${reference.tag}: digest: ${digest} size: ${bytes.length}` });
      images.adopt({ id }, [reference, { domain: reference.domain, path: reference.path, digest }], () =>
        rows.addManifest({ digest, imageId: id, mediaType, bytes }),
      );
      images.recordTransfer(id, 'push', reference);
      report({ aux: { Tag: reference.tag, Digest: digest, Size: bytes.length } });
    } finally {
      pin.release();
      await images.collect();
    }
  }

  #knownManifests(image: Image): KnownManifest[] {
    return this.deps.rows.ofImage(image.id).flatMap(({ bytes, mediaType }) => {
      const manifest = parseManifest(bytes, mediaType, image.id);
      if (manifest.kind !== 'image' || manifest.layers.length !== image.chains.length) return [];
      const ownType = (JSON.parse(bytes.toString()) as { mediaType?: string }).mediaType ?? mediaType;
      return [{ bytes, mediaType: ownType, digests: manifest.layers.map(({ digest }) => digest) }];
    });
  }

  async #pushLayers(image: Image, known: KnownManifest[], request: PushRequest): Promise<Descriptor[]> {
    const stop = new AbortController();
    const onAbort = (): void => stop.abort(request.signal.reason);
    request.signal.addEventListener('abort', onAbort);
    try {
      const queue = this.#planUploads(image, known, request.report);
      for (const { progress } of queue) progress.status('Preparing');
      for (const { progress } of queue.slice(this.deps.concurrent)) progress.status('Waiting');
      const done = new Map<string, Descriptor>();
      const worker = async (): Promise<void> => {
        for (let next = queue.shift(); next; next = queue.shift())
          done.set(next.layer.diffId, await this.#pushLayer(next, { ...request, signal: stop.signal }));
      };
      const workers = Array.from({ length: this.deps.concurrent }, worker);
      try {
        await Promise.all(workers);
      } catch (error) {
        stop.abort(error);
        await Promise.allSettled(workers);
        throw error;
      }
      return image.chains.map((chain) => done.get(this.deps.layers.get(chain)!.diffId)!);
    } finally {
      request.signal.removeEventListener('abort', onAbort);
    }
  }

  // Topmost first, as Docker reports them; a layer that occurs twice is uploaded once.
  #planUploads(image: Image, known: KnownManifest[], report: Report): LayerUpload[] {
    const uploads = new Map<string, LayerUpload>();
    for (const [i, chain] of [...image.chains.entries()].reverse()) {
      const layer = this.deps.layers.get(chain)!;
      const upload = uploads.get(layer.diffId) ?? {
        layer,
        preferred: new Set<string>(),
        progress: new LayerProgress(report, shortId(layer.diffId)),
      };
      for (const { digests } of known) upload.preferred.add(digests[i]!);
      uploads.set(layer.diffId, upload);
    }
    return [...uploads.values()];
  }

  async #pushLayer({ layer, preferred, progress }: LayerUpload, request: PushRequest): Promise<Descriptor> {
    const existing = await this.#findInRegistry(layer.diffId, preferred, progress, request);
    if (existing) return existing;
    for (let attempt = 1; ; attempt++) {
      try {
        const descriptor = { ...(await this.#upload(layer, progress, request)), mediaType: MEDIA.layer };
        progress.status('Pushed');
        this.deps.rows.add({ ...descriptor, diffId: layer.diffId, repository: repositoryOf(request.reference) });
        return descriptor;
      } catch (error) {
        request.signal.throwIfAborted();
        if (!isTransient(error) || attempt >= ATTEMPTS) throw error;
        progress.status(`Retrying in ${attempt} second${attempt === 1 ? '' : 's'}`);
        await new Promise((resolve) => setTimeout(resolve, attempt * 1000));
      }
    }
  }

  // Looks for a blob of the layer in the target repository, then mounts one from another repository.
  async #findInRegistry(
    diffId: string,
    preferred: ReadonlySet<string>,
    progress: LayerProgress,
    { reference, repository, signal }: PushRequest,
  ): Promise<Descriptor | undefined> {
    const { rows } = this.deps;
    const target = repositoryOf(reference);
    // Another compression than gzip is used only if a known manifest refers to it.
    const known = rows
      .ofLayer(diffId)
      .filter(({ digest, mediaType }) => preferred.has(digest) || mediaType.endsWith('gzip'))
      .sort((a, b) => Number(preferred.has(b.digest)) - Number(preferred.has(a.digest)));
    const blobs = [...new Map(known.map((row) => [row.digest, row])).values()];
    for (const blob of blobs) {
      const size = await repository.blobSize(blob.digest, signal).catch(undefinedIfRefused);
      if (size !== undefined) {
        progress.status('Layer already exists');
        return remember(rows, { ...blob, size: size || blob.size, repository: target });
      }
      const repositories = known.filter(({ digest }) => digest === blob.digest).map((row) => row.repository);
      if (repositories.includes(target)) rows.forget({ ...blob, repository: target });
      const sources = repositories
        .filter((name) => name !== target)
        .map(parseReference)
        .filter(({ domain }) => domain === reference.domain);
      for (const { path } of sources.slice(0, MAX_MOUNTS)) {
        const started = await repository.startUpload({ digest: blob.digest, path }, signal).catch(undefinedIfRefused);
        if (started?.mounted) {
          progress.status(`Mounted from ${path}`);
          return remember(rows, { ...blob, repository: target });
        }
        if (started) await started.upload.cancel();
      }
    }
    return undefined;
  }

  async #upload(layer: Layer, progress: LayerProgress, { repository, signal }: PushRequest): Promise<Descriptor> {
    const started = await repository.startUpload(undefined, signal);
    if (started.mounted) throw new EngineError('the registry claims to have a blob that was not named');
    let sent = 0;
    const counted = new Transform({
      transform(chunk: Buffer, _, done) {
        sent += chunk.length;
        progress.bytes('Pushing', sent, Math.max(layer.size, sent));
        done(null, chunk);
      },
    });
    // zlib writes neither time nor name into the gzip header: the same layer compresses to the same blob.
    const gzip = createGzip({ chunkSize: GZIP_CHUNK });
    const source = Readable.from(this.deps.layers.archive(layer), { objectMode: false });
    let localError: Error | undefined;
    const fail = (error: Error): void => {
      localError ??= error;
      gzip.destroy(error);
    };
    source.on('error', fail).pipe(counted).on('error', fail).pipe(gzip);
    gzip.on('close', () => source.destroy());
    try {
      return await started.upload.send(gzip, signal);
    } catch (error) {
      await started.upload.cancel();
      // Not `gzip.errored`: a broken connection destroys its request body with an error, too, and may be retried.
      throw localError ?? error;
    } finally {
      gzip.destroy();
    }
  }

  async #pushConfig(config: Buffer, { repository, signal }: PushRequest): Promise<void> {
    const digest = sha256(config);
    if ((await repository.blobSize(digest, signal).catch(undefinedIfRefused)) !== undefined) return;
    const started = await repository.startUpload(undefined, signal);
    if (!started.mounted) await started.upload.sendAll(digest, config, signal);
  }
}

function remember(rows: DistributionRows, row: BlobRow): Descriptor {
  rows.add(row);
  return { digest: row.digest, size: row.size, mediaType: row.mediaType };
}

// A registry may forbid the look-up or mount but allow the upload: then upload. Not for a failed login.
function undefinedIfRefused(error: unknown): undefined {
  const isLoginFailure = error instanceof RegistryRefusal && error.code === '' && error.status === 401;
  if (error instanceof RegistryRefusal && error.status < 500 && !isLoginFailure) return undefined;
  throw error;
}

const isTransient = (error: unknown): boolean =>
  error instanceof RegistryUnreachable || (error instanceof RegistryRefusal && !isFinal(error) && error.status >= 500);

const isGzip = ({ mediaType }: Descriptor): boolean => mediaType.endsWith('gzip');

// A Docker manifest, or an OCI manifest if a layer has a compression that Docker's media types lack.
function composeManifest(config: Buffer, layers: Descriptor[]): { bytes: Buffer; mediaType: string } {
  const isDocker = layers.every(isGzip);
  const mediaType = isDocker ? MEDIA.manifest : MEDIA.ociManifest;
  const layerType = (layer: Descriptor): string => (isDocker ? MEDIA.layer : MEDIA.ociLayer + ociSuffix(layer));
  const document = {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: isDocker ? MEDIA.config : MEDIA.ociConfig, size: config.length, digest: sha256(config) },
    layers: layers.map((layer) => ({ mediaType: layerType(layer), size: layer.size, digest: layer.digest })),
  };
  // Indented as by Docker: a manifest that Docker pushed gets the same digest again.
  return { bytes: Buffer.from(JSON.stringify(document, null, 3)), mediaType };
}

// `+gzip` or `+zstd`, also for Docker's `.gzip`.
const ociSuffix = ({ mediaType }: Descriptor): string =>
  /(\+zstd|[.+]gzip)$/.exec(mediaType)?.[1]?.replace('.', '+') ?? '';
