/** The OCI runtime configuration (config.json) of a container. github.com/opencontainers/runtime-spec */
import { join } from 'node:path';
import type { Config } from '../../config/config.ts';
import type { Container } from '../../model/container.ts';
import { capabilitySet } from './capabilities.ts';
import { containerDevices } from './devices.ts';
import { thisHost } from './host.ts';
import { containerMounts, initMount } from './mounts.ts';
import { namespaces } from './namespaces.ts';
import type { OciSpec } from './oci.ts';
import { initProcess, processOfExec, wantsInit, type ExecRequest } from './process.ts';
import { ociResources } from './oci-resources.ts';
import { seccompFilter } from './seccomp.ts';
import type { SpecInput } from './spec-input.ts';
import { sysctls } from './sysctls.ts';

/** The newest version that the runtimes of Debian 12 read. */
const OCI_VERSION = '1.0.2';
/** Distinguishes our scopes from others in a systemd slice. */
const SCOPE_PREFIX = 'holdfast';
const DEFAULT_SLICE = 'system.slice';

/**
 * The OCI runtime configuration of a container whose rootfs is mounted; `ociJson` serializes it.
 * @throws SystemFault when the host lacks something that the container needs
 */
export function ociSpec(input: SpecInput): Record<string, unknown> {
  const host = thisHost();
  const { container, config, paths, donors } = input;
  const { hostConfig } = container;
  const { mounts, rootfsPropagation } = containerMounts({ container, paths, host, donors });
  const { devices, rules } = containerDevices(hostConfig);
  const seccomp = seccompFilter(hostConfig, config.seccompProfile, capabilitySet(hostConfig, host), host);
  const spec: OciSpec = {
    ociVersion: OCI_VERSION,
    root: { path: paths.rootfs(container.id), readonly: hostConfig.ReadonlyRootfs },
    ...(hostConfig.UTSMode === 'host' ? {} : { hostname: container.config.Hostname }),
    process: initProcess(input, host),
    mounts: wantsInit(input) ? [...mounts, initMount(config.initPath)] : mounts,
    linux: {
      namespaces: namespaces(hostConfig, input.netns, input.pidOf),
      devices,
      cgroupsPath: cgroupsPath(container, config),
      resources: { ...ociResources(hostConfig), devices: rules },
      sysctl: sysctls(hostConfig, container.config),
    },
  };
  const { Annotations: annotations, MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths } = hostConfig;
  if (annotations && Object.keys(annotations).length > 0) spec.annotations = annotations;
  if (seccomp) spec.linux.seccomp = seccomp;
  if (rootfsPropagation) spec.linux.rootfsPropagation = rootfsPropagation;
  if (maskedPaths?.length) spec.linux.maskedPaths = maskedPaths;
  if (readonlyPaths?.length) spec.linux.readonlyPaths = readonlyPaths;
  return { ...spec };
}

/** The OCI process object for an exec in a running container. @throws InvalidParameter for an unknown user */
export function execProcess(input: SpecInput, request: ExecRequest): Record<string, unknown> {
  return { ...processOfExec(input, request, thisHost()) };
}

/** OCI's `cgroupsPath`: a path for the cgroupfs driver, slice:prefix:name for systemd. */
export function cgroupsPath(
  container: Pick<Container, 'id' | 'hostConfig'>,
  config: Pick<Config, 'cgroupDriver' | 'cgroupParent'>,
): string {
  const parent = container.hostConfig.CgroupParent || config.cgroupParent;
  if (config.cgroupDriver !== 'systemd') return join('/', parent, container.id);
  return `${parent.endsWith('.slice') ? parent : DEFAULT_SLICE}:${SCOPE_PREFIX}:${container.id}`;
}
