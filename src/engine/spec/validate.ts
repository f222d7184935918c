/** Validates a create request. The order and the texts are dockerd's (runconfig, verifyContainerSettings). */
import { isAbsolute } from 'node:path';
import { isIP } from 'node:net';
import type { Config } from '../../config/config.ts';
import { InvalidParameter } from '../../model/errors.ts';
import type { ContainerConfig, CreateRequest, HostConfig } from '../../model/container-config.ts';
import { hostHasAppArmor, UNCONFINED } from './apparmor.ts';
import { checkCapabilities } from './capabilities.ts';
import { CONFIG_KEYS } from './defaults.ts';
import { checkDevices } from './devices.ts';
import { checkEnvironment } from './env.ts';
import { checkHealthcheck } from './health.ts';
import type { Host } from './host.ts';
import { parseLink } from './links.ts';
import { checkMounts, checkTmpfs } from './mount-spec.ts';
import { cleanPath } from './mount-target.ts';
import { parseVolumesFrom } from './volumes-from.ts';
import { joinedContainer, joinsContainer } from '../../model/namespace-mode.ts';
import { checkModes } from './namespaces.ts';
import { checkResources } from './resources.ts';
import { checkSeccomp } from './seccomp.ts';
import { securityOptions } from './security-options.ts';
import { parseSignal } from './signals.ts';
import { checkSysctls } from './sysctls.ts';
import { checkUlimits } from './ulimits.ts';

/** Linux's HOST_NAME_MAX. */
const MAX_HOSTNAME = 64;

export interface Checked {
  config: ContainerConfig;
  /** Without the options that this host does not support. */
  hostConfig: HostConfig;
  warnings: string[];
}

/** Rejects a request without any key of `Config`. @throws InvalidParameter */
export function checkPresence(request: CreateRequest): void {
  if (!Object.keys(request).some((key) => CONFIG_KEYS.includes(key)))
    throw new InvalidParameter('config cannot be empty in order to create a container');
}

/** All checks that do not depend on the image. @throws InvalidParameter */
export function checkRequest(
  asked: { config: ContainerConfig; hostConfig: HostConfig },
  daemon: Config,
  host: Host,
): Checked {
  checkCombinations(asked.config, asked.hostConfig, host);
  const config = checkedConfig(asked.config);
  const warnings = checkHealthcheck(config.Healthcheck);
  checkHostConfig(asked.hostConfig);
  const limited = checkResources(asked.hostConfig, host, 'create');
  checkPlatform(limited.resources, daemon, host);
  return {
    config,
    hostConfig: withPossibleOomScore(limited.resources, host, warnings),
    warnings: [...warnings, ...limited.warnings, ...hostWarnings(config, limited.resources, host)],
  };
}

