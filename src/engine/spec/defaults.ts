/** Completes a create request with Docker's defaults, as inspect shows them. */
import type { Config } from '../../config/config.ts';
import {
  EMPTY_CONTAINER_CONFIG,
  type ContainerConfig,
  type CreateRequest,
  type DeviceMapping,
  type HostConfig,
  type Int64,
} from '../../model/container-config.ts';
import { asSent } from './as-sent.ts';
import type { Host } from './host.ts';
import { exposedPorts, portBindings } from './port-spec.ts';
import { securityOptions } from './security-options.ts';

/** Fields that are shown only if they were given. */
const CONFIG_OPTIONAL = [
  'ExposedPorts',
  'Healthcheck',
  'ArgsEscaped',
  'NetworkDisabled',
  'MacAddress',
  'OnBuild',
  'StopSignal',
  'StopTimeout',
  'Shell',
] as const;

const HOST_CONFIG: HostConfig = {
  Binds: null,
  ContainerIDFile: '',
  LogConfig: { Type: '', Config: {} },
  NetworkMode: '',
  PortBindings: {},
  RestartPolicy: { Name: '', MaximumRetryCount: 0 },
  AutoRemove: false,
  VolumeDriver: '',
  VolumesFrom: null,
  ConsoleSize: [0, 0],
  CapAdd: null,
  CapDrop: null,
  CgroupnsMode: '',
  Dns: null,
  DnsOptions: null,
  DnsSearch: null,
  ExtraHosts: null,
  GroupAdd: null,
  IpcMode: '',
  Cgroup: '',
  Links: null,
  OomScoreAdj: 0,
  PidMode: '',
  Privileged: false,
  PublishAllPorts: false,
  ReadonlyRootfs: false,
  SecurityOpt: null,
  UTSMode: '',
  UsernsMode: '',
  ShmSize: 0,
  Runtime: '',
  Isolation: '',
  CpuShares: 0,
  Memory: 0,
  NanoCpus: 0,
  CgroupParent: '',
  BlkioWeight: 0,
  BlkioWeightDevice: null,
  BlkioDeviceReadBps: null,
  BlkioDeviceWriteBps: null,
  BlkioDeviceReadIOps: null,
  BlkioDeviceWriteIOps: null,
  CpuPeriod: 0,
  CpuQuota: 0,
  CpuRealtimePeriod: 0,
  CpuRealtimeRuntime: 0,
  CpusetCpus: '',
  CpusetMems: '',
  Devices: null,
  DeviceCgroupRules: null,
  DeviceRequests: null,
  MemoryReservation: 0,
  MemorySwap: 0,
  MemorySwappiness: null,
  OomKillDisable: null,
  PidsLimit: null,
  Ulimits: null,
  CpuCount: 0,
  CpuPercent: 0,
  IOMaximumIOps: 0,
  IOMaximumBandwidth: 0,
  MaskedPaths: null,
  ReadonlyPaths: null,
};

const HOST_CONFIG_OPTIONAL = [
  'Annotations',
  'StorageOpt',
  'Tmpfs',
  'Sysctls',
  'Mounts',
  'Init',
  'KernelMemory',
  'KernelMemoryTCP',
] as const;

/** The keys of Docker's `Config`. */
export const CONFIG_KEYS: readonly string[] = [...Object.keys(EMPTY_CONTAINER_CONFIG), ...CONFIG_OPTIONAL];
export const HOST_CONFIG_KEYS: readonly string[] = [...Object.keys(HOST_CONFIG), ...HOST_CONFIG_OPTIONAL];

/** A copy of the request with every field present. null counts as missing. */
export function complete(request: CreateRequest): { config: ContainerConfig; hostConfig: HostConfig } {
  const asked = structuredClone(request);
  const config = { ...EMPTY_CONTAINER_CONFIG, ...given(asked, CONFIG_KEYS) };
  const hostConfig = { ...HOST_CONFIG, ...given(asked.HostConfig ?? {}, HOST_CONFIG_KEYS) };
  // Docker up to 28 accepts a string for either.
  config.Cmd = asList(config.Cmd);
  config.Entrypoint = asList(config.Entrypoint);
  config.ExposedPorts = exposedPorts(config.ExposedPorts);
  if (!config.ExposedPorts) delete config.ExposedPorts;
  hostConfig.PortBindings = portBindings(hostConfig.PortBindings);
  const log = asSent(hostConfig.LogConfig);
  hostConfig.LogConfig = { Type: log.Type ?? '', Config: log.Config ?? {} };
  const policy = asSent(hostConfig.RestartPolicy);
  hostConfig.RestartPolicy = { Name: policy.Name || 'no', MaximumRetryCount: policy.MaximumRetryCount ?? 0 };
  if (hostConfig.Devices) hostConfig.Devices = hostConfig.Devices.map(completeDevice);
  // 0 and less mean "no limit".
  if (hostConfig.PidsLimit !== null && hostConfig.PidsLimit <= 0) hostConfig.PidsLimit = null;
  return { config, hostConfig };
}

