/**
 * Manifests: what an image is made of, or which images there are for which platform. OCI image-spec, and Docker's own
 * media types.
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

/** What Docker asks for. */
export const ACCEPTED = [
  MEDIA.manifest,
  MEDIA.list,
  MEDIA.ociIndex,
  MEDIA.ociManifest,
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
  'application/json',
].join(', ');
/** A registry that answers with more is no registry's friend (distribution-spec: at least 4 MiB are to be accepted). */
export const MAX_MANIFEST = 4 * 1024 * 1024;
export const MAX_CONFIG = 8 * 1024 * 1024;
const MAX_LAYERS = 1000;

/** Besides the image configurations: CircleCI's and old Quay's (moby distribution/registry.go). */
const CONFIGS: ReadonlySet<string> = new Set([
  MEDIA.config,
  MEDIA.ociConfig,
  'application/octet-stream',
  'application/vnd.docker.container.image.rootfs.diff+x-gtar',
  '',
]);
const PLUGIN = 'application/vnd.docker.plugin.v1+json';

/** @param name for the words of an error */
export function parseManifest(bytes: Buffer, contentType: string, name: string): ImageManifest | ImageIndex {
  let document: Record<string, unknown> | null;
  try {
    document = JSON.parse(bytes.toString()) as Record<string, unknown> | null;
  } catch (error) {
    throw new MalformedResponse(`the manifest of ${name} is no JSON: ${(error as Error).message}`);
  }
  const said = typeof document?.mediaType === 'string' ? document.mediaType : contentType.split(';')[0]!.trim();
  if (SCHEMA1.includes(said) || document?.schemaVersion === 1) {
    throw new InvalidParameter(
      `Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported. Suggest the author of ${name} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/`,
    );
  }
  if (document?.schemaVersion !== 2)
    throw new MalformedResponse(
      `unsupported manifest of ${name}: schema version ${JSON.stringify(document?.schemaVersion ?? null)}, media type ${JSON.stringify(said)}`,
    );
  // One that is both could be read as either, by whoever checks it and whoever runs it (CVE-2021-41190).
  if (Array.isArray(document.manifests) && (Array.isArray(document.layers) || document.config !== undefined))
    throw new MalformedResponse(`the manifest of ${name} is an image and an index at once`);
  if (said === MEDIA.list || said === MEDIA.ociIndex || (Array.isArray(document.manifests) && !known(said)))
    return {
      kind: 'index',
      manifests: list(document.manifests, name).map((each) => ({ ...descriptor(each, name), ...platformOf(each) })),
    };
  if (known(said) || document.config !== undefined)
    return {
      kind: 'image',
      config: descriptor(document.config, name),
      layers: list(document.layers, name).map((each) => descriptor(each, name)),
    };
  throw new MalformedResponse(`unsupported manifest of ${name}: media type ${JSON.stringify(said)}`);
}

const known = (type: string): boolean => type === MEDIA.manifest || type === MEDIA.ociManifest;

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
  return {
    platform: {
      os: platform.os,
      architecture: platform.architecture,
      ...(typeof platform.variant === 'string' && platform.variant !== '' && { variant: platform.variant }),
    },
  };
}

/** @throws InvalidParameter for what is no image: a plugin, a chart, … (moby distribution/pull_v2.go) */
export function checkConfigType({ mediaType }: Descriptor, name: string): void {
  if (CONFIGS.has(mediaType)) return;
  throw new InvalidParameter(
    `Encountered remote "${mediaType}"(${mediaType === PLUGIN ? 'plugin' : 'unknown'}) when fetching ${name}`,
  );
}

/**
 * How near to `wanted` a platform is; undefined when it cannot run there. Older arm variants run on newer machines
 * (containerd platforms/compare.go).
 */
function nearness(platform: Platform, wanted: Platform): number | undefined {
  if (platform.os !== wanted.os) return undefined;
  const [have, want] = [normal(platform), normal(wanted)];
  if (have.architecture === want.architecture) {
    if (have.variant === want.variant) return 0;
    if (want.architecture === 'amd64' || want.architecture === 'arm') {
      const [older, newer] = [have.variant, want.variant].map((variant) => Number(variant.slice(1)));
      return older! < newer! ? newer! - older! : undefined;
    }
    return undefined;
  }
  return want.architecture === 'amd64' && have.architecture === '386' ? 100 : undefined;
}

const DEFAULT_VARIANTS: Record<string, string> = { amd64: 'v1', arm64: 'v8', arm: 'v7' };
const normal = ({ architecture, variant }: Platform): { architecture: string; variant: string } => ({
  architecture,
  variant: variant || (DEFAULT_VARIANTS[architecture] ?? ''),
});

/** Whether an image of the one runs where the other is wanted. */
export const matches = (platform: Platform, wanted: Platform): boolean => nearness(platform, wanted) !== undefined;

/** `linux/arm64/v8`. */
export const platformText = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant ? [variant] : [])].join('/');

/** The image of an index for a platform. @throws NotFound */
export function choose({ manifests }: ImageIndex, wanted: Platform): Descriptor {
  const found = manifests
    .flatMap((each) => {
      const near = each.platform && nearness(each.platform, wanted);
      return near === undefined ? [] : [{ each, near }];
    })
    .sort((a, b) => a.near - b.near)[0];
  if (found) return found.each;
  throw new NotFound(`no matching manifest for ${platformText(wanted)} in the manifest list entries`);
}
