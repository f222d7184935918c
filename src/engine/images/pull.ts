/** `docker pull`: fetches manifest, configuration and layers in as few requests as possible, verifying all digests. */
import type { DistributionRows } from '../../store/distribution.ts';
import { faultPoint } from '../../sys/fault.ts';
import { EngineError, InvalidParameter, NotFound } from '../../model/errors.ts';
import { readConfig } from './config-form.ts';
import type { Downloads } from './downloads.ts';
import type { ImageConfig } from './image.ts';
import { hostArchitecture } from '../architecture.ts';
import type { Images } from './images.ts';
import type { Layers } from './layers.ts';
import type { Report } from './progress.ts';
import { LayerPull } from './pull-layers.ts';
import { canonicalString, familiarName, familiarString, repositoryOf, withTag, type Reference } from './reference.ts';
import type { Credentials } from './registry/credentials.ts';
import type { Endpoints } from './registry/endpoints.ts';
import { MalformedResponse, RegistryRefusal } from './registry/failure.ts';
import {
  checkConfigType,
  choose,
  matches,
  MAX_CONFIG_BYTES,
  parseManifest,
  platformText,
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
  /** Default: the host's. */
  platform?: Platform;
}

interface PullRequest {
  /** With a tag or a digest. */
  reference: Reference;
  repository: Repository;
  wanted: Platform;
  report: Report;
  signal: AbortSignal;
}

/** What the registry has for a request. */
interface RemoteImage {
  /** The manifest or index that the reference names. */
  top: Manifest;
  /** The image's own manifest. */
  own: Manifest;
  manifest: ImageManifest;
  config: Buffer;
  diffIds: string[];
}

export class Puller {
  constructor(private readonly deps: PullDeps) {}

  /**
   * Pulls one image, or all tags of a repository for a reference with neither tag nor digest. Partial downloads stay
   * for the next pull.
   * @throws NotFound, InvalidParameter, MalformedResponse, …
   */
  async pull(reference: Reference, options: PullOptions, report: Report, signal: AbortSignal): Promise<void> {
    if (reference.tag !== undefined || reference.digest !== undefined) {
      await this.#pullOne(reference, options, report, signal);
      return;
    }
    const tags = await this.#tryEndpoints(reference, options, signal, (repository) => repository.tags(signal));
    if (tags.length === 0) throw new NotFound(`no tags found for ${familiarName(reference)}`);
    for (const tag of tags) await this.#pullOne(withTag(reference, tag), options, report, signal);
  }

  async #pullOne(reference: Reference, options: PullOptions, report: Report, signal: AbortSignal): Promise<void> {
    const wanted = options.platform ?? { os: 'linux', architecture: hostArchitecture };
    const { id, changed } = await this.#tryEndpoints(reference, options, signal, (repository) =>
      this.#fetch({ reference, repository, wanted, report, signal }),
    );
    const name = familiarString(reference);
    report({ status: `Status: ${changed ? 'Downloaded newer image' : 'Image is up to date'} for ${name}` });
    this.deps.images.recordTransfer(id, 'pull', reference);
    if (!options.platform) return;
    // A repository without an index has one platform only. The image may have been removed meanwhile.
    const image = this.deps.images.find(id);
    if (image && !matches(image.config, options.platform)) {
      report({
        status: `WARNING: image with reference ${name} was found but its platform (${platformText(image.config)}) does not match the specified platform (${platformText(options.platform)})`,
      });
    }
  }

  // Tries the mirrors before the registry.
  async #tryEndpoints<T>(
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
        if (i === endpoints.length - 1 || !mayTryNext(error, transport)) throw translated(error, reference);
      }
    }
    throw new NotFound(`no endpoints found for ${familiarString(reference)}`);
  }

  async #fetch(request: PullRequest): Promise<{ id: string; changed: boolean }> {
    const { reference, repository, wanted, report, signal } = request;
    const { images } = this.deps;
    const asked = reference.digest ?? reference.tag!;
    const shown = reference.digest === undefined ? asked : canonicalString(withDigest(reference, asked));
    const head = await repository.head(asked, signal);
    const present = head && images.findByName(withDigest(reference, head.digest));
    if (present && matches(present.config, wanted)) {
      report({ id: shown, status: `Pulling from ${reference.path}` });
      report({ status: `Digest: ${head.digest}` });
      return images.adopt({ id: present.id }, namesOf(reference, head.digest));
    }
    const top = await repository.manifest(head?.digest ?? asked, signal);
    faultPoint('pull.manifest');
    report({ id: shown, status: `Pulling from ${reference.path}` });
    const { own, manifest } = await this.#selectPlatform(top, request);
    checkConfigType(manifest.config, familiarString(reference));
    const config = await repository.config(manifest.config, MAX_CONFIG_BYTES, signal);
    const diffIds = diffIdsOf(config, manifest);
    faultPoint('pull.config');
    return this.#install({ top, own, manifest, config, diffIds }, request);
  }

  async #selectPlatform(
    top: Manifest,
    { reference, repository, wanted, signal }: PullRequest,
  ): Promise<{ own: Manifest; manifest: ImageManifest }> {
    const name = familiarString(reference);
    const parsed = parseManifest(top.bytes, top.mediaType, name);
    if (parsed.kind === 'image') return { own: top, manifest: parsed };
    const own = await repository.manifest(choose(parsed, wanted).digest, signal);
    const manifest = parseManifest(own.bytes, own.mediaType, name);
    if (manifest.kind !== 'image') throw new MalformedResponse(`the manifest list of ${name} leads to another list`);
    return { own, manifest };
  }

  // Downloads and unpacks the layers, and creates the image.
  async #install(
    { top, own, manifest, config, diffIds }: RemoteImage,
    request: PullRequest,
  ): Promise<{ id: string; changed: boolean }> {
    const { images, layers, downloads, rows } = this.deps;
    const { reference, report } = request;
    const repository = repositoryOf(reference);
    const pin = layers.pin();
    const lease = downloads.lease(manifest.layers.map(({ digest }) => digest));
    let finished = false;
    try {
      await new LayerPull(this.deps, request, manifest.layers, diffIds).run(pin);
      faultPoint('pull.unpacked');
      report({ status: `Digest: ${top.digest}` });
      const adopted = images.adopt({ config, diffIds }, namesOf(reference, top.digest), (imageId) => {
        for (const [i, { digest, size, mediaType }] of manifest.layers.entries())
          rows.add({ diffId: diffIds[i]!, digest, size, mediaType, repository });
        rows.addManifest({ digest: own.digest, imageId, mediaType: own.mediaType, bytes: own.bytes });
      });
      faultPoint('pull.adopted');
      finished = true;
      return adopted;
    } finally {
      pin.release();
      await lease.end({ finished });
      if (finished) await downloads.sweep();
      else await images.collect();
    }
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
// The names of a pulled image: its digest, and the tag if that was requested.
function namesOf(reference: Reference, digest: string): Reference[] {
  const byDigest = withDigest(reference, digest);
  return [reference.digest === undefined ? reference : byDigest, byDigest];
}

// A mirror may lack what the registry has; a full disk fails everywhere (moby distribution/errors.go).
const mayTryNext = (error: unknown, { isMirror }: Transport): boolean =>
  isMirror && !(error instanceof Error && 'code' in error && error.code === 'ENOSPC');

/** Words a refusal as Docker does: `docker run` and docker-py recognize a missing image by the text. */
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
