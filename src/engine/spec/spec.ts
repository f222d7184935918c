/** A container's configuration becomes an OCI bundle: config.json. */
import { join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { Paths } from '../paths.ts';
import type { Container, MountPoint } from '../../model/container.ts';
import type { ContainerConfig, CreateRequest, HostConfig } from '../../model/container-config.ts';
import type { Image } from '../images/image.ts';
import { capabilitySet } from './capabilities.ts';
import { containerDevices } from './devices.ts';
import { thisHost } from './host.ts';
import { containerMounts, initMount } from './mounts.ts';
import { namespaces } from './namespaces.ts';
import type { OciSpec } from './oci.ts';
import { prepareOn } from './prepare.ts';
import { initProcess, processOfExec, wantsInit } from './process.ts';
import { ociResources } from './resources.ts';
import { seccompFilter } from './seccomp.ts';
import { sysctls } from './sysctls.ts';

/** What Debian 12's runtimes read. */
const OCI_VERSION = '1.0.2';
/** Names our scopes among others' in a systemd slice. */
const SCOPE_PREFIX = 'holdfast';
const DEFAULT_SLICE = 'system.slice';

export interface Prepared {
  config: ContainerConfig;
  hostConfig: HostConfig;
  path: string;
  args: string[];
  /** Volumes have no source yet, and no name where they are anonymous: the engine makes them. */
  mounts: MountPoint[];
  warnings: string[];
  appArmorProfile: string;
}

/** What a definition depends on beside the request, the image and the host. */
export interface Surroundings {
  config: Config;
  paths: Paths;
  /** The mounts of a container that `VolumesFrom` names. @throws NotFound */
  mountsOf(reference: string): readonly MountPoint[];
}

/** Validates a create request, merges it with its image and fills in Docker's defaults. Touches nothing.
 *  @throws InvalidParameter with Docker's texts, NotFound for a donor of volumes */
export function prepare(id: string, request: CreateRequest, image: Image, surroundings: Surroundings): Prepared {
  return prepareOn(thisHost(), id, request, image, surroundings);
}

export interface SpecInput {
  container: Container;
  config: Config;
  paths: Paths;
  /** Path of the network namespace to join; '' = the host's. */
  netns: string;
  /** Variables that tell of linked containers. */
  linkEnv?: readonly string[];
  /** Of containers that this one shares namespaces with (PidMode/IpcMode container:x), by full id. */
  pidOf(containerId: string): number;
}

/** The OCI runtime configuration (config.json) of a container whose rootfs is mounted. `ociJson` turns it into text.
 *  @throws SystemFault when the host does not have what the container asks for */
export function ociSpec(input: SpecInput): Record<string, unknown> {
  const host = thisHost();
  const { container, config, paths } = input;
  const { hostConfig } = container;
  const { mounts, rootfsPropagation } = containerMounts({ container, paths, host });
  const { devices, rules } = containerDevices(hostConfig);
  const seccomp = seccompFilter(hostConfig, config.seccompProfile, capabilitySet(hostConfig, host), host);
  const annotations = hostConfig.Annotations ?? {};
  const spec: OciSpec = {
    ociVersion: OCI_VERSION,
    root: { path: paths.rootfs(container.id), readonly: hostConfig.ReadonlyRootfs },
    ...(hostConfig.UTSMode === 'host' ? {} : { hostname: container.config.Hostname }),
    process: initProcess(input, host),
    mounts: [...mounts, ...(wantsInit(input) ? [initMount(config.initPath)] : [])],
    ...(Object.keys(annotations).length ? { annotations } : {}),
    linux: {
      namespaces: namespaces(hostConfig, input.netns, input.pidOf),
      devices,
      cgroupsPath: cgroupsPath(container, config),
      resources: { ...ociResources(hostConfig), devices: rules },
      sysctl: sysctls(hostConfig, container.config),
      ...(seccomp ? { seccomp } : {}),
      ...(rootfsPropagation ? { rootfsPropagation } : {}),
      ...(hostConfig.MaskedPaths?.length ? { maskedPaths: hostConfig.MaskedPaths } : {}),
      ...(hostConfig.ReadonlyPaths?.length ? { readonlyPaths: hostConfig.ReadonlyPaths } : {}),
    },
  };
  return { ...spec };
}

/** Where a container's cgroup is: a path for cgroupfs, slice:prefix:name for systemd. */
export function cgroupsPath(
  container: Pick<Container, 'id' | 'hostConfig'>,
  config: Pick<Config, 'cgroupDriver' | 'cgroupParent'>,
): string {
  const parent = container.hostConfig.CgroupParent || config.cgroupParent;
  if (config.cgroupDriver !== 'systemd') return join('/', parent, container.id);
  return `${parent.endsWith('.slice') ? parent : DEFAULT_SLICE}:${SCOPE_PREFIX}:${container.id}`;
}

export interface ExecRequest {
  Cmd: string[];
  Env: string[];
  User: string;
  WorkingDir: string;
  Tty: boolean;
  Privileged: boolean;
}

/** The OCI process object for an exec in a running container. @throws InvalidParameter for an unknown user */
export function execProcess(input: SpecInput, request: ExecRequest): Record<string, unknown> {
  return { ...processOfExec(input, request, thisHost()) };
}
