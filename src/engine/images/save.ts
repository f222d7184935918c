/**
 * `docker save`: writes an archive that is an OCI image layout and a docker-archive at once, as Docker 25 and later do
 * (moby image/tarexport/save.go). It is streamed without spooling: the store knows each layer archive's length.
 */
import { NotFound, SystemFault } from '../../model/errors.ts';
import { storedName, type Catalog, type ImagesDeps } from './catalog.ts';
import { sha256 } from './digest.ts';
import type { Layer } from './layers.ts';
import {
  canonicalString,
  familiarName,
  familiarString,
  parseAnyReference,
  parseReference,
  type Reference,
  repositoryOf,
} from './reference.ts';
import { matches, platformText, type Platform } from './registry/manifest.ts';
import { bodyPadding, encodeHeader, newEntry, TRAILER } from './tar-writer.ts';

export interface Saved {
  id: string;
  configBytes: Buffer;
  /** Lowest first. */
  layers: Layer[];
  /** Each with a tag. */
  names: Reference[];
  /** Id of the parent image if it is in the archive too; else ''. */
  parent: string;
  /** Wall ns. */
  created: bigint;
}

/** One image that a reference selects, with the tag to save it under. */
interface Selected {
  id: string;
  name?: Reference;
}

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
}

const OCI = 'application/vnd.oci.image';

/**
 * Resolves what to save. A repository without a tag selects all of its tags; names are saved only as far as they were
 * requested.
 * @throws NotFound
 */
export function savedImages(catalog: Catalog, deps: ImagesDeps, references: string[], platform?: Platform): Saved[] {
  const namesById = new Map<string, Reference[]>();
  for (const { id, name } of references.flatMap((text) => select(catalog, deps, text))) {
    const names = namesById.get(id) ?? [];
    namesById.set(id, names);
    if (name && !names.some((known) => canonicalString(known) === canonicalString(name))) names.push(name);
  }
  return [...namesById].map(([id, names]): Saved => {
    const { config, parent, created, chains } = catalog.resolveWhole(id);
    if (platform && !matches(config, platform))
      throw new NotFound(`no suitable export target found for platform ${platformText(platform)}`);
    if (config.rootfs.diff_ids.length === 0) throw new SystemFault('empty export - not implemented');
    return {
      id,
      configBytes: catalog.configOf(id)!,
      names,
      created: BigInt(created),
      parent: namesById.has(parent) ? parent : '',
      layers: chains.map((chain) => deps.layers.get(chain) ?? missing(chain)),
    };
  });
}

function select(catalog: Catalog, deps: ImagesDeps, text: string): Selected[] {
  const reference = parseAnyReference(text);
  if ('id' in reference) return [{ id: deps.rows.byId(reference.id)?.id ?? absent() }];
  if (!reference.tag && !reference.digest) {
    const inRepository = imagesIn(repositoryOf(reference), deps);
    if (inRepository.length > 0) return inRepository;
    const found = catalog.find(text);
    if (!found) throw new NotFound(`No such image: ${text}`);
    return [{ id: found.id }];
  }
  const named = deps.rows.idByName(storedName(reference));
  if (named !== undefined) return [selected(named, reference)];
  // `sha256:PREFIX` parses as a repository named sha256 with a tag.
  const mayBeIdPrefix = !reference.digest && familiarName(reference) === 'sha256';
  return [selected(mayBeIdPrefix ? catalog.resolve(text).id : absent(), reference)];
}

function imagesIn(repository: string, deps: ImagesDeps): Selected[] {
  const found: Selected[] = [];
  for (const [id, names] of deps.rows.allNames()) {
    for (const name of names.map(parseReference)) if (repositoryOf(name) === repository) found.push(selected(id, name));
  }
  return found;
}

// The archive has no place for names with a digest.
const selected = (id: string, name: Reference): Selected => (name.digest ? { id } : { id, name });

