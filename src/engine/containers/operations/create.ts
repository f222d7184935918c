/**
 * `docker create`: the request is checked and merged with the image's config, then the directory is made, then the row.
 * The next start of the daemon deletes a directory without a row.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import type { CreateRequest, HostConfig } from '../../../model/container-config.ts';
import type { Container, MountPoint } from '../../../model/container.ts';
import { InvalidParameter, NotFound } from '../../../model/errors.ts';
import { joinedContainer, joinsContainer, modeJoining } from '../../../model/namespace-mode.ts';
import { initialRunState } from '../../../protocol/runstate.ts';
import { faultPoint } from '../../../sys/fault.ts';
import { wallNow } from '../../clock.ts';
import { containerEvent } from '../../events/container-event.ts';
import type { Image } from '../../images/image.ts';
import { removeTree } from '../../remove-tree.ts';
import { prepare } from '../../spec/prepare.ts';
import type { ContainerIndex } from '../container-index.ts';
import { checkName } from '../container-name.ts';
import { parsePlatform } from '../../images/platform.ts';
import type { Platform } from '../../images/registry/manifest.ts';
import type { ContainerDeps } from '../deps.ts';
import { resolvedLinks } from '../links.ts';
import { randomName } from '../random-name.ts';
import { makeVolumes } from '../volume-mounts.ts';
import { makeWorkingDirectory } from '../working-directory.ts';

type Deps = Pick<
  ContainerDeps,
  'config' | 'paths' | 'index' | 'rows' | 'events' | 'images' | 'snapshots' | 'networks' | 'volumes'
>;

export interface CreateOptions {
  /** A random name where it is absent. */
  name?: string | undefined;
  /** `os[/arch[/variant]]` that the image must have. */
  platform?: string | undefined;
  /** A read-only bind leaves the mounts below its source writable. */
  readOnlyNonRecursive: boolean;
}

/** Leaves nothing when it throws. @throws NotFound `No such image: …`, InvalidParameter, Conflict for a name in use */
export async function create(
  { name, platform, readOnlyNonRecursive }: CreateOptions,
  request: CreateRequest,
  deps: Deps,
): Promise<{ id: string; warnings: string[] }> {
  const { index, images } = deps;
  const wanted = platform ? parsePlatform(platform) : undefined;
  const checkedName = name ? checkName(name) : undefined;
  // Before the name is checked: the 404 of a missing image makes `docker run` pull it.
  if (request.Image) images.resolve(request.Image);
  const chosenName = checkedName ?? randomName(index.isNameTaken);
  const reservation = index.reserveName(chosenName);
  try {
    const image = imageFor(request.Image ?? '', wanted, deps);
    const { container, warnings } = define(chosenName, request, image, deps);
    if (readOnlyNonRecursive) container.mounts = container.mounts.map(withoutRecursion);
    await store(container, image, deps);
    index.add(container);
    return { id: container.id, warnings };
  } finally {
    reservation.release();
  }
}

const withoutRecursion = (mount: MountPoint): MountPoint =>
  mount.type === 'bind' && !mount.rw ? { ...mount, readOnlyNonRecursive: true } : mount;

function imageFor(reference: string, platform: Platform | undefined, { images }: Deps): Image {
  if (reference === '') throw new InvalidParameter('no image specified');
  return images.resolveWhole(reference, platform);
}

/** The record, with every reference to another object resolved. Changes nothing. */
function define(
  name: string,
  request: CreateRequest,
  image: Image,
  deps: Deps,
): { container: Container; warnings: string[] } {
  const { config: daemon, paths, index, networks } = deps;
  const id = randomBytes(32).toString('hex');
  const prepared = prepare(id, request, image, {
    config: daemon,
    paths,
    mountsOf: (reference) => mountsOf(index, reference),
  });
  const { config } = prepared;
  const hostConfig = resolveReferences(prepared.hostConfig, name, deps);
  const endpoints = networks.plan(hostConfig.NetworkMode, request.NetworkingConfig?.EndpointsConfig ?? {}, {
    id,
    name,
    hostname: config.Hostname,
  });
  const container: Container = {
    id,
    name,
    phase: 'ready',
    created: wallNow(),
    imageId: image.id,
    config,
    hostConfig,
    path: prepared.path,
    args: prepared.args,
    mounts: prepared.mounts,
    endpoints,
    ports: [],
    netns: '',
    state: initialRunState(),
    cursor: 0,
    appArmorProfile: prepared.appArmorProfile,
    platform: 'linux',
  };
  return { container, warnings: prepared.warnings };
}

/** Names and id prefixes of containers and networks become full ids: a prefix may match another object one day. */
function resolveReferences(hostConfig: HostConfig, name: string, { index, networks }: Deps): HostConfig {
  const resolved = { ...hostConfig };
  for (const key of ['NetworkMode', 'PidMode', 'IpcMode'] as const) {
    const mode = hostConfig[key];
    if (!joinsContainer(mode)) continue;
    const mustExist = key !== 'NetworkMode' && copiesLabels(hostConfig);
    resolved[key] = modeJoining(idOf(index, joinedContainer(mode), { mustExist }));
  }
  resolved.Links = resolvedLinks(resolved, name, index);
  const network = networks.find(resolved.NetworkMode);
  if (network && ![network.id, network.name].includes(resolved.NetworkMode)) resolved.NetworkMode = network.id;
  return resolved;
}

/**
 * Whether dockerd looks for the containers whose pid and ipc namespaces are joined, to copy their SELinux labels (moby
 * daemon/create.go, generateSecurityOpt).
 */
const copiesLabels = ({ SecurityOpt, IpcMode, PidMode, Privileged }: HostConfig): boolean =>
  !Privileged &&
  IpcMode !== 'host' &&
  PidMode !== 'host' &&
  !SecurityOpt?.some((option) => option.startsWith('label='));

// Others may be created before the start, which looks them up again. A 404 would make `docker run` pull the image.
function idOf(index: ContainerIndex, reference: string, { mustExist }: { mustExist: boolean }): string {
  try {
    return index.lookup(reference).container.id;
  } catch (error) {
    if (!(error instanceof NotFound)) throw error;
    if (mustExist) throw new InvalidParameter(error.message);
    return reference;
  }
}

// `--volumes-from` a missing container is a bad request in dockerd: a 404 would make `docker run` pull.
function mountsOf(index: ContainerIndex, reference: string): Container['mounts'] {
  try {
    return index.lookup(reference).container.mounts;
  } catch (error) {
    throw error instanceof NotFound ? new InvalidParameter(error.message) : error;
  }
}

/** Directory, snapshot, volumes, then the row. */
async function store(c: Container, image: Image, deps: Deps): Promise<void> {
  const { paths, rows, events, images, snapshots, volumes } = deps;
  const directory = paths.container(c.id);
  const reservation = volumes.reserve(c.id);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o710 });
    snapshots.prepare(c.id, image.chains);
    faultPoint('create.directories');
    makeWorkingDirectory(c, deps);
    await makeVolumes(c, reservation, deps);
    rows.transaction(() => {
      rows.insert(c);
      events.record(containerEvent(c, 'create'));
    });
  } catch (error) {
    reservation.release();
    await removeTree(directory);
    for (const mount of c.mounts.filter(({ anonymous }) => anonymous))
      await volumes.remove(mount.name, { force: true }).catch(() => undefined);
    // An image that was removed meanwhile left its layers to this container.
    if (!images.find(image.id)) await images.collect();
    throw error;
  } finally {
    reservation.release();
  }
}
