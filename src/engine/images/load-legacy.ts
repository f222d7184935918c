/**
 * Archives of Docker before 1.10: a directory per layer, with its `layer.tar` and the `json` of an image that ends in
 * it, and a file `repositories` with the names. Images had random ids then; they get new ones from the
 * configurations, as Docker 1.10 to 27 did (moby image/v1/imagev1.go).
 */
import { createReadStream } from 'node:fs';
import { InvalidParameter } from '../../model/errors.ts';
import { exactJson, parseExactJson } from '../../protocol/exact-json.ts';
import type { Catalog, ImagesDeps } from './catalog.ts';
import { readConfig } from './config-form.ts';
import { chainIds, sha256 } from './digest.ts';
import type { ImageConfig } from './image.ts';
import type { LayerPin } from './layers.ts';
import { linkParents, recordLoaded, type LoadedImage } from './loaded-image.ts';
import type { Staging } from './staging.ts';

interface LegacyRequest {
  staging: Staging;
  pin: LayerPin;
  signal: AbortSignal | undefined;
}

/** The `json` of a layer: the image's configuration in its first form. */
interface LegacyConfig {
  /** Old id of the image below; absent for the lowest. */
  parent?: unknown;
  container_config?: { Cmd?: string[] | null } | null;
}

const REPOSITORIES = 'repositories';
/** A configuration's keys that belong to the archive, or to the layer's old place. */
const OLD_KEYS = new Set(['id', 'parent', 'Size', 'parent_id', 'layer_id', 'throwaway']);

/** Whether the archive has neither of the indexes that are written since Docker 1.10. */
export const isLegacyArchive = (staging: Staging): boolean =>
  !staging.has('manifest.json') && !staging.has('index.json') && oldIds(staging).length > 0;

const oldIds = (staging: Staging): string[] =>
  staging
    .names()
    .flatMap((name) => /^\/([^/]+)\/json$/.exec(name)?.[1] ?? [])
    .sort();

/** Yields Docker's lines. Every layer becomes an image, the parent of the one above. */
export async function* loadLegacyImages(
  catalog: Catalog,
  deps: ImagesDeps,
  request: LegacyRequest,
): AsyncGenerator<string> {
  const names = namesByOldId(request.staging.has(REPOSITORIES) ? await request.staging.json(REPOSITORIES) : {});
  const configs = await readConfigs(request.staging);
  for (const oldId of names.keys())
    if (!configs.has(oldId)) throw new InvalidParameter(`invalid target image ID: ${oldId}`);
  const loaded = new Map<string, LoadedImage>();
  for (const oldId of parentsFirst(configs)) {
    const config = configs.get(oldId)!;
    const below = loaded.get(parentOf(config));
    const image = await loadImage(deps, { oldId, config, below, names: names.get(oldId) ?? [] }, request);
    loaded.set(oldId, image);
    yield* recordLoaded(catalog, deps, image);
  }
  const images = [...loaded.values()];
  linkParents(deps, images);
  if (names.size > 0) return;
  const parents = new Set(images.map(({ parent }) => parent));
  for (const { id } of images) if (!parents.has(id)) yield `Loaded image ID: ${id}`;
}

async function readConfigs(staging: Staging): Promise<Map<string, LegacyConfig>> {
  const configs = new Map<string, LegacyConfig>();
  for (const oldId of oldIds(staging)) {
    const path = `${oldId}/json`;
    const bytes = await staging.read(path);
    try {
      const config = parseExactJson(bytes.toString());
      if (typeof config !== 'object' || config === null || Array.isArray(config)) throw new Error('it is no object');
      configs.set(oldId, config);
    } catch (error) {
      throw new InvalidParameter(`invalid archive: failed to decode ${path}: ${(error as Error).message}`);
    }
  }
  return configs;
}

/** Old id of the image below; '' for none. */
function parentOf({ parent }: LegacyConfig): string {
  return typeof parent === 'string' ? parent : '';
}

function parentsFirst(configs: ReadonlyMap<string, LegacyConfig>): string[] {
  const ordered = new Set<string>();
  for (const oldId of configs.keys()) {
    const chain = new Set<string>();
    for (let at = oldId; at !== '' && !ordered.has(at);) {
      const config = configs.get(at);
      if (!config) throw new InvalidParameter(`invalid archive: does not contain ${at}/json`);
      if (chain.has(at)) throw new InvalidParameter(`invalid archive: image ${at} is below itself`);
      chain.add(at);
      at = parentOf(config);
    }
    for (const each of [...chain].reverse()) ordered.add(each);
  }
  return [...ordered];
}

/** Unpacks the layer, and makes the image's configuration. */
async function loadImage(
  { layers }: ImagesDeps,
  image: { oldId: string; config: LegacyConfig; below: LoadedImage | undefined; names: string[] },
  { staging, pin, signal }: LegacyRequest,
): Promise<LoadedImage> {
  const { oldId, below, names } = image;
  const diffIds = below?.config.rootfs.diff_ids ?? [];
  const archive = createReadStream(staging.file(`${oldId}/layer.tar`));
  const { diffId } = await layers.add(pin, archive, chainIds(diffIds), signal).finally(() => archive.destroy());
  const configBytes = upgraded(image.config, below?.config.history ?? [], [...diffIds, diffId]);
  const config = readConfig(parseExactJson(configBytes.toString()));
  return { id: sha256(configBytes), config, configBytes, names, parent: below?.id ?? '' };
}

/** The configuration as Docker wrote it from the old one: keys in order, without those of the old place. */
function upgraded(old: LegacyConfig, below: NonNullable<ImageConfig['history']>, diffIds: string[]): Buffer {
  const read = readConfig({ ...old, rootfs: { type: 'layers', diff_ids: diffIds }, history: null });
  const { created, author, comment } = read;
  const command = read.container_config?.Cmd?.join(' ') ?? '';
  const entry = {
    ...(created && { created }),
    ...(author && { author }),
    ...(command && { created_by: command }),
    ...(comment && { comment }),
  };
  const config: Record<string, unknown> = {
    ...old,
    history: [...below, entry],
    rootfs: { type: 'layers', diff_ids: diffIds },
  };
  const kept = Object.entries(config).filter(([key]) => !OLD_KEYS.has(key));
  return Buffer.from(exactJson(Object.fromEntries(kept.sort(([a], [b]) => (a < b ? -1 : 1)))));
}

/** The file `repositories`: names, their tags, and the old id of each. @throws InvalidParameter */
function namesByOldId(repositories: unknown): Map<string, string[]> {
  const names = new Map<string, string[]>();
  const wrong = (): never => {
    throw new InvalidParameter(`invalid archive: failed to decode ${REPOSITORIES}: it has another form`);
  };
  if (typeof repositories !== 'object' || repositories === null) return wrong();
  for (const [name, tags] of Object.entries(repositories)) {
    if (typeof tags !== 'object' || tags === null) return wrong();
    for (const [tag, oldId] of Object.entries(tags as Record<string, unknown>)) {
      if (typeof oldId !== 'string') return wrong();
      names.set(oldId, [...(names.get(oldId) ?? []), `${name}:${tag}`]);
    }
  }
  return names;
}
