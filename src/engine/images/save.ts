/**
 * `docker save`: an OCI image layout that is a docker-archive as well, as Docker 25 and later write it (moby
 * image/tarexport/save.go).
 * It is written as it is made, nothing is spooled: a layer's archive has the length that it came with.
 */
import { NotFound, SystemFault } from '../../model/errors.ts';
import { storedName, type Catalog, type ImageParts } from './catalog.ts';
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
import { bodyPadding, encodeHeader, newEntry, TRAILER } from './tar-writer.ts';

export interface Saved {
  id: string;
  configBytes: Buffer;
  /** Lowest first. */
  layers: Layer[];
  /** Each with a tag. */
  names: Reference[];
  /** Id of the image it was made from, if that is in the archive too; else ''. */
  parent: string;
  /** Wall ns. */
  created: bigint;
}

const OCI = 'application/vnd.oci.image';

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
}

/**
 * What `docker save` was asked for, with the names that were asked for: all tags of a repository where no tag is given.
 * @throws NotFound
 */
export function savedImages(catalog: Catalog, parts: ImageParts, references: string[]): Saved[] {
  const wanted = new Map<string, Reference[]>();
  for (const text of references)
    for (const [id, name] of asked(catalog, parts, text)) {
      const names = wanted.get(id) ?? [];
      wanted.set(
        id,
        name && !names.some((known) => canonicalString(known) === canonicalString(name)) ? [...names, name] : names,
      );
    }
  return [...wanted].map(([id, names]): Saved => {
    const { config, parent, created, chains } = catalog.resolve(id);
    if (config.rootfs.diff_ids.length === 0) throw new SystemFault('empty export - not implemented');
    return {
      id,
      configBytes: catalog.configOf(id)!,
      names,
      created: BigInt(created),
      parent: wanted.has(parent) ? parent : '',
      layers: chains.map((chain) => parts.layers.get(chain) ?? missing(chain)),
    };
  });
}

// By repository all its tags; else what it names, with its name if that is a tag.
function asked(catalog: Catalog, parts: ImageParts, text: string): [string, Reference?][] {
  const reference = parseAnyReference(text);
  const absent = (): never => {
    throw new NotFound('reference does not exist');
  };
  if ('id' in reference) return [[parts.rows.byId(reference.id)?.id ?? absent()]];
  if (!reference.tag && !reference.digest) {
    const repository = repositoryOf(reference);
    const named = [...parts.rows.allNames()].flatMap(([id, names]) =>
      names
        .map(parseReference)
        .filter((name) => repositoryOf(name) === repository)
        .map((name): [string, Reference?] => [id, name.digest ? undefined : name]),
    );
    if (named.length > 0) return named;
    const found = catalog.find(text);
    if (!found) throw new NotFound(`No such image: ${text}`);
    return [[found.id]];
  }
  const id =
    parts.rows.idByName(storedName(reference)) ??
    (reference.digest || familiarName(reference) !== 'sha256' ? absent() : catalog.resolve(text).id);
  return [[id, reference.digest ? undefined : reference]];
}

/** The archive's bytes; `archiveOf` gives a layer's. */
export async function* saveImages(
  images: Saved[],
  archiveOf: (layer: Layer) => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  const written = new Set<string>();
  const index: Descriptor[] = [];
  const manifests: Record<string, unknown>[] = [];
  const repositories: Record<string, Record<string, string>> = {};
  yield directory('blobs/');
  yield directory('blobs/sha256/');
  for (const { id, configBytes, layers, names, parent, created } of images) {
    for (const layer of layers) {
      if (written.has(layer.diffId)) continue;
      written.add(layer.diffId);
      yield header(blob(layer.diffId), layer.archiveSize, created);
      yield* archiveOf(layer);
      yield bodyPadding(layer.archiveSize);
    }
    const sources = layers.map((layer): Descriptor => ({
      mediaType: `${OCI}.layer.v1.tar`,
      digest: layer.diffId,
      size: layer.archiveSize,
    }));
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: `${OCI}.manifest.v1+json`,
        config: { mediaType: `${OCI}.config.v1+json`, digest: id, size: configBytes.length },
        layers: sources,
      }),
    );
    const digest = sha256(manifest);
    if (!written.has(id)) yield* file(blob(id), configBytes, created);
    if (!written.has(digest)) yield* file(blob(digest), manifest, 0n);
    written.add(id).add(digest);
    const descriptor: Descriptor = { mediaType: `${OCI}.manifest.v1+json`, digest, size: manifest.length };
    for (const name of names) {
      index.push({
        ...descriptor,
        annotations: {
          'io.containerd.image.name': canonicalString(name),
          'org.opencontainers.image.ref.name': name.tag!,
        },
      });
      (repositories[familiarName(name)] ??= {})[name.tag!] = layers.at(-1)!.diffId.replace(/^sha256:/, '');
    }
    if (names.length === 0) index.push(descriptor);
    manifests.push({
      Config: blob(id),
      RepoTags: names.length > 0 ? names.map(familiarString) : null,
      Layers: layers.map(({ diffId }) => blob(diffId)),
      ...(parent && { Parent: parent }),
      LayerSources: Object.fromEntries(sources.map((source) => [source.digest, source])),
    });
  }
  yield* file('index.json', json({ schemaVersion: 2, mediaType: `${OCI}.index.v1+json`, manifests: index }), 0n);
  yield* file('manifest.json', Buffer.concat([json(manifests), Buffer.from('\n')]), 0n);
  yield* file('oci-layout', Buffer.from('{"imageLayoutVersion": "1.0.0"}'), 0n);
  if (Object.keys(repositories).length > 0)
    yield* file('repositories', Buffer.concat([json(repositories), Buffer.from('\n')]), 0n);
  yield TRAILER;
}

const blob = (digest: string): string => `blobs/${digest.replace(':', '/')}`;
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const directory = (path: string): Buffer => encodeHeader(newEntry('directory', path));
// Whole seconds, as in every archive of Docker's.
const header = (path: string, size: number, time: bigint): Buffer =>
  encodeHeader(newEntry('file', path, { size, mtime: time - (time % 1_000_000_000n) }));

function* file(path: string, body: Buffer, time: bigint): Generator<Buffer> {
  yield header(path, body.length, time);
  yield body;
  yield bodyPadding(body.length);
}

function missing(chain: string): never {
  throw new SystemFault(`layer ${chain} is missing`);
}
