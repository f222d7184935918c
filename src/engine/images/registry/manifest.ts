/**
 * Manifests of images, and indexes of images per platform: OCI image-spec, and Docker's media types (distribution
 * docs/content/spec/manifest-v2-2.md).
 */
import { InvalidParameter, NotFound } from '../../../model/errors.ts';
import { isDigest } from '../reference.ts';
import { MalformedResponse } from './failure.ts';

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
  'os.version'?: string;
  'os.features'?: string[];
}

export interface ImageManifest {
  kind: 'image';
  config: Descriptor;
  /** Lowest first. */
  layers: Descriptor[];
}

export interface ImageIndex {
  kind: 'index';
  manifests: (Descriptor & { platform?: Platform })[];
}

export const MEDIA = {
  manifest: 'application/vnd.docker.distribution.manifest.v2+json',
  list: 'application/vnd.docker.distribution.manifest.list.v2+json',
  config: 'application/vnd.docker.container.image.v1+json',
  layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
} as const;
const SCHEMA1 = [
  'application/vnd.docker.distribution.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
];

/** The Accept header that Docker sends. */
export const ACCEPTED = [
  MEDIA.manifest,
  MEDIA.list,
  MEDIA.ociIndex,
  MEDIA.ociManifest,
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
  'application/json',
].join(', ');
/** The size that registries should accept at least (distribution-spec, "Pushing Manifests"). */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
export const MAX_CONFIG_BYTES = 8 * 1024 * 1024;
const MAX_LAYERS = 1000;

/** Besides the image configuration's types those of CircleCI and old Quay (moby distribution/registry.go). */
const CONFIGS: ReadonlySet<string> = new Set([
  MEDIA.config,
  MEDIA.ociConfig,
  'application/octet-stream',
  'application/vnd.docker.container.image.rootfs.diff+x-gtar',
  '',
]);
const PLUGIN = 'application/vnd.docker.plugin.v1+json';

/**
 * Parses a manifest or index.
 * @param contentType applies if the document has no `mediaType`
 * @param name for error messages
 * @throws InvalidParameter for schema 1, MalformedResponse
 */
export function parseManifest(bytes: Buffer, contentType: string, name: string): ImageManifest | ImageIndex {
  const document = parseJson(bytes, name);
  const mediaType = typeof document?.mediaType === 'string' ? document.mediaType : contentType.split(';')[0]!.trim();
  if (SCHEMA1.includes(mediaType) || document?.schemaVersion === 1) {
    throw new InvalidParameter(
      `Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported. Suggest the author of ${name} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/`,
    );
  }
  if (document?.schemaVersion !== 2)
    throw new MalformedResponse(
      `unsupported manifest of ${name}: schema version ${JSON.stringify(document?.schemaVersion ?? null)}, media type ${JSON.stringify(mediaType)}`,
    );
  const { config, layers, manifests } = document;
  const hasManifests = Array.isArray(manifests);
  // Ambiguous: whatever verifies it may read it differently from whatever runs it (CVE-2021-41190).
  if (hasManifests && (Array.isArray(layers) || config !== undefined))
    throw new MalformedResponse(`the manifest of ${name} is an image and an index at once`);
  if (isIndexType(mediaType) || (hasManifests && !isImageType(mediaType))) return parseIndex(manifests, name);
  if (isImageType(mediaType) || config !== undefined) {
    return {
      kind: 'image',
      config: descriptor(config, name),
      layers: list(layers, name).map((each) => descriptor(each, name)),
    };
  }
  throw new MalformedResponse(`unsupported manifest of ${name}: media type ${JSON.stringify(mediaType)}`);
}

function parseJson(bytes: Buffer, name: string): Record<string, unknown> | null {
  try {
    return JSON.parse(bytes.toString()) as Record<string, unknown> | null;
  } catch (error) {
    throw new MalformedResponse(`the manifest of ${name} is no JSON: ${(error as Error).message}`);
  }
}

function parseIndex(manifests: unknown, name: string): ImageIndex {
  const entries = list(manifests, name);
  return { kind: 'index', manifests: entries.map((each) => ({ ...descriptor(each, name), ...platformOf(each) })) };
}

