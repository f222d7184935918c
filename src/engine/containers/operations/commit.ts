/** `docker commit`: an image of what a container has changed (moby daemon/commit.go). */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EMPTY_CONTAINER_CONFIG, type ContainerConfig } from '../../../model/container-config.ts';
import type { Container } from '../../../model/container.ts';
import { dockerStatus } from '../../../model/container-status.ts';
import { Conflict } from '../../../model/errors.ts';
import { faultPoint } from '../../../sys/fault.ts';
import { containerEvent } from '../../events/container-event.ts';
import { applyChanges } from '../../images/config-changes.ts';
import { familiarString, targetReference } from '../../images/reference.ts';
import { mergeWithImage } from '../../spec/merge.ts';
import type { ContainerDeps } from '../deps.ts';
import type { ContainerHandle } from '../handle/container-handle.ts';
import { pause, unpause } from './pause.ts';

type Deps = Pick<ContainerDeps, 'images' | 'archives' | 'snapshots' | 'events' | 'paths'>;

export interface CommitRequest {
  repo: string;
  tag: string;
  comment: string;
  author: string;
  /** Pause the container during the commit. */
  pause: boolean;
  /** Dockerfile instructions. */
  changes: string[];
  /** The image's config; unset fields, or all of them, come from the container. */
  config: { [K in keyof ContainerConfig]?: ContainerConfig[K] | null };
}

/** As Docker writes an image's config: OnBuild is always there, before the labels. */
const { Labels: NO_LABELS, ...EMPTY } = EMPTY_CONTAINER_CONFIG;
const EMPTY_IMAGE_CONFIG: ContainerConfig = { ...EMPTY, OnBuild: null, Labels: NO_LABELS };

/** Returns the image's id. @throws Conflict when dead or being removed; InvalidParameter for bad names, instructions */
export async function commit(handle: ContainerHandle, request: CommitRequest, deps: Deps): Promise<string> {
  const { images, archives, snapshots, events } = deps;
  const c = handle.container;
  const target = targetReference(request.repo, request.tag);
  assertReadable(c, 'commit');
  const base = Object.keys(request.config).length === 0 ? c.config : withoutNulls(request.config);
  const own = applyChanges({ ...EMPTY_IMAGE_CONFIG, ...base }, request.changes);
  const config = mergeWithImage({ ...EMPTY_IMAGE_CONFIG, ...withoutNulls(own) }, { config: c.config });
  const paused = request.pause && (await pauseForCommit(handle, deps));
  try {
    return await images.commit(
      archives.upper(snapshots.layerDirectories(c.id).upper),
      {
        parent: c.imageId,
        container: c.id,
        containerConfig: c.config,
        config,
        author: request.author,
        comment: request.comment,
        ...(target && { target }),
      },
      (id) => {
        const imageRef = target ? familiarString(target) : '';
        events.record(containerEvent(c, 'commit', { comment: request.comment, imageID: id, imageRef }));
      },
    );
  } catch (error) {
    // A removal takes the files away while they are read.
    assertReadable(c, 'commit');
    throw error;
  } finally {
    if (paused) await resumeAfterCommit(handle, deps);
  }
}

/** @throws Conflict with Docker's text when the container is dead or being removed */
export function assertReadable(c: Container, verb: 'commit' | 'export'): void {
  if (c.phase === 'dead') throw new Conflict(`You cannot ${verb} container ${c.id} which is Dead`);
  if (c.phase === 'removing') throw new Conflict(`You cannot ${verb} container ${c.id} which is being removed`);
}

/** Whether a daemon paused the container for a commit that it did not finish. */
export const isPausedForCommit = (c: Container, { paths }: Pick<Deps, 'paths'>): boolean =>
  existsSync(marker(c, paths));

/** Resumes a container that was paused for a commit, by this daemon or the one before. */
export async function resumeAfterCommit(handle: ContainerHandle, { paths }: Pick<Deps, 'paths'>): Promise<void> {
  if (dockerStatus(handle.container) === 'paused') await unpause(handle);
  rmSync(marker(handle.container, paths), { force: true });
}

/** Tells the next daemon that it was a commit that paused the container. */
const marker = (c: Container, paths: Deps['paths']): string => join(paths.container(c.id), 'paused-for-commit');

/** Whether it paused the container: not when it does not run or is paused already. */
async function pauseForCommit(handle: ContainerHandle, { paths }: Deps): Promise<boolean> {
  if (dockerStatus(handle.container) !== 'running') return false;
  const path = marker(handle.container, paths);
  writeFileSync(path, '');
  try {
    await pause(handle);
  } catch {
    // It has just ended; its files can be committed.
    rmSync(path, { force: true });
    return false;
  }
  faultPoint('image-commit.paused');
  return true;
}

function withoutNulls(config: object): Partial<ContainerConfig> {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null && value !== undefined));
}
