/** A container's configuration becomes an OCI bundle: config.json. */
import type { Config } from '../../config/config.ts';
import type { Paths } from '../paths.ts';
import type { Container, MountPoint } from '../containers/container.ts';
import type { ContainerConfig, CreateRequest, HostConfig } from '../containers/config.ts';
import type { Image } from '../images/image.ts';

export interface Prepared {
  config: ContainerConfig;
  hostConfig: HostConfig;
  path: string;
  args: string[];
  mounts: MountPoint[];
  warnings: string[];
  appArmorProfile: string;
}

/** Validates a create request, merges it with its image and fills in Docker's defaults. Touches nothing.
 *  @throws InvalidParameter with Docker's texts */
export function prepare(_id: string, _request: CreateRequest, _image: Image, _config: Config, _paths: Paths): Prepared { throw new Error('unwritten'); }

export interface SpecInput {
  container: Container;
  config: Config;
  paths: Paths;
  /** Path of the network namespace to join; '' = the host's. */
  netns: string;
  /** Of containers that this one shares namespaces with (PidMode/IpcMode container:x), by full id. */
  pidOf(containerId: string): number;
}

/** The OCI runtime configuration (config.json) of a container whose rootfs is mounted. */
export function ociSpec(_input: SpecInput): Record<string, unknown> { throw new Error('unwritten'); }

export interface ExecRequest {
  Cmd: string[];
  Env: string[];
  User: string;
  WorkingDir: string;
  Tty: boolean;
  Privileged: boolean;
}

/** The OCI process object for an exec in a running container. @throws InvalidParameter for an unknown user */
export function execProcess(_input: SpecInput, _request: ExecRequest): Record<string, unknown> { throw new Error('unwritten'); }
