/** `docker pull`: manifest, configuration, layers; each verified by its digest, in as few requests as there can be. */
import type { DistributionRows } from '../../store/distribution.ts';
import { faultPoint } from '../../sys/fault.ts';
import { EngineError, InvalidParameter, NotFound } from '../../model/errors.ts';
import { readConfig } from './config-form.ts';
import { chainIds } from './digest.ts';
import type { Downloads, Stage } from './downloads.ts';
import type { ImageConfig } from './image.ts';
import { hostArchitecture } from '../architecture.ts';
import type { Images } from './images.ts';
import { DigestMismatch, type Layers } from './layers.ts';
import { LayerProgress, type Report } from './progress.ts';
import {
  canonicalString,
  familiarName,
  familiarString,
  repositoryOf,
  shortId,
  withTag,
  type Reference,
} from './reference.ts';
import type { Credentials } from './registry/credentials.ts';
import type { Endpoints } from './registry/endpoints.ts';
import { MalformedResponse, RegistryRefusal } from './registry/failure.ts';
import {
  checkConfigType,
  choose,
  matches,
  MAX_CONFIG,
  parseManifest,
  platformText,
  type Descriptor,
  type ImageManifest,
  type Platform,
} from './registry/manifest.ts';
import { Repository, type Manifest } from './registry/repository.ts';
import type { Transport } from './registry/transport.ts';

export interface PullDeps {
  endpoints: Endpoints;
  downloads: Downloads;
  layers: Layers;
  images: Images;
  rows: DistributionRows;
}

export interface PullOptions {
  credentials: Credentials;
  /** The host's unless given. */
  platform?: Platform;
}

interface Ask {
  /** With a tag or a digest. */
  reference: Reference;
  repository: Repository;
  wanted: Platform;
  report: Report;
  signal: AbortSignal;
}

export class Puller {
  constructor(private readonly deps: PullDeps) {}

  /**
   * Pulls one image, or all of a repository for a reference with neither tag nor digest. @throws NotFound,
   * InvalidParameter, …; partly pulled layers wait for the next pull
   */
  async pull(reference: Reference, options: PullOptions, report: Report, signal: AbortSignal): Promise<void> {
    if (reference.tag !== undefined || reference.digest !== undefined)
      return this.#pull(reference, options, report, signal);
    const tags = await this.#anywhere(reference, options, signal, (repository) => repository.tags(signal));
    if (tags.length === 0) throw new NotFound(`no tags found for ${familiarName(reference)}`);
    for (const tag of tags) await this.#pull(withTag(reference, tag), options, report, signal);
  }

