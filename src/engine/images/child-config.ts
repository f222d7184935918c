/** The configuration of a committed image: its parent's and one more layer (moby image/image.go, NewChildImage). */
import { exactJson } from '../../protocol/exact-json.ts';
import { VERSION } from '../../version.ts';
import type { ImageSettings } from './config-changes.ts';
import type { ImageConfig } from './image.ts';

/** Diff ID of an archive without entries: such a layer is not added to the image. */
export const EMPTY_LAYER = 'sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef';

export interface Child {
  /** undefined if the commit adds no layer. */
  diffId?: string;
  /** Id of the committed container. */
  container: string;
  containerConfig: ImageSettings;
  config: ImageSettings;
  author: string;
  comment: string;
  /** RFC 3339. */
  created: string;
}

/** The configuration's bytes, with the keys in Docker's order. */
export function childConfig(
  parent: ImageConfig,
  { diffId, container, containerConfig, config, author, comment, created }: Child,
): Buffer {
  const entry = {
    created,
    ...(author && { author }),
    ...(containerConfig.Cmd?.length && { created_by: containerConfig.Cmd.join(' ') }),
    ...(comment && { comment }),
    ...(diffId === undefined && { empty_layer: true }),
  };
  const child: Record<string, unknown> = {
    architecture: parent.architecture,
    ...(author && { author }),
    config,
    container,
    container_config: containerConfig,
    created,
    docker_version: VERSION,
    history: [...(parent.history ?? []), entry],
    os: parent.os,
    ...(parent['os.features'] && { 'os.features': parent['os.features'] }),
    ...(parent['os.version'] && { 'os.version': parent['os.version'] }),
    rootfs: { type: 'layers', diff_ids: [...parent.rootfs.diff_ids, ...(diffId === undefined ? [] : [diffId])] },
    ...(parent.variant && { variant: parent.variant }),
  };
  return Buffer.from(exactJson(child));
}
