/**
 * Makes a container: checked and merged first, then its directory, then its row. A directory without a row is nobody's.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { initialRunState } from '../../../protocol/runstate.ts';
import { faultPoint } from '../../../sys/fault.ts';
import { wallNow } from '../../clock.ts';
import { InvalidParameter, NotFound } from '../../../model/errors.ts';
import type { Image } from '../../images/image.ts';
import { prepare } from '../../spec/prepare.ts';
import type { CreateRequest, EndpointRequest } from '../../../model/container-config.ts';
import type { Container } from '../../../model/container.ts';
import { containerEvent } from '../../events/container-event.ts';
import { splitMode } from '../lifecycle.ts';
import { resolvedLinks } from '../links.ts';
import type { Parts } from '../parts.ts';
import { makeVolumes } from '../volume-mounts.ts';
import { makeWorkingDirectory } from '../working-directory.ts';

/** Docker's rule for names (moby daemon/names). */
const NAME = /^\/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** @throws InvalidParameter for a name that Docker would refuse */
export function checkName(name: string): string {
  if (!NAME.test(name))
    throw new InvalidParameter(`Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  return name.replace(/^\//, '');
}

export interface Peers {
  /** A container that exists. @throws NotFound */
  find(reference: string): Container;
  /** The new one is among them from now on. */
  add(container: Container): void;
}

/** @throws NotFound `No such image: …`, InvalidParameter. Nothing is left when it throws. */
export async function createContainer(
  parts: Parts,
  name: string,
  request: CreateRequest,
  platform: string | undefined,
  peers: Peers,
): Promise<{ container: Container; warnings: string[] }> {
  const image = imageFor(parts, request.Image ?? '', platform);
  const id = randomBytes(32).toString('hex');
  const prepared = prepare(id, request, image, {
    config: parts.config,
    paths: parts.paths,
    mountsOf: (reference) => donorMounts(peers, reference),
  });
  const { config, hostConfig } = prepared;
  for (const key of ['NetworkMode', 'PidMode', 'IpcMode'] as const) {
    const [kind, other] = splitMode(hostConfig[key]);
    if (kind === 'container') hostConfig[key] = `container:${idOf(peers, other)}`;
  }
  hostConfig.Links = resolvedLinks(hostConfig, name, (reference) => peers.find(reference));
  // Part of an id would become another network's one day.
  const network = parts.networks.find(hostConfig.NetworkMode);
  if (network && ![network.id, network.name].includes(hostConfig.NetworkMode)) hostConfig.NetworkMode = network.id;
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
    endpoints: {},
    ports: [],
    netns: '',
    state: initialRunState(),
    cursor: 0,
    appArmorProfile: prepared.appArmorProfile,
    platform: 'linux',
  };
  container.endpoints = parts.networks.plan(hostConfig.NetworkMode, endpointRequests(request), {
    id,
    name,
    hostname: config.Hostname,
  });
  const directory = parts.paths.container(id);
  const hold = parts.volumes.hold(id);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o710 });
    parts.snapshots.prepare(id, image.chains);
    faultPoint('create.directories');
    makeWorkingDirectory(parts, container);
    await makeVolumes(parts, container, hold);
    parts.rows.transaction(() => {
      parts.rows.insert(container);
      parts.events.record(containerEvent(container, 'create'));
    });
    peers.add(container);
  } catch (error) {
    hold.release();
    rmSync(directory, { recursive: true, force: true });
    for (const mount of container.mounts.filter((m) => m.anonymous))
      await parts.volumes.remove(mount.name, { force: true }).catch(() => undefined);
    // Removed meanwhile, its image left it the layers.
    if (!parts.images.find(image.id)) await parts.images.collect();
    throw error;
  } finally {
    hold.release();
  }
  return { container, warnings: prepared.warnings };
}

// One that is not there may come before the start, which looks it up again; and `docker run` would pull on a 404.
function idOf(peers: Peers, reference: string): string {
  try {
    return peers.find(reference).id;
  } catch (error) {
    if (error instanceof NotFound) return reference;
    throw error;
  }
}

// dockerd calls a donor that is not there a wrong request, not a missing thing: `docker run` would pull on a 404.
function donorMounts(peers: Peers, reference: string): Container['mounts'] {
  try {
    return peers.find(reference).mounts;
  } catch (error) {
    throw error instanceof NotFound ? new InvalidParameter(error.message) : error;
  }
}

function imageFor(parts: Parts, reference: string, platform: string | undefined): Image {
  if (reference === '') throw new InvalidParameter('no image specified');
  const image = parts.images.resolve(reference);
  if (platform) {
    const [os = '', architecture = ''] = platform.split('/');
    const { config } = image;
    if ((os && os !== config.os) || (architecture && architecture !== config.architecture)) {
      throw new NotFound(
        `image with reference ${reference} was found but its platform (${config.os}/${config.architecture}) does not match the specified platform (${platform})`,
      );
    }
  }
  return image;
}

function endpointRequests(request: CreateRequest): Record<string, EndpointRequest | null> {
  return request.NetworkingConfig?.EndpointsConfig ?? {};
}