  async #pull(reference: Reference, options: PullOptions, report: Report, signal: AbortSignal): Promise<void> {
    const wanted = options.platform ?? { os: 'linux', architecture: hostArchitecture };
    const { id, changed } = await this.#anywhere(reference, options, signal, (repository) =>
      this.#fetch({ reference, repository, wanted, report, signal }),
    );
    report({
      status: `Status: ${changed ? 'Downloaded newer image' : 'Image is up to date'} for ${familiarString(reference)}`,
    });
    this.deps.images.recordTransfer(id, 'pull', reference);
    // As Docker: there was but one platform to be had, and it is not the one that was asked for. Somebody may have
    // removed it since.
    const image = options.platform && this.deps.images.find(id);
    if (options.platform && image && !matches(image.config, options.platform)) {
      report({
        status: `WARNING: image with reference ${familiarString(reference)} was found but its platform (${platformText(image.config)}) does not match the specified platform (${platformText(options.platform)})`,
      });
    }
  }

  async #anywhere<T>(
    reference: Reference,
    { credentials }: PullOptions,
    signal: AbortSignal,
    work: (repository: Repository) => Promise<T>,
  ): Promise<T> {
    const endpoints = await this.deps.endpoints.toPull(reference.domain);
    for (const [i, transport] of endpoints.entries()) {
      try {
        return await work(new Repository(transport, reference.path, credentials, 'pull'));
      } catch (error) {
        signal.throwIfAborted();
        if (i === endpoints.length - 1 || !mayBeElsewhere(error, transport)) throw translated(error, reference);
      }
    }
    throw new NotFound(`no endpoints found for ${familiarString(reference)}`);
  }

  async #fetch(ask: Ask): Promise<{ id: string; changed: boolean }> {
    const { reference, repository, wanted, report, signal } = ask;
    const { images } = this.deps;
    const asked = reference.digest ?? reference.tag!;
    const shown = reference.digest === undefined ? asked : canonicalString(withDigest(reference, asked));
    const head = await repository.head(asked, signal);
    const present = head && images.findByName(withDigest(reference, head.digest));
    if (present && matches(present.config, wanted)) {
      report({ id: shown, status: `Pulling from ${reference.path}` });
      report({ status: `Digest: ${head.digest}` });
      return images.adopt({ id: present.id }, [named(reference, head.digest), withDigest(reference, head.digest)]);
    }
    const top = await repository.manifest(head?.digest ?? asked, signal);
    faultPoint('pull.manifest');
    report({ id: shown, status: `Pulling from ${reference.path}` });
    const { own, manifest } = await this.#ofPlatform(top, ask);
    checkConfigType(manifest.config, familiarString(reference));
    const bytes = await repository.document(manifest.config, MAX_CONFIG, signal);
    const diffIds = diffIdsOf(bytes, manifest);
    faultPoint('pull.config');
    const pin = this.deps.layers.pin();
    const lease = this.deps.downloads.lease(manifest.layers.map(({ digest }) => digest));
    let finished = false;
    try {
      await new LayerPull(this.deps, ask, manifest.layers, diffIds).run(pin);
      faultPoint('pull.unpacked');
      report({ status: `Digest: ${top.digest}` });
      const adopted = images.adopt(
        { config: bytes, diffIds },
        [named(reference, top.digest), withDigest(reference, top.digest)],
        (imageId) => {
          for (const [i, { digest, size, mediaType }] of manifest.layers.entries())
            this.deps.rows.add({ diffId: diffIds[i]!, digest, size, mediaType, repository: repositoryOf(reference) });
          this.deps.rows.addManifest({ digest: own.digest, imageId, mediaType: own.mediaType, bytes: own.bytes });
        },
      );
      faultPoint('pull.adopted');
      finished = true;
      return adopted;
    } finally {
      pin.release();
      await lease.end({ finished });
      if (finished) await this.deps.downloads.sweep();
      else await images.collect();
    }
  }

  async #ofPlatform(
    top: Manifest,
    { reference, repository, wanted, signal }: Ask,
  ): Promise<{ own: Manifest; manifest: ImageManifest }> {
    const name = familiarString(reference);
    const parsed = parseManifest(top.bytes, top.mediaType, name);
    if (parsed.kind === 'image') return { own: top, manifest: parsed };
    const own = await repository.manifest(choose(parsed, wanted).digest, signal);
    const manifest = parseManifest(own.bytes, own.mediaType, name);
    if (manifest.kind !== 'image') throw new MalformedResponse(`the manifest list of ${name} leads to another list`);
    return { own, manifest };
  }
}

/** The layers of one image: they come side by side, and are unpacked one upon the other. */
class LayerPull {
  readonly #chains: string[];
  readonly #stop: AbortController;

  constructor(
    private readonly deps: PullDeps,
    private readonly ask: Ask,
    private readonly layers: Descriptor[],
    private readonly diffIds: string[],
  ) {
    this.#chains = chainIds(diffIds);
    this.#stop = new AbortController();
  }

