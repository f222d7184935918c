/** Makes a container: checked and merged first, then its directory, then its row. A directory without a row is nobody's. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { initialRunState } from '../../protocol/runstate.ts';
import { faultPoint } from '../../sys/fault.ts';
import { wallNow } from '../clock.ts';
import { InvalidParameter, NotFound } from '../errors.ts';
import type { Image } from '../images/image.ts';
import { prepare } from '../spec/spec.ts';
import type { CreateRequest, EndpointRequest } from './config.ts';
import type { Container, MountPoint } from './container.ts';
import { containerEvent, splitMode } from './lifecycle.ts';
import { resolvedLinks } from './links.ts';
import type { Parts } from './parts.ts';

/** Docker's rule for names (moby daemon/names). */
const NAME = /^\/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** @throws InvalidParameter for a name that Docker would refuse */
export function checkName(name: string): string {
  if (!NAME.test(name)) throw new InvalidParameter(`Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  return name.replace(/^\//, '');
}

export interface Peers {
  /** A container that exists. @throws NotFound */
  find(reference: string): Container;
}

/** @throws NotFound `No such image: …`, InvalidParameter. Nothing is left when it throws. */
export async function createContainer(parts: Parts, name: string, request: CreateRequest, platform: string | undefined, peers: Peers): Promise<{ container: Container; warnings: string[] }> {
  const image = imageFor(parts, request.Image ?? '', platform);
  const id = randomBytes(32).toString('hex');
  const prepared = prepare(id, request, image, { config: parts.config, paths: parts.paths, mountsOf: (reference) => peers.find(reference).mounts });
  const { config, hostConfig } = prepared;
  for (const key of ['NetworkMode', 'PidMode', 'IpcMode'] as const) {
    const [kind, other] = splitMode(hostConfig[key]);
    if (kind === 'container') hostConfig[key] = `container:${peers.find(other).id}`;
  }
  hostConfig.Links = resolvedLinks(hostConfig, name, (reference) => peers.find(reference));
  // Part of an id would become another network's one day.
  const network = parts.networks.find(hostConfig.NetworkMode);
  if (network && ![network.id, network.name].includes(hostConfig.NetworkMode)) hostConfig.NetworkMode = network.id;
  const container: Container = {
    id, name, phase: 'ready', created: wallNow(), imageId: image.id, config, hostConfig, path: prepared.path, args: prepared.args,
    mounts: prepared.mounts, endpoints: {}, ports: [], netns: '', state: initialRunState(), cursor: 0, appArmorProfile: prepared.appArmorProfile, platform: 'linux',
  };
  container.endpoints = parts.networks.plan(hostConfig.NetworkMode, endpointRequests(request), { id, name, hostname: config.Hostname });
  const directory = parts.paths.container(id);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o710 });
    parts.snapshots.prepare(id, image.chains);
    faultPoint('create.directories');
    await makeVolumes(parts, container, image);
    parts.rows.transaction(() => {
      parts.rows.insert(container);
      parts.events.record(containerEvent(container, 'create'));
    });
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    for (const mount of container.mounts.filter((m) => m.type === 'volume' && isAnonymous(m.name))) {
      await parts.volumes.remove(mount.name, { force: true }).catch(() => undefined);
    }
    throw error;
  }
  return { container, warnings: prepared.warnings };
}

function imageFor(parts: Parts, reference: string, platform: string | undefined): Image {
  if (reference === '') throw new InvalidParameter('no image specified');
  const image = parts.images.resolve(reference);
  if (platform) {
    const [os = '', architecture = ''] = platform.split('/');
    const { config } = image;
    if ((os && os !== config.os) || (architecture && architecture !== config.architecture)) {
      throw new NotFound(`image with reference ${reference} was found but its platform (${config.os}/${config.architecture}) does not match the specified platform (${platform})`);
    }
  }
  return image;
}

function endpointRequests(request: CreateRequest): Record<string, EndpointRequest | null> {
  return request.NetworkingConfig?.EndpointsConfig ?? {};
}

/** An anonymous volume's name is 64 hex digits. */
export const isAnonymous = (name: string): boolean => /^[0-9a-f]{64}$/.test(name);

async function makeVolumes(parts: Parts, c: Container, image: Image): Promise<void> {
  const empty: [MountPoint, boolean][] = [];
  for (const mount of c.mounts.filter((m) => m.type === 'volume' && m.source === '')) {
    const request = c.hostConfig.Mounts?.find((m) => m.Type === 'volume' && join('/', m.Target) === mount.destination)?.VolumeOptions;
    const volume = await parts.volumes.create({
      name: mount.name, driver: mount.driver || 'local', labels: request?.Labels ?? {}, options: request?.DriverConfig?.Options ?? {},
    });
    Object.assign(mount, { name: volume.name, source: request?.Subpath ? join(volume.mountpoint, request.Subpath) : volume.mountpoint, driver: volume.driver });
    if (!request?.NoCopy && mount.mode !== 'nocopy' && !request?.Subpath) empty.push([mount, true]);
  }
  if (empty.length === 0) return;
  // Copy-up needs the image's files: the rootfs is mounted for a moment.
  parts.snapshots.mount(c.id, image.chains);
  try {
    for (const [mount] of empty) await parts.volumes.copyUp(parts.volumes.resolve(mount.name), parts.paths.rootfs(c.id), mount.destination);
  } finally {
    parts.snapshots.unmount(c.id);
  }
}