/** @throws InvalidParameter `invalid restart policy: unknown policy 'x'; use one of …` */
export function checkRestartPolicy({ Name, MaximumRetryCount }: HostConfig['RestartPolicy']): void {
  switch (Name) {
    case 'no':
    case 'always':
    case 'unless-stopped': {
      const negative = MaximumRetryCount < 0 ? ' and cannot be negative' : '';
      if (MaximumRetryCount !== 0)
        throw new InvalidParameter(
          `invalid restart policy: maximum retry count can only be used with 'on-failure'${negative}`,
        );
      return;
    }
    case 'on-failure':
      if (MaximumRetryCount < 0)
        throw new InvalidParameter('invalid restart policy: maximum retry count cannot be negative');
      return;
    case '':
      return;
    default:
      throw new InvalidParameter(
        `invalid restart policy: unknown policy '${Name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
      );
  }
}

function checkCombinations(config: ContainerConfig, hostConfig: HostConfig, host: Host): void {
  const mode = hostConfig.NetworkMode;
  if (mode === 'container' || joinsContainer(mode)) checkJoinedNetwork(config, hostConfig);
  if (hostConfig.UTSMode === 'host' && config.Hostname) conflict('hostname and the UTS mode');
  if (mode === 'host' && hostConfig.Links?.length)
    conflict("host type networking can't be used with links. This would result in undefined behavior");
  if (hostConfig.Isolation && hostConfig.Isolation.toLowerCase() !== 'default') {
    throw new InvalidParameter(`invalid isolation (${hostConfig.Isolation}): linux only supports 'default'`);
  }
  if (hostConfig.IOMaximumBandwidth !== 0)
    throw new InvalidParameter('invalid option: QoS maximum bandwidth configuration is not supported on linux');
  if (hostConfig.IOMaximumIOps !== 0)
    throw new InvalidParameter('invalid option: QoS maximum IOPs configuration is not supported on linux');
  const { CpuRealtimePeriod: period, CpuRealtimeRuntime: runtime } = hostConfig;
  if ((period !== 0 || runtime !== 0) && !host.controls.has('cpuRealtime'))
    throw new InvalidParameter('kernel does not support CPU real-time scheduler');
  if (period !== 0 && runtime > period)
    throw new InvalidParameter('cpu real-time runtime cannot be higher than cpu real-time period');
  if (hostConfig.CpuShares < 0)
    throw new InvalidParameter(`invalid CPU shares (${hostConfig.CpuShares}): value must be a positive integer`);
}

/** A container that joins another one's network has no network settings of its own. */
function checkJoinedNetwork(config: ContainerConfig, hostConfig: HostConfig): void {
  if (!joinedContainer(hostConfig.NetworkMode))
    throw new InvalidParameter('invalid network mode: invalid container format container:<name|id>');
  if (config.Hostname) conflict('hostname and the network mode');
  if (hostConfig.Links?.length)
    conflict("container type network can't be used with links. This would result in undefined behavior");
  if (hostConfig.Dns?.length) conflict('dns and the network mode');
  if (hostConfig.ExtraHosts?.length) conflict('custom host-to-IP mapping and the network mode');
  if (config.MacAddress) conflict('mac-address and the network mode');
  if (Object.keys(hostConfig.PortBindings).length || hostConfig.PublishAllPorts)
    conflict('port publishing and the container type network mode');
  if (config.ExposedPorts) conflict('port exposing and the container type network mode');
}

function conflict(reason: string): never {
  throw new InvalidParameter(`conflicting options: ${reason}`);
}

function checkedConfig(config: ContainerConfig): ContainerConfig {
  const { WorkingDir: directory } = config;
  if (directory && !isAbsolute(directory))
    throw new InvalidParameter(`the working directory '${directory}' is invalid, it needs to be an absolute path`);
  if (config.StopSignal) parseSignal(config.StopSignal);
  checkEnvironment(config.Env);
  for (const name of [config.Hostname, config.Domainname]) {
    if (Buffer.byteLength(name) > MAX_HOSTNAME || /[\s/\0]/.test(name))
      throw new InvalidParameter(`invalid hostname format: ${name}`);
  }
  if (config.MacAddress && !/^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$/i.test(config.MacAddress))
    throw new InvalidParameter(`invalid MAC address: ${config.MacAddress}`);
  return { ...config, WorkingDir: directory && cleanPath(directory) };
}

function checkHostConfig(hostConfig: HostConfig): void {
  const { RestartPolicy: policy } = hostConfig;
  if (hostConfig.AutoRemove && policy.Name !== 'no' && policy.Name !== '')
    throw new InvalidParameter("can't create 'AutoRemove' container with restart policy");
  checkMounts(hostConfig.Mounts ?? []);
  for (const entry of hostConfig.ExtraHosts ?? []) checkExtraHost(entry);
  checkRestartPolicy(policy);
  for (const key of Object.keys(hostConfig.Annotations ?? {})) {
    if (key === '')
      throw new InvalidParameter('invalid Annotations: the empty string is not permitted as an annotation key');
  }
}

function checkPlatform(hostConfig: HostConfig, daemon: Config, host: Host): void {
  checkCapabilities(hostConfig, host);
  checkModes(hostConfig);
  if (hostConfig.ShmSize < 0) throw new InvalidParameter('SHM size can not be less than 0');
  if (hostConfig.OomScoreAdj < -1000 || hostConfig.OomScoreAdj > 1000) {
    throw new InvalidParameter(`Invalid value ${hostConfig.OomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  }
  if (hostConfig.CgroupParent && daemon.cgroupDriver === 'systemd' && !/^.+\.slice$/.test(hostConfig.CgroupParent)) {
    throw new InvalidParameter('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"');
  }
  if (hostConfig.Runtime && !Object.hasOwn(daemon.runtimes, hostConfig.Runtime))
    throw new InvalidParameter(`unknown or invalid runtime name: ${hostConfig.Runtime}`);
  checkTmpfs(hostConfig.Tmpfs ?? {});
  securityOptions(hostConfig.SecurityOpt);
  checkSeccomp(hostConfig, host);
  checkSysctls(hostConfig);
  checkUlimits(hostConfig.Ulimits ?? [], host);
  checkDevices(hostConfig);
  for (const text of hostConfig.VolumesFrom ?? []) parseVolumesFrom(text);
  for (const address of hostConfig.Dns ?? [])
    if (isIP(address) === 0) throw new InvalidParameter(`IP address is not correctly formatted: ${address}`);
  const [storage] = Object.keys(hostConfig.StorageOpt ?? {});
  if (storage === 'size')
    throw new InvalidParameter("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
  if (storage) throw new InvalidParameter(`Unknown option ${storage}`);
  for (const link of hostConfig.Links ?? []) parseLink(link);
  if (hostConfig.Links?.length && hostConfig.NetworkMode === 'none')
    throw new InvalidParameter(`Links need a network (${hostConfig.Links.join(', ')})`);
}

function checkExtraHost(entry: string): void {
  const colon = entry.indexOf(':');
  const address = entry.slice(colon + 1);
  if (colon <= 0) throw new InvalidParameter(`bad format for add-host: ${JSON.stringify(entry)}`);
  if (address !== 'host-gateway' && isIP(address.replace(/^\[(.*)\]$/, '$1')) === 0)
    throw new InvalidParameter(`invalid IP address in add-host: ${JSON.stringify(address)}`);
}

/** Raises a score that this process may not set, and warns. */
function withPossibleOomScore(hostConfig: HostConfig, host: Host, warnings: string[]): HostConfig {
  const lowest = lowestOomScore(host);
  if (hostConfig.OomScoreAdj === 0 || hostConfig.OomScoreAdj >= lowest) return hostConfig;
  warnings.push(
    `OomScoreAdj: ${hostConfig.OomScoreAdj} is below what this daemon may give without CAP_SYS_RESOURCE; ${lowest} is used.`,
  );
  return { ...hostConfig, OomScoreAdj: lowest };
}

/** Going below the process's own score needs CAP_SYS_RESOURCE. proc(5), oom_score_adj */
export const lowestOomScore = (host: Host): number =>
  host.capabilities.includes('CAP_SYS_RESOURCE') ? -1000 : host.oomScoreAdj;

function hostWarnings(config: ContainerConfig, hostConfig: HostConfig, host: Host): string[] {
  const security = securityOptions(hostConfig.SecurityOpt);
  const networked = hostConfig.NetworkMode !== 'host' && hostConfig.NetworkMode !== 'none' && !config.NetworkDisabled;
  const list: [boolean, string][] = [
    [networked && !host.ipv4Forwarding, 'IPv4 forwarding is disabled. Networking will not work.'],
    [
      hostConfig.NetworkMode === 'host' && Object.keys(hostConfig.PortBindings).length > 0,
      'Published ports are discarded when using host network mode',
    ],
    [config.ArgsEscaped === true, 'ArgsEscaped is for Windows containers only. ArgsEscaped discarded.'],
    [
      hostConfig.Cgroup !== '',
      `Cgroup: sharing another container's cgroup is not supported. Cgroup ${hostConfig.Cgroup} discarded.`,
    ],
    [
      security.apparmor !== '' && security.apparmor !== UNCONFINED && !hostHasAppArmor(),
      `SecurityOpt: AppArmor is not enabled on this host. apparmor=${security.apparmor} discarded.`,
    ],
    [
      security.labels.some((label) => label !== 'disable'),
      'SecurityOpt: SELinux is not supported. label options discarded.',
    ],
  ];
  return list.filter(([applies]) => applies).map(([, text]) => text);
}
