/** Images and archives made of a container (moby daemon/{commit,export}.go). */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { faultPoint } from '../../../sys/fault.ts';
import { Conflict } from '../../../model/errors.ts';
import { applyChanges } from '../../images/changes.ts';
import { familiarString, targetReference } from '../../images/reference.ts';
import { mergeWithImage } from '../../spec/merge.ts';
import type { ContainerConfig } from '../../../model/container-config.ts';
import type { Container } from '../../../model/container.ts';
import { containerEvent } from '../../events/container-event.ts';
import type { Lifecycle } from '../lifecycle.ts';
import { standing } from '../moves.ts';
import type { Parts } from '../parts.ts';
import type { Supervisor } from '../handle/handle.ts';

export interface CommitRequest {
  repo: string;
  tag: string;
  comment: string;
  author: string;
  /** The container stands still meanwhile. */
  pause: boolean;
  /** Dockerfile instructions. */
  changes: string[];
  /** Settings of the image; what they leave open is the container's, all of it when there are none. */
  config: { [K in keyof ContainerConfig]?: ContainerConfig[K] | null };
}

/** In Docker's order, for what is written. */
const NOTHING: ContainerConfig = {
  Hostname: '',
  Domainname: '',
  User: '',
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: [],
  Cmd: null,
  Image: '',
  Volumes: null,
  WorkingDir: '',
  Entrypoint: null,
  OnBuild: null,
  Labels: {},
};

/** Tells a daemon to come that it was we who paused the container. */
const marker = (c: Container, parts: Parts): string => join(parts.paths.container(c.id), 'paused-for-commit');

/** @throws Conflict when it is going, InvalidParameter for bad names and instructions */
export async function commitContainer(
  s: Supervisor,
  request: CommitRequest,
  parts: Parts,
  lifecycle: Lifecycle,
): Promise<string> {
  const c = s.container;
  const target = targetReference(request.repo, request.tag);
  refuseGoing(c, 'commit');
  const base = Object.keys(request.config).length === 0 ? c.config : given(request.config);
  const own = applyChanges({ ...NOTHING, ...base }, request.changes);
  const config = mergeWithImage({ ...NOTHING, ...given(own) }, { config: c.config });
  const resume = request.pause ? await pause(s, parts, lifecycle) : undefined;
  try {
    return await parts.images.commit(
      parts.archives.upper(parts.snapshots.parts(c.id).upper),
      {
        parent: c.imageId,
        container: c.id,
        containerConfig: c.config,
        config,
        author: request.author,
        comment: request.comment,
        ...(target && { target }),
      },
      (id) =>
        parts.events.record(
          containerEvent(c, 'commit', {
            comment: request.comment,
            imageID: id,
            imageRef: target ? familiarString(target) : '',
          }),
        ),
    );
  } finally {
    await resume?.();
  }
}

/**
 * All files of a container: as it sees them while it runs, as it left them when it does not. @throws Conflict when it
 * is going
 */
export function exportContainer(c: Container, parts: Parts): AsyncIterable<Buffer> {
  refuseGoing(c, 'export');
  const mounted = parts.snapshots.openMounted(c.id);
  parts.events.record(containerEvent(c, 'export'));
  return mounted === undefined ? parts.archives.stack(parts.snapshots.stack(c.id)) : parts.archives.tree(mounted);
}

/** Lets a container go on that a daemon paused for a commit it did not live to finish. */
export async function resumeAfterCommit(s: Supervisor, parts: Parts, lifecycle: Lifecycle): Promise<void> {
  const path = marker(s.container, parts);
  if (!existsSync(path)) return;
  if (standing(s.container) === 'paused') await lifecycle.unpause(s);
  rmSync(path, { force: true });
}

function refuseGoing(c: Container, verb: 'commit' | 'export'): void {
  if (c.phase === 'dead') throw new Conflict(`You cannot ${verb} container ${c.id} which is Dead`);
  if (c.phase === 'removing') throw new Conflict(`You cannot ${verb} container ${c.id} which is being removed`);
}

// undefined when it does not run, or stands still already.
async function pause(s: Supervisor, parts: Parts, lifecycle: Lifecycle): Promise<(() => Promise<void>) | undefined> {
  if (standing(s.container) !== 'running') return undefined;
  writeFileSync(marker(s.container, parts), '');
  try {
    await lifecycle.pause(s);
  } catch {
    // It ended just now; what it left is there to be committed.
    rmSync(marker(s.container, parts), { force: true });
    return undefined;
  }
  faultPoint('image-commit.paused');
  return () => resumeAfterCommit(s, parts, lifecycle);
}

/** What is null says nothing. */
function given(config: object): Partial<ContainerConfig> {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null && value !== undefined));
}
