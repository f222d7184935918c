/** Images and their configuration. */
import type { ContainerConfig } from '../../model/container-config.ts';

/** The OCI/Docker image configuration. Unknown keys exist in the stored bytes only. */
export interface ImageConfig {
  architecture: string;
  os: string;
  variant?: string;
  'os.version'?: string;
  'os.features'?: string[];
  created?: string;
  author?: string;
  comment?: string;
  docker_version?: string;
  container?: string;
  container_config?: Partial<ContainerConfig> | null;
  config?: Partial<ContainerConfig> | null;
  rootfs: { type: 'layers'; diff_ids: string[] };
  history?: { created?: string; created_by?: string; author?: string; comment?: string; empty_layer?: boolean }[];
}

export interface Image {
  /** Digest of the configuration. */
  id: string;
  /** Id of the image it was committed from; '' for none. */
  parent: string;
  config: ImageConfig;
  /** Wall ns. */
  created: string;
  /** Wall ns of the last tagging; '0' for never. */
  tagged: string;
  /** Bytes of all layers. */
  size: number;
  /** Chain IDs, lowest layer first. */
  chains: string[];
  /** Familiar names with tag (`busybox:latest`). */
  repoTags: string[];
  /** Familiar names with digest. */
  repoDigests: string[];
  /** Why configuration or layers are lost: its row cannot be read. It can be listed and removed, not used. */
  damaged?: string;
}