const completeDevice = ({ PathOnHost, PathInContainer, CgroupPermissions }: DeviceMapping): DeviceMapping => ({
  PathOnHost,
  PathInContainer: PathInContainer || PathOnHost,
  CgroupPermissions: CgroupPermissions || 'rwm',
});

/** Paths of /proc and /sys that reveal or change state of the host (moby oci/defaults.go and later advisories). */
export const maskedPaths = (host: Host): string[] => [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
  ...host.thermalThrottle,
];

const READONLY_PATHS: readonly string[] = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** Twice as much, in 64 bits as in Go: more than they hold becomes negative. */
function doubled(size: Int64): Int64 {
  const twice = BigInt.asIntN(64, BigInt(size) * 2n);
  return Number.isSafeInteger(Number(twice)) ? Number(twice) : twice;
}

/** Adds the defaults that depend on the host and the daemon's configuration to a checked request. */
export function withHostDefaults(asked: HostConfig, config: Config, host: Host): HostConfig {
  return {
    ...asked,
    NetworkMode: asked.NetworkMode === '' || asked.NetworkMode === 'default' ? 'bridge' : asked.NetworkMode,
    Runtime: asked.Runtime || config.defaultRuntime,
    // Memory and swap together: by default as much swap as memory. -1 if the host cannot limit swap.
    MemorySwap: asked.Memory > 0 && asked.MemorySwap === 0 ? doubled(asked.Memory) : asked.MemorySwap,
    ShmSize: asked.ShmSize || config.defaultShmSize,
    IpcMode: asked.IpcMode || config.defaultIpcMode,
    CgroupnsMode: asked.CgroupnsMode || defaultCgroupnsMode(asked, config, host),
    OomKillDisable: asked.OomKillDisable ?? (host.controls.has('oomKillDisable') ? false : null),
    SecurityOpt: withLabelDisabled(asked),
    ...systemPaths(asked, host),
  };
}

/** As in dockerd, privileged containers keep the host's cgroup namespace where there is cgroup v1. */
function defaultCgroupnsMode({ Privileged }: HostConfig, { defaultCgroupnsMode: mode }: Config, host: Host): string {
  if (host.cgroup === 'v2') return mode || 'private';
  return Privileged ? 'host' : mode || 'host';
}

/** null for privileged containers and [] for `systempaths=unconfined`, as dockerd stores them. */
function systemPaths(asked: HostConfig, host: Host): Pick<HostConfig, 'MaskedPaths' | 'ReadonlyPaths'> {
  if (asked.Privileged) return { MaskedPaths: null, ReadonlyPaths: null };
  if (securityOptions(asked.SecurityOpt).systemPathsUnconfined) return { MaskedPaths: [], ReadonlyPaths: [] };
  return {
    MaskedPaths: asked.MaskedPaths ?? maskedPaths(host),
    ReadonlyPaths: asked.ReadonlyPaths ?? [...READONLY_PATHS],
  };
}

/** dockerd adds `label=disable`, even without SELinux, if the container shares host namespaces or is privileged. */
function withLabelDisabled(asked: HostConfig): string[] | null {
  const labelled = asked.SecurityOpt?.some((option) => option.split('=')[0] === 'label');
  const sharesHost = asked.Privileged || asked.IpcMode === 'host' || asked.PidMode === 'host';
  return sharesHost && !labelled ? [...(asked.SecurityOpt ?? []), 'label=disable'] : asked.SecurityOpt;
}

/** The entries of `record` with one of `keys` and a value. */
function given(record: object, keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(record).filter(([key, value]) => keys.includes(key) && value !== null && value !== undefined),
  );
}

const asList = (value: string[] | string | null): string[] | null => (typeof value === 'string' ? [value] : value);