  async run(pin: ReturnType<Layers['pin']>): Promise<void> {
    // Held before they are looked for: what is here stays here.
    for (const chain of this.#chains) pin.chains.add(chain);
    const stop = (): void => this.#stop.abort(this.ask.signal.reason);
    this.ask.signal.addEventListener('abort', stop);
    if (this.ask.signal.aborted) stop();
    try {
      const progress = this.layers.map(({ digest }) => new LayerProgress(this.ask.report, shortId(digest)));
      const isHere = this.#chains.map((chain) => this.deps.layers.get(chain) !== undefined);
      for (const [i, each] of progress.entries()) each.status(isHere[i] ? 'Already exists' : 'Pulling fs layer');
      let fail: (error: unknown) => void = () => undefined;
      const failed = new Promise<never>((_, reject) => (fail = reject));
      failed.catch(() => undefined);
      const coming = this.layers.map((layer, i) =>
        isHere[i] ? Promise.resolve() : this.#download(layer, progress[i]!),
      );
      for (const each of coming) each.catch(fail);
      for (const [i, layer] of this.layers.entries()) {
        if (isHere[i]) continue;
        await Promise.race([coming[i]!, failed]);
        this.#stop.signal.throwIfAborted();
        await this.#unpack(pin, i, layer, progress[i]!);
      }
    } finally {
      this.ask.signal.removeEventListener('abort', stop);
      this.#stop.abort();
    }
  }

  async #download(layer: Descriptor, progress: LayerProgress): Promise<void> {
    const { repository } = this.ask;
    const wanted = {
      digest: layer.digest,
      size: layer.size,
      open: (offset: number, signal: AbortSignal) => repository.open(layer.digest, offset, signal),
    };
    await this.deps.downloads.fetch(wanted, (stage) => show(stage, layer.size, progress), this.#stop.signal);
  }

  async #unpack(
    pin: ReturnType<Layers['pin']>,
    i: number,
    { digest, size }: Descriptor,
    progress: LayerProgress,
  ): Promise<void> {
    progress.bytes('Extracting', 0, size);
    try {
      await this.deps.layers.addFile(
        pin,
        () => this.deps.downloads.file(digest),
        this.#chains.slice(0, i),
        this.diffIds[i]!,
        this.#stop.signal,
      );
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      if (error instanceof DigestMismatch)
        throw new MalformedResponse(
          `layer ${digest} has diff ID ${error.actual}, and the image's configuration says ${error.expected}`,
        );
      // The client sent no archive: it is not its fault.
      throw error instanceof InvalidParameter
        ? new MalformedResponse(`failed to register layer ${digest}: ${error.message}`)
        : error;
    }
    faultPoint('pull.layer');
    progress.bytes('Extracting', size, size);
    progress.status('Pull complete');
  }
}

function show(stage: Stage, total: number, progress: LayerProgress): void {
  switch (stage.kind) {
    case 'waiting':
      return progress.status('Waiting');
    case 'downloading':
      return stage.current > 0 ? progress.bytes('Downloading', stage.current, total) : undefined;
    case 'retrying':
      return progress.status(`Retrying in ${stage.seconds} second${stage.seconds === 1 ? '' : 's'}`);
    case 'verifying':
      return progress.status('Verifying Checksum');
    case 'complete':
      return progress.status('Download complete');
  }
}

function diffIdsOf(bytes: Buffer, { layers }: ImageManifest): string[] {
  let config: Partial<ImageConfig> | null;
  try {
    config = JSON.parse(bytes.toString()) as Partial<ImageConfig> | null;
  } catch (error) {
    throw new MalformedResponse(`the image's configuration is no JSON: ${(error as Error).message}`);
  }
  if (config?.os && config.os !== 'linux')
    throw new InvalidParameter(
      `image operating system ${JSON.stringify(config.os)} cannot be used on this platform: operating system is not supported`,
    );
  const diffIds = readConfig(config).rootfs.diff_ids;
  if (diffIds.length !== layers.length)
    throw new MalformedResponse(
      `the image's configuration has ${diffIds.length} layers, and its manifest ${layers.length}`,
    );
  return diffIds;
}

const withDigest = ({ domain, path }: Reference, digest: string): Reference => ({ domain, path, digest });
/** What an image pulled so is called besides its digest: nothing where that was asked for. */
const named = (reference: Reference, digest: string): Reference =>
  reference.digest === undefined ? reference : withDigest(reference, digest);

// moby distribution/errors.go: a mirror may lack what the registry has; what is wrong here is wrong anywhere.
const mayBeElsewhere = (error: unknown, { isMirror }: Transport): boolean =>
  isMirror && !(error instanceof Error && 'code' in error && error.code === 'ENOSPC');

/** A registry's refusal in the words that clients look for: `docker run` and docker-py tell a missing image by them. */
export function translated(error: unknown, reference: Reference): unknown {
  if (!(error instanceof RegistryRefusal)) return error;
  switch (error.code) {
    case 'DENIED':
      return new NotFound(
        `pull access denied for ${familiarName(reference)}, repository does not exist or may require 'docker login': ${error.message}`,
      );
    case 'MANIFEST_UNKNOWN':
      return new NotFound(`manifest for ${familiarString(reference)} not found: ${error.message}`);
    case 'NAME_UNKNOWN':
      return new NotFound(`repository ${familiarName(reference)} not found: ${error.message}`);
    default:
      return new EngineError(error.message, { cause: error });
  }
}