const isImageType = (type: string): boolean => type === MEDIA.manifest || type === MEDIA.ociManifest;
const isIndexType = (type: string): boolean => type === MEDIA.list || type === MEDIA.ociIndex;

function list(value: unknown, name: string): unknown[] {
  if (value === null || value === undefined) return [];
  if (!Array.isArray(value) || value.length > MAX_LAYERS)
    throw new MalformedResponse(
      `the manifest of ${name} is broken: no list where one belongs, or one of more than ${MAX_LAYERS}`,
    );
  return value;
}

function descriptor(value: unknown, name: string): Descriptor {
  const { mediaType, digest, size } = (value ?? {}) as Partial<Record<keyof Descriptor, unknown>>;
  if (typeof digest !== 'string' || !isDigest(digest))
    throw new MalformedResponse(`the manifest of ${name} is broken: ${JSON.stringify(digest ?? null)} is no digest`);
  if (!digest.startsWith('sha256:'))
    throw new MalformedResponse(`the manifest of ${name} has a digest of an unsupported algorithm: ${digest}`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw new MalformedResponse(`the manifest of ${name} is broken: ${JSON.stringify(size ?? null)} is no size`);
  return { mediaType: typeof mediaType === 'string' ? mediaType : '', digest, size };
}

function platformOf(value: unknown): { platform?: Platform } {
  const { platform } = value as { platform?: Partial<Record<keyof Platform, unknown>> | null };
  if (!platform || typeof platform.os !== 'string' || typeof platform.architecture !== 'string') return {};
  const { os, architecture, variant } = platform;
  const hasVariant = typeof variant === 'string' && variant !== '';
  return { platform: { os, architecture, ...(hasVariant && { variant }) } };
}

/** @throws InvalidParameter if the artifact is a plugin, a chart, … and no image (moby distribution/pull_v2.go) */
export function checkConfigType({ mediaType }: Descriptor, name: string): void {
  if (CONFIGS.has(mediaType)) return;
  throw new InvalidParameter(
    `Encountered remote "${mediaType}"(${mediaType === PLUGIN ? 'plugin' : 'unknown'}) when fetching ${name}`,
  );
}

/**
 * The distance of a platform from the wanted one, 0 for equal; undefined if its images cannot run there. Older arm and
 * amd64 variants run on newer machines (containerd platforms/compare.go).
 */
function distance(platform: Platform, wanted: Platform): number | undefined {
  if (platform.os !== wanted.os) return undefined;
  const [have, want] = [normalized(platform), normalized(wanted)];
  if (have.architecture !== want.architecture)
    return want.architecture === 'amd64' && have.architecture === '386' ? FOREIGN_ARCHITECTURE : undefined;
  if (have.variant === want.variant) return 0;
  if (want.architecture !== 'amd64' && want.architecture !== 'arm') return undefined;
  const [older, newer] = [versionOf(have.variant), versionOf(want.variant)];
  return older < newer ? newer - older : undefined;
}

/** Farther than any variant. */
const FOREIGN_ARCHITECTURE = 100;
const versionOf = (variant: string): number => Number(variant.slice(1));

const DEFAULT_VARIANTS: Record<string, string> = { amd64: 'v1', arm64: 'v8', arm: 'v7' };
const normalized = ({ architecture, variant }: Platform): { architecture: string; variant: string } => ({
  architecture,
  variant: variant || (DEFAULT_VARIANTS[architecture] ?? ''),
});

/** Whether images of a platform run on the wanted one. */
export const matches = (platform: Platform, wanted: Platform): boolean => distance(platform, wanted) !== undefined;

/** Formats a platform as `linux/arm64/v8`. */
export const platformText = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant ? [variant] : [])].join('/');

/** The entry of an index that suits a platform best. @throws NotFound */
export function choose({ manifests }: ImageIndex, wanted: Platform): Descriptor {
  let best: { descriptor: Descriptor; distance: number } | undefined;
  for (const descriptor of manifests) {
    const away = descriptor.platform && distance(descriptor.platform, wanted);
    if (away !== undefined && (!best || away < best.distance)) best = { descriptor, distance: away };
  }
  if (best) return best.descriptor;
  throw new NotFound(`no matching manifest for ${platformText(wanted)} in the manifest list entries`);
}