/** Yields the archive. `archiveOf` yields a layer's uncompressed archive. */
export async function* saveImages(
  images: Saved[],
  archiveOf: (layer: Layer) => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  const written = new Set<string>();
  const index: Descriptor[] = [];
  yield directory('blobs/');
  yield directory('blobs/sha256/');
  for (const image of images) {
    for (const layer of image.layers) {
      if (written.has(layer.diffId)) continue;
      written.add(layer.diffId);
      yield header(blob(layer.diffId), layer.archiveSize, image.created);
      yield* archiveOf(layer);
      yield bodyPadding(layer.archiveSize);
    }
    const manifest = ociManifest(image);
    const digest = sha256(manifest);
    if (!written.has(image.id)) yield* file(blob(image.id), image.configBytes, image.created);
    if (!written.has(digest)) yield* file(blob(digest), manifest, 0n);
    written.add(image.id).add(digest);
    index.push(...indexEntries({ mediaType: `${OCI}.manifest.v1+json`, digest, size: manifest.length }, image.names));
  }
  const repositories = repositoriesOf(images);
  yield* file('index.json', json({ schemaVersion: 2, mediaType: `${OCI}.index.v1+json`, manifests: index }), 0n);
  yield* file('manifest.json', jsonLine(images.map(dockerManifest)), 0n);
  yield* file('oci-layout', Buffer.from('{"imageLayoutVersion": "1.0.0"}'), 0n);
  if (Object.keys(repositories).length > 0) yield* file('repositories', jsonLine(repositories), 0n);
  yield TRAILER;
}

const layerDescriptor = ({ diffId, archiveSize }: Layer): Descriptor => ({
  mediaType: `${OCI}.layer.v1.tar`,
  digest: diffId,
  size: archiveSize,
});

const ociManifest = ({ id, configBytes, layers }: Saved): Buffer =>
  json({
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config: { mediaType: `${OCI}.config.v1+json`, digest: id, size: configBytes.length },
    layers: layers.map(layerDescriptor),
  });

function indexEntries(manifest: Descriptor, names: Reference[]): Descriptor[] {
  if (names.length === 0) return [manifest];
  return names.map((name) => ({
    ...manifest,
    annotations: {
      'io.containerd.image.name': canonicalString(name),
      'org.opencontainers.image.ref.name': name.tag!,
    },
  }));
}

// An entry of the docker-archive's manifest.json.
const dockerManifest = ({ id, names, layers, parent }: Saved): Record<string, unknown> => ({
  Config: blob(id),
  RepoTags: names.length > 0 ? names.map(familiarString) : null,
  Layers: layers.map(({ diffId }) => blob(diffId)),
  ...(parent && { Parent: parent }),
  LayerSources: Object.fromEntries(layers.map((layer) => [layer.diffId, layerDescriptor(layer)])),
});

// The docker-archive's legacy `repositories` file: the top layer of each tag.
function repositoriesOf(images: Saved[]): Record<string, Record<string, string>> {
  const repositories: Record<string, Record<string, string>> = {};
  for (const { names, layers } of images) {
    const top = layers.at(-1)!.diffId.replace(/^sha256:/, '');
    for (const name of names) (repositories[familiarName(name)] ??= {})[name.tag!] = top;
  }
  return repositories;
}

const blob = (digest: string): string => `blobs/${digest.replace(':', '/')}`;
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const jsonLine = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value)}\n`);
const directory = (path: string): Buffer => encodeHeader(newEntry('directory', path));
// Docker's archives have whole seconds.
const header = (path: string, size: number, time: bigint): Buffer =>
  encodeHeader(newEntry('file', path, { size, mtime: time - (time % 1_000_000_000n) }));

function* file(path: string, body: Buffer, time: bigint): Generator<Buffer> {
  yield header(path, body.length, time);
  yield body;
  yield bodyPadding(body.length);
}

function absent(): never {
  throw new NotFound('reference does not exist');
}

function missing(chain: string): never {
  throw new SystemFault(`layer ${chain} is missing`);
}
