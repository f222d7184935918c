/** A container of which the store has lost something: what is still known of it, enough to stop and remove it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Container, Phase } from '../../../model/container.ts';
import { shortId } from '../../../model/short-id.ts';
import { SPEC_FILE } from '../../../protocol/paths.ts';
import { initialRunState, type RunState } from '../../../protocol/runstate.ts';
import type { ShimSpec } from '../../../protocol/spec.ts';
import { wallNow } from '../../clock.ts';
import { complete } from '../../spec/defaults.ts';
import type { ContainerDeps } from '../deps.ts';

/** Well-formed, as clients expect it, and no image's. */
const UNKNOWN_IMAGE = `sha256:${'0'.repeat(64)}`;

/** What its row still says. */
export interface Remains {
  id: string;
  name: string;
  phase: Phase;
  created: string;
  imageId: string;
  /** With the cursor that belongs to it; undefined where it cannot be read: the journal has it all. */
  stored: { state: RunState; cursor: number } | undefined;
  /** The text of its definition, or of what is left of it. */
  definition: string;
}

/** `dead`: it is never started again, and goes on while it runs. */
export function damagedContainer(
  remains: Remains,
  reason: string,
  { config, paths }: Pick<ContainerDeps, 'config' | 'paths'>,
): Container {
  const { id, name, phase, created, imageId, stored, definition } = remains;
  const empty = complete({});
  return {
    id,
    name,
    phase: phase === 'removing' ? phase : 'dead',
    created,
    imageId,
    config: { ...empty.config, Image: imageId },
    hostConfig: {
      ...empty.hostConfig,
      Runtime: config.defaultRuntime,
      LogConfig: { Type: 'json-file', Config: {} },
      NetworkMode: 'none',
    },
    path: '',
    args: [],
    mounts: [],
    endpoints: {},
    ports: [],
    netns: '',
    state: stored?.state ?? initialRunState(),
    cursor: stored?.cursor ?? 0,
    appArmorProfile: '',
    platform: 'linux',
    damaged: reason,
    lostMounts: definition + textOf(join(paths.run(id), 'config.json')),
  };
}

/** What a container's directory says where the row is lost. */
export function remainsOf(id: string, { paths, index }: Pick<ContainerDeps, 'paths' | 'index'>): Remains {
  let name = shortId(id);
  try {
    name = (JSON.parse(readFileSync(join(paths.container(id), SPEC_FILE), 'utf8')) as ShimSpec).name;
  } catch {
    // It was never started, or the file is damaged too.
  }
  return {
    id,
    name: index.isNameTaken(name) ? shortId(id) : name,
    phase: 'dead',
    created: wallNow(),
    imageId: UNKNOWN_IMAGE,
    stored: undefined,
    definition: '',
  };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
