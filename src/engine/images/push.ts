/**
 * `docker push`: layers that the registry lacks, the configuration, the manifest. What it has already is found by what
 * was seen there before.
 */
import { Readable, Transform } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { BlobRow, DistributionRows } from '../../store/distribution.ts';
import { faultPoint } from '../../sys/fault.ts';
import { EngineError, InvalidParameter, NotFound } from '../../model/errors.ts';
import { sha256 } from './digest.ts';
import type { Image } from './image.ts';
import type { Images } from './images.ts';
import type { Layer, Layers } from './layers.ts';
import { LayerProgress, type Report } from './progress.ts';
import { familiarName, familiarString, parseReference, repositoryOf, shortId, type Reference } from './reference.ts';
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
  /** Layers that go at a time. */
  concurrent: number;
}

interface Ask {
  reference: Reference;
  repository: Repository;
  report: Report;
  signal: AbortSignal;
}

const ATTEMPTS = 5;
const MAX_MOUNTS = 4;
const GZIP_CHUNK = 256 * 1024;

export class Pusher {
  constructor(private readonly deps: PushDeps) {}

  /**
   * Pushes one tag, or all of the repository's for a reference without one. The tags' digests become names of theirs.
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

  async #push(id: string, ask: Ask): Promise<void> {
    const { images, layers, rows } = this.deps;
    const { reference, repository, report, signal } = ask;
    const image = images.resolve(id);
    const config = images.configOf(id)!;
    const pin = layers.pin();
    try {
      for (const chain of image.chains) pin.chains.add(chain);
      const kept = this.#kept(image);
      const descriptors = await this.#layers(
        image,
        kept.map(({ digests }) => digests),
        ask,
      );
      await this.#config(config, ask);
      faultPoint('push.blobs');
      const same = kept.find(({ digests }) => digests.every((digest, i) => digest === descriptors[i]!.digest));
      const { bytes, mediaType } = same ?? composed(config, descriptors);
      const digest = sha256(bytes);
      await repository.put(reference.tag!, { bytes, mediaType }, signal);
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

  /** Manifests that the image had elsewhere: with the same blobs it gets the same one again. */
  #kept(image: Image): { bytes: Buffer; mediaType: string; digests: string[] }[] {
    return this.deps.rows.ofImage(image.id).flatMap(({ bytes, mediaType }) => {
      const manifest = parseManifest(bytes, mediaType, image.id);
      if (manifest.kind !== 'image' || manifest.layers.length !== image.chains.length) return [];
      const told = (JSON.parse(bytes.toString()) as { mediaType?: string }).mediaType ?? mediaType;
      return [{ bytes, mediaType: told, digests: manifest.layers.map(({ digest }) => digest) }];
    });
  }

  // Topmost first, as Docker tells them; a layer that comes twice goes once.
  async #layers(image: Image, kept: string[][], ask: Ask): Promise<Descriptor[]> {
    const stop = new AbortController();
    const end = (): void => stop.abort(ask.signal.reason);
    ask.signal.addEventListener('abort', end);
    try {
      const going = new Map<string, { layer: Layer; preferred: Set<string>; progress: LayerProgress }>();
      for (const [i, chain] of [...image.chains.entries()].reverse()) {
        const layer = this.deps.layers.get(chain)!;
        const entry = going.get(layer.diffId) ?? {
          layer,
          preferred: new Set<string>(),
          progress: new LayerProgress(ask.report, shortId(layer.diffId)),
        };
        for (const digests of kept) entry.preferred.add(digests[i]!);
        going.set(layer.diffId, entry);
      }
      const queue = [...going.values()];
      for (const { progress } of queue) progress.status('Preparing');
      for (const { progress } of queue.slice(this.deps.concurrent)) progress.status('Waiting');
      const done = new Map<string, Descriptor>();
      const worker = async (): Promise<void> => {
        for (let next = queue.shift(); next; next = queue.shift())
          done.set(
            next.layer.diffId,
            await this.#layer(next.layer, next.preferred, next.progress, { ...ask, signal: stop.signal }),
          );
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
      ask.signal.removeEventListener('abort', end);
    }
  }

  async #layer(layer: Layer, preferred: ReadonlySet<string>, progress: LayerProgress, ask: Ask): Promise<Descriptor> {
    const found = await this.#found(layer.diffId, preferred, progress, ask);
    if (found) return found;
    for (let attempt = 1; ; attempt++) {
      try {
        const descriptor = { ...(await this.#upload(layer, progress, ask)), mediaType: MEDIA.layer };
        progress.status('Pushed');
        this.deps.rows.add({ ...descriptor, diffId: layer.diffId, repository: repositoryOf(ask.reference) });
        return descriptor;
      } catch (error) {
        ask.signal.throwIfAborted();
        const again =
          error instanceof RegistryUnreachable ||
          (error instanceof RegistryRefusal && !isFinal(error) && error.status >= 500);
        if (!again || attempt >= ATTEMPTS) throw error;
        progress.status(`Retrying in ${attempt} second${attempt === 1 ? '' : 's'}`);
        await new Promise((resolve) => setTimeout(resolve, attempt * 1000));
      }
    }
  }

  /** The layer as this registry has it: in the repository, or taken over from another one. */
  async #found(
    diffId: string,
    preferred: ReadonlySet<string>,
    progress: LayerProgress,
    { reference, repository, signal }: Ask,
  ): Promise<Descriptor | undefined> {
    const { rows } = this.deps;
    const target = repositoryOf(reference);
    // Another form than gzip goes only where a manifest wants it.
    const known = rows
      .ofLayer(diffId)
      .filter(({ digest, mediaType }) => preferred.has(digest) || mediaType.endsWith('gzip'));
    known.sort((a, b) => Number(preferred.has(b.digest)) - Number(preferred.has(a.digest)));
    const digests = [...new Map(known.map((row) => [row.digest, row])).values()];
    for (const row of digests) {
      const size = await repository.has(row.digest, signal).catch(nothingIfRefused);
      if (size !== undefined) {
        progress.status('Layer already exists');
        return remember(rows, { ...row, size: size || row.size, repository: target });
      }
      if (known.some(({ digest, repository: where }) => digest === row.digest && where === target))
        rows.forget({ ...row, repository: target });
      const sources = known
        .filter(({ digest, repository: where }) => digest === row.digest && where !== target)
        .map(({ repository: where }) => parseReference(where))
        .filter(({ domain }) => domain === reference.domain);
      for (const { path } of sources.slice(0, MAX_MOUNTS)) {
        const begun = await repository.begin({ digest: row.digest, path }, signal).catch(nothingIfRefused);
        if (begun?.mounted) {
          progress.status(`Mounted from ${path}`);
          return remember(rows, { ...row, repository: target });
        }
        if (begun) await begun.upload.cancel();
      }
    }
    return undefined;
  }

  async #upload(layer: Layer, progress: LayerProgress, { repository, signal }: Ask): Promise<Descriptor> {
    const begun = await repository.begin(undefined, signal);
    if (begun.mounted) throw new EngineError('the registry claims to have a blob that was not named');
    let sent = 0;
    const counted = new Transform({
      transform(chunk: Buffer, _, done) {
        sent += chunk.length;
        progress.bytes('Pushing', sent, Math.max(layer.size, sent));
        done(null, chunk);
      },
    });
    // No time and no name in its head: the same layer gives the same bytes.
    const gzip = createGzip({ chunkSize: GZIP_CHUNK });
    const source = Readable.from(this.deps.layers.archive(layer), { objectMode: false });
    let own: Error | undefined;
    const fail = (error: Error): void => {
      own ??= error;
      gzip.destroy(error);
    };
    source.on('error', fail).pipe(counted).on('error', fail).pipe(gzip);
    gzip.on('close', () => source.destroy());
    try {
      return await begun.upload.send(gzip, signal);
    } catch (error) {
      await begun.upload.cancel();
      // Not gzip.errored: a connection that breaks destroys what it was sending, with an error of its own, and that is
      // no reason not to try again.
      throw own ?? error;
    } finally {
      gzip.destroy();
    }
  }

  async #config(config: Buffer, { repository, signal }: Ask): Promise<void> {
    const digest = sha256(config);
    if ((await repository.has(digest, signal).catch(nothingIfRefused)) !== undefined) return;
    const begun = await repository.begin(undefined, signal);
    if (!begun.mounted) await begun.upload.sendAll(digest, config, signal);
  }
}

