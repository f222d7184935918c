/** The images in an archive: `docker save`'s manifest.json, or an OCI image layout. */
import { InvalidParameter } from '../../model/errors.ts';
import { sha256 } from './digest.ts';
import type { ImageConfig } from './image.ts';
import { isDigest } from './reference.ts';
import { readConfig } from './config-form.ts';
import type { Staging } from './staging.ts';

/** One image of an archive. */
export interface Bundled {
  id: string;
  config: ImageConfig;
  configBytes: Buffer;
  /** Names within the archive, lowest layer first. */
  layers: string[];
  /** As written in the archive. */
  names: string[];
  /** Docker's link to the image that it was built from; '' for none. */
  parent: string;
}

interface Descriptor {
  mediaType?: string;
  digest: string;
  platform?: { os?: string; architecture?: string };
  annotations?: Record<string, string>;
}

const MANIFEST = 'manifest.json';
const INDEX = 'index.json';

/** @throws InvalidParameter with Docker's words */
export async function bundledImages(staging: Staging, architecture: string): Promise<Bundled[]> {
  if (staging.has(MANIFEST)) return fromManifest(staging);
  if (staging.has(INDEX)) return fromLayout(staging, architecture);
  throw new InvalidParameter(`invalid archive: does not contain a ${MANIFEST}`);
}

async function fromManifest(staging: Staging): Promise<Bundled[]> {
  const manifest = await staging.json(MANIFEST);
  if (manifest === null) throw new InvalidParameter('invalid manifest, manifest cannot be null (but can be [])');
  if (!Array.isArray(manifest))
    throw new InvalidParameter(`invalid archive: failed to decode ${MANIFEST}: it is no list`);
  const images: Bundled[] = [];
  for (const item of manifest as ({
    Config?: unknown;
    RepoTags?: unknown;
    Layers?: unknown;
    Parent?: unknown;
  } | null)[]) {
    const { Config, RepoTags, Layers, Parent } = item ?? {};
    images.push(
      await bundled(staging, text(Config), { layers: strings(Layers), names: strings(RepoTags), parent: text(Parent) }),
    );
  }
  return images;
}

async function fromLayout(staging: Staging, architecture: string): Promise<Bundled[]> {
  const images: Bundled[] = [];
  for (const descriptor of await manifests(staging, INDEX)) {
    const manifest = (await document(staging, await forPlatform(staging, descriptor, architecture))) as {
      config?: Descriptor;
      layers?: Descriptor[];
    } | null;
    if (!Array.isArray(manifest?.layers)) throw new InvalidParameter('invalid archive: a manifest without layers');
    const name = text(
      descriptor.annotations?.['io.containerd.image.name'] ??
        descriptor.annotations?.['org.opencontainers.image.ref.name'],
    );
    // A bare tag (skopeo, umoci) names no repository.
    const names = /[/:]/.test(name) ? [name] : [];
    await document(staging, manifest.config);
    images.push(
      await bundled(staging, blob(manifest.config), { layers: manifest.layers.map(blob), names, parent: '' }),
    );
  }
  return images;
}

// An index may lead to another, which has the image for each platform.
async function forPlatform(staging: Staging, descriptor: Descriptor, architecture: string): Promise<Descriptor> {
  if (!/image\.index|manifest\.list/.test(descriptor.mediaType ?? '')) return descriptor;
  await document(staging, descriptor);
  const candidates = (await manifests(staging, blob(descriptor))).filter(
    (candidate) => staging.has(blob(candidate)) && candidate.platform?.os !== 'unknown',
  );
  const chosen =
    candidates.find(({ platform }) => platform?.architecture === architecture && platform.os === 'linux') ??
    candidates[0];
  if (!chosen) throw new InvalidParameter('invalid archive: an index without an image');
  return chosen;
}

async function manifests(staging: Staging, name: string): Promise<Descriptor[]> {
  const index = (await staging.json(name)) as { manifests?: Descriptor[] } | null;
  if (!Array.isArray(index?.manifests) || !index.manifests.every((each) => typeof each === 'object' && each !== null))
    throw new InvalidParameter(`invalid archive: ${name} has no manifests`);
  return index.manifests;
}

async function document(staging: Staging, descriptor: Descriptor | undefined): Promise<unknown> {
  const name = blob(descriptor);
  const actual = sha256(await staging.read(name));
  if (actual !== descriptor!.digest) throw new InvalidParameter(`invalid archive: ${name} has digest ${actual}`);
  return staging.json(name);
}

function blob(descriptor: Descriptor | undefined): string {
  if (typeof descriptor?.digest !== 'string' || !isDigest(descriptor.digest))
    throw new InvalidParameter('invalid archive: a descriptor without a digest');
  return `blobs/${descriptor.digest.replace(':', '/')}`;
}

async function bundled(
  staging: Staging,
  name: string,
  rest: Pick<Bundled, 'layers' | 'names' | 'parent'>,
): Promise<Bundled> {
  if (name === '') throw new InvalidParameter('invalid manifest: an image without a config');
  const configBytes = await staging.read(name);
  const config = readConfig(await staging.json(name));
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
