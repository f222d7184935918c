/** Reads the index of an image archive: a docker-archive (manifest.json) or an OCI image layout (index.json). */
import { InvalidParameter } from '../../model/errors.ts';
import { sha256 } from './digest.ts';
import type { ImageConfig } from './image.ts';
import { isDigest } from './reference.ts';
import { readConfig } from './config-form.ts';
import type { Staging } from './staging.ts';

/** One image of an archive. */
export interface ArchivedImage {
  id: string;
  config: ImageConfig;
  configBytes: Buffer;
  /** File names in the archive, lowest layer first. */
  layers: string[];
  /** As written in the archive. */
  names: string[];
  /** Id of the parent image (docker-archive only); '' for none. */
  parent: string;
}

interface ManifestEntry {
  Config?: unknown;
  RepoTags?: unknown;
  Layers?: unknown;
  Parent?: unknown;
}

interface Descriptor {
  mediaType?: string;
  digest: string;
  platform?: { os?: string; architecture?: string };
  annotations?: Record<string, string>;
}

const MANIFEST = 'manifest.json';
const INDEX = 'index.json';

/** Lists the archive's images. @throws InvalidParameter with Docker's texts */
export async function readImageArchive(staging: Staging, architecture: string): Promise<ArchivedImage[]> {
  if (staging.has(MANIFEST)) return fromDockerArchive(staging);
  if (staging.has(INDEX)) return fromOciLayout(staging, architecture);
  throw new InvalidParameter(`invalid archive: does not contain a ${MANIFEST}`);
}

async function fromDockerArchive(staging: Staging): Promise<ArchivedImage[]> {
  const manifest = await staging.json(MANIFEST);
  if (manifest === null) throw new InvalidParameter('invalid manifest, manifest cannot be null (but can be [])');
  if (!Array.isArray(manifest))
    throw new InvalidParameter(`invalid archive: failed to decode ${MANIFEST}: it is no list`);
  const images: ArchivedImage[] = [];
  for (const entry of manifest as (ManifestEntry | null)[]) {
    const { Config, RepoTags, Layers, Parent } = entry ?? {};
    const rest = { layers: strings(Layers), names: strings(RepoTags), parent: text(Parent) };
    images.push(await readImage(staging, text(Config), rest));
  }
  return images;
}

async function fromOciLayout(staging: Staging, architecture: string): Promise<ArchivedImage[]> {
  const images: ArchivedImage[] = [];
  for (const descriptor of await manifestsIn(staging, INDEX)) {
    const manifest = (await verifiedJson(staging, await forPlatform(staging, descriptor, architecture))) as {
      config?: Descriptor;
      layers?: Descriptor[];
    } | null;
    if (!Array.isArray(manifest?.layers)) throw new InvalidParameter('invalid archive: a manifest without layers');
    const names = namesOf(descriptor);
    await verifiedJson(staging, manifest.config);
    const rest = { layers: manifest.layers.map(blobPath), names, parent: '' };
    images.push(await readImage(staging, blobPath(manifest.config), rest));
  }
  return images;
}

function namesOf({ annotations }: Descriptor): string[] {
  const name = text(annotations?.['io.containerd.image.name'] ?? annotations?.['org.opencontainers.image.ref.name']);
  // Skopeo and umoci write a bare tag, without a repository.
  return /[/:]/.test(name) ? [name] : [];
}

// The entry may be an index itself, with an image per platform.
async function forPlatform(staging: Staging, descriptor: Descriptor, architecture: string): Promise<Descriptor> {
  if (!/image\.index|manifest\.list/.test(descriptor.mediaType ?? '')) return descriptor;
  await verifiedJson(staging, descriptor);
  // BuildKit's attestations have the platform `unknown`; an archive of one platform lacks the others' blobs.
  const candidates = (await manifestsIn(staging, blobPath(descriptor))).filter(
    (candidate) => staging.has(blobPath(candidate)) && candidate.platform?.os !== 'unknown',
  );
  const chosen =
    candidates.find(({ platform }) => platform?.architecture === architecture && platform.os === 'linux') ??
    candidates[0];
  if (!chosen) throw new InvalidParameter('invalid archive: an index without an image');
  return chosen;
}

async function manifestsIn(staging: Staging, name: string): Promise<Descriptor[]> {
  const index = (await staging.json(name)) as { manifests?: (Descriptor | null)[] } | null;
  const manifests = index?.manifests;
  if (!Array.isArray(manifests) || !manifests.every((each) => typeof each === 'object' && each !== null))
    throw new InvalidParameter(`invalid archive: ${name} has no manifests`);
  return manifests;
}

async function verifiedJson(staging: Staging, descriptor: Descriptor | undefined): Promise<unknown> {
  const path = blobPath(descriptor);
  const actual = sha256(await staging.read(path));
  if (actual !== descriptor!.digest) throw new InvalidParameter(`invalid archive: ${path} has digest ${actual}`);
  return staging.json(path);
}

function blobPath(descriptor: Descriptor | undefined): string {
  if (typeof descriptor?.digest !== 'string' || !isDigest(descriptor.digest))
    throw new InvalidParameter('invalid archive: a descriptor without a digest');
  return `blobs/${descriptor.digest.replace(':', '/')}`;
}

async function readImage(
  staging: Staging,
  configPath: string,
  rest: Pick<ArchivedImage, 'layers' | 'names' | 'parent'>,
): Promise<ArchivedImage> {
  if (configPath === '') throw new InvalidParameter('invalid manifest: an image without a config');
  const configBytes = await staging.read(configPath);
  const config = readConfig(await staging.json(configPath));
  const { length } = config.rootfs.diff_ids;
  if (rest.layers.length !== length)
    throw new InvalidParameter(
      `invalid manifest, layers length mismatch: expected ${rest.layers.length}, got ${length}`,
    );
  return { id: sha256(configBytes), config, configBytes, ...rest };
}

function text(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (typeof value !== 'string')
    throw new InvalidParameter(`invalid archive: failed to decode ${MANIFEST}: a string is none`);
  return value;
}

function strings(list: unknown): string[] {
  if (list === null || list === undefined) return [];
  if (!Array.isArray(list) || !list.every((item) => typeof item === 'string'))
    throw new InvalidParameter(`invalid archive: failed to decode ${MANIFEST}: a list of strings is none`);
  return list;
}
