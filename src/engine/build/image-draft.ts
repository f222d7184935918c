/** The configuration of an image that is being built. */
import type { ContainerConfig } from '../../model/container-config.ts';
import type { ImageConfig } from '../images/image.ts';
import type { Platform } from './graph.ts';

export interface HistoryDraft {
  createdBy: string;
  /** Of steps of this build; those of the base image are kept as they are. */
  isEmpty: boolean;
}

export interface ImageDraft {
  config: Partial<ContainerConfig>;
  platform: Platform & { 'os.version'?: string; 'os.features'?: string[] };
  author: string;
  /** The base image's own entries, unchanged. */
  inherited: NonNullable<ImageConfig['history']>;
  history: HistoryDraft[];
}

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export const emptyDraft = (platform: Platform): ImageDraft => ({
  config: {},
  platform,
  author: '',
  inherited: [],
  history: [],
});

export function draftOf(image: ImageConfig): ImageDraft {
  const { os, architecture, variant } = image;
  return {
    config: structuredClone(image.config ?? {}),
    platform: {
      os,
      architecture,
      ...(variant && { variant }),
      ...(image['os.version'] && { 'os.version': image['os.version'] }),
      ...(image['os.features'] && { 'os.features': image['os.features'] }),
    },
    author: image.author ?? '',
    inherited: image.history ?? [],
    history: [],
  };
}

/** Of a stage that another one is based on. Its triggers are not inherited: they run in the other one. */
export function draftFrom(base: ImageDraft): ImageDraft {
  const copy = structuredClone(base);
  copy.config.OnBuild = null;
  return copy;
}

/** PATH is always set. */
export function ensurePath(draft: ImageDraft): void {
  const env = draft.config.Env ?? [];
  if (!env.some((entry) => entry.startsWith('PATH='))) draft.config.Env = [...env, `PATH=${DEFAULT_PATH}`];
}
