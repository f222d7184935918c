/** JSON of images. */
import { EMPTY_CONTAINER_CONFIG } from '../../model/container-config.ts';
import type { HistoryItem } from '../../engine/images/catalog.ts';
import type { Deletion } from '../../engine/images/removal.ts';
import type { Image } from '../../engine/images/image.ts';
import { rfc3339, unixSeconds } from '../../engine/time.ts';
import { wire, type Schemas, type Supports } from './schemas.ts';

/** How an image is used; -1: not computed. */
export interface ImageUse {
  containers: number;
  sharedSize: number;
}

/** The zero value of Go's Config. docker-compose 1.29 reads Volumes of ContainerConfig. */
const { Labels: _labels, ...EMPTY } = EMPTY_CONTAINER_CONFIG;
const ZERO_CONFIG = { ...EMPTY, Env: null, OnBuild: null, Labels: null };

/** An item of GET /images/json. */
export function imageSummary(
  image: Image,
  { containers, sharedSize }: ImageUse,
  supports: Supports,
): Schemas['ImageSummary'] {
  const nameless = image.repoTags.length === 0 && image.repoDigests.length === 0 && !supports('1.43');
  return {
    Id: image.id,
    ParentId: image.parent,
    RepoTags: nameless ? ['<none>:<none>'] : image.repoTags,
    RepoDigests: nameless ? ['<none>@<none>'] : image.repoDigests,
    Created: unixSeconds(image.created),
    Size: image.size,
    SharedSize: sharedSize,
    Labels: image.config.config?.Labels ?? null,
    Containers: containers,
    VirtualSize: virtualSize(image, supports),
  };
}

export function imageInspect(
  image: Image,
  graphDriver: Schemas['GraphDriver'],
  supports: Supports,
): Schemas['ImageInspect'] {
  const { config } = image;
  return {
    Id: image.id,
    RepoTags: image.repoTags,
    RepoDigests: image.repoDigests,
    Parent: image.parent,
    Comment: config.comment || config.history?.at(-1)?.comment || '',
    Created: config.created || undefined,
    DockerVersion: config.docker_version ?? '',
    Author: config.author ?? '',
    Config: wire(config.config ?? {}),
    ...(supports('1.45') ? {} : builtFrom(config)),
    Architecture: config.architecture,
    Variant: config.variant || undefined,
    Os: config.os,
    OsVersion: config['os.version'] || undefined,
    Size: image.size,
    VirtualSize: virtualSize(image, supports),
    GraphDriver: graphDriver,
    RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids },
    Metadata: { LastTagTime: rfc3339(image.tagged === '0' ? '' : image.tagged) },
  };
}

export const imageHistory = (items: HistoryItem[]): Schemas['HistoryResponseItem'][] => items;

export const imageDeleted = (deletions: Deletion[]): Schemas['ImageDeleteResponseItem'][] => deletions;

export const imagesPruned = (pruned: { deleted: Deletion[]; reclaimed: number }): Schemas['ImagePruneResponse'] => ({
  ImagesDeleted: pruned.deleted.length > 0 ? pruned.deleted : null,
  SpaceReclaimed: pruned.reclaimed,
});

/** There is no builder, so its cache is empty. */
export const buildPruned = (): Schemas['BuildPruneResponse'] => ({ CachesDeleted: null, SpaceReclaimed: 0 });

/** Removed in API 1.44. */
const virtualSize = (image: Image, supports: Supports): number | undefined =>
  supports('1.44') ? undefined : image.size;

/** The container that the image was committed from. Removed in API 1.45. */
const builtFrom = ({ container, container_config }: Image['config']) => ({
  Container: container ?? '',
  ContainerConfig: wire({ ...ZERO_CONFIG, ...container_config }),
});
