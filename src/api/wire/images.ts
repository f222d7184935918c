/** Images as Docker's JSON. */
import type { HistoryItem } from '../../engine/images/catalog.ts';
import type { Deletion } from '../../engine/images/removal.ts';
import type { Image } from '../../engine/images/image.ts';
import { rfc3339, unixSeconds } from '../../engine/time.ts';
import type { Schemas, Speaks } from './schemas.ts';

/** What is not the image's own; -1 is not computed. */
export interface ImageUse {
  containers: number;
  sharedSize: number;
}

/** What Go makes of settings that an image does not have: docker-compose 1.29 asks ContainerConfig for Volumes. */
const UNSET = {
  Hostname: '',
  Domainname: '',
  User: '',
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: null,
  Cmd: null,
  Image: '',
  Volumes: null,
  WorkingDir: '',
  Entrypoint: null,
  OnBuild: null,
  Labels: null,
};

/** An item of GET /images/json. */
export function imageSummary(
  image: Image,
  { containers, sharedSize }: ImageUse,
  speaks: Speaks,
): Schemas['ImageSummary'] {
  const nameless = image.repoTags.length === 0 && image.repoDigests.length === 0 && !speaks('1.43');
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
    ...virtualSize(image, speaks),
  };
}

export function imageInspect(
  image: Image,
  graphDriver: Schemas['GraphDriver'],
  speaks: Speaks,
): Schemas['ImageInspect'] {
  const { config } = image;
  return {
    Id: image.id,
    RepoTags: image.repoTags,
    RepoDigests: image.repoDigests,
    Parent: image.parent,
    Comment: config.comment || config.history?.at(-1)?.comment || '',
    ...(config.created ? { Created: config.created } : {}),
    DockerVersion: config.docker_version ?? '',
    Author: config.author ?? '',
    Config: config.config ?? {},
    ...(speaks('1.45')
      ? {}
      : { Container: config.container ?? '', ContainerConfig: { ...UNSET, ...config.container_config } }),
    Architecture: config.architecture,
    ...(config.variant ? { Variant: config.variant } : {}),
    Os: config.os,
    ...(config['os.version'] ? { OsVersion: config['os.version'] } : {}),
    Size: image.size,
    ...virtualSize(image, speaks),
    GraphDriver: graphDriver,
    RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids },
    Metadata: { LastTagTime: rfc3339(image.tagged === '0' ? '' : image.tagged) },
  };
}

export const imageHistory = (items: HistoryItem[]): Schemas['HistoryResponseItem'][] => items;

export const imageDeleted = (deletions: Deletion[]): Schemas['ImageDeleteResponseItem'][] => deletions;

export const imagesPruned = ({
  deleted,
  reclaimed,
}: {
  deleted: Deletion[];
  reclaimed: number;
}): Schemas['ImagePruneResponse'] => ({
  ImagesDeleted: deleted.length > 0 ? deleted : null,
  SpaceReclaimed: reclaimed,
});

/** Nothing is built here. */
export const buildPruned = (): Schemas['BuildPruneResponse'] => ({ CachesDeleted: null, SpaceReclaimed: 0 });

/** Gone since API 1.44. */
const virtualSize = (image: Image, speaks: Speaks): { VirtualSize?: number } =>
  speaks('1.44') ? {} : { VirtualSize: image.size };