function remember(rows: DistributionRows, row: BlobRow): Descriptor {
  rows.add(row);
  return { digest: row.digest, size: row.size, mediaType: row.mediaType };
}

// Whether something is there may be nobody's business: then it is pushed, and that is allowed or refused.
function nothingIfRefused(error: unknown): undefined {
  if (error instanceof RegistryRefusal && error.status < 500 && !(error.code === '' && error.status === 401))
    return undefined;
  throw error;
}

const isGzip = ({ mediaType }: Descriptor): boolean => mediaType.endsWith('gzip');

/** Docker's manifest; OCI's where a layer has a form that Docker's does not know. */
function composed(config: Buffer, layers: Descriptor[]): { bytes: Buffer; mediaType: string } {
  const docker = layers.every(isGzip);
  const mediaType = docker ? MEDIA.manifest : MEDIA.ociManifest;
  const type = (layer: Descriptor): string =>
    docker ? MEDIA.layer : MEDIA.ociLayer + (/(\+zstd|[.+]gzip)$/.exec(layer.mediaType)?.[1]?.replace('.', '+') ?? '');
  const document = {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: docker ? MEDIA.config : MEDIA.ociConfig, size: config.length, digest: sha256(config) },
    layers: layers.map((layer) => ({ mediaType: type(layer), size: layer.size, digest: layer.digest })),
  };
  // Docker's own indentation: an image that came by such a manifest gets the same digest.
  return { bytes: Buffer.from(JSON.stringify(document, null, 3)), mediaType };
}
