/** A create request with everything filled in that inspect has to show. */
import type { Config } from '../../config/config.ts';
import type { ContainerConfig, CreateRequest, HostConfig } from '../../model/container-config.ts';
import type { Host } from './host.ts';
import { exposedPorts, portBindings } from './port-spec.ts';
import { securityOptions } from './security-options.ts';

const CONFIG: ContainerConfig = {
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
  Labels: {},
};

/** Fields that show only when they were given. */
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

/** Every key of Docker's `Config`: a request that has none of them has no configuration at all. */
export const CONFIG_KEYS: readonly string[] = [...Object.keys(CONFIG), ...CONFIG_OPTIONAL];
export const HOST_CONFIG_KEYS: readonly string[] = [...Object.keys(HOST_CONFIG), ...HOST_CONFIG_OPTIONAL];

/** What was asked, as a complete copy: null and absent are the same. */
export function complete(request: CreateRequest): { config: ContainerConfig; hostConfig: HostConfig } {
  const asked = structuredClone(request);
  const config = { ...CONFIG, ...given(asked, CONFIG_KEYS) };
  const hostConfig = { ...HOST_CONFIG, ...given(asked.HostConfig ?? {}, HOST_CONFIG_KEYS) };
  // Engines up to 28 take a string for either.
  config.Cmd = asList(config.Cmd);
  config.Entrypoint = asList(config.Entrypoint);
  config.ExposedPorts = exposedPorts(config.ExposedPorts);
  if (!config.ExposedPorts) delete config.ExposedPorts;
  hostConfig.PortBindings = portBindings(hostConfig.PortBindings);
  hostConfig.LogConfig = { Type: hostConfig.LogConfig.Type ?? '', Config: hostConfig.LogConfig.Config ?? {} };
  hostConfig.RestartPolicy = {
    Name: hostConfig.RestartPolicy.Name || 'no',
    MaximumRetryCount: hostConfig.RestartPolicy.MaximumRetryCount ?? 0,
  };
  if (hostConfig.Devices)
    hostConfig.Devices = hostConfig.Devices.map((device) => ({
      PathOnHost: device.PathOnHost,
      PathInContainer: device.PathInContainer || device.PathOnHost,
      CgroupPermissions: device.CgroupPermissions || 'rwm',
    }));
  // Docker's older API says "no limit" so.
  if (hostConfig.PidsLimit !== null && hostConfig.PidsLimit <= 0) hostConfig.PidsLimit = null;
  return { config, hostConfig };
}

/** Paths that hide what /proc and /sys tell of the host (moby oci/defaults.go and its advisories since). */
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

/** Docker's defaults on this host, after everything was checked. */
export function withHostDefaults(asked: HostConfig, config: Config, host: Host): HostConfig {
  const security = securityOptions(asked.SecurityOpt);
  const unconfined = asked.Privileged ? null : security.systemPathsUnconfined ? [] : undefined;
  return {
    ...asked,
    NetworkMode: asked.NetworkMode === '' || asked.NetworkMode === 'default' ? 'bridge' : asked.NetworkMode,
    Runtime: asked.Runtime || config.defaultRuntime,
    // Twice the memory, where swap can be limited at all (else it was set to -1).
    MemorySwap: asked.Memory > 0 && asked.MemorySwap === 0 ? asked.Memory * 2 : asked.MemorySwap,
    ShmSize: asked.ShmSize || config.defaultShmSize,
    IpcMode: asked.IpcMode || 'private',
    CgroupnsMode: asked.CgroupnsMode || (host.cgroup === 'v2' ? 'private' : 'host'),
    OomKillDisable: asked.OomKillDisable ?? (host.controls.has('oomKillDisable') ? false : null),
    SecurityOpt: withLabelDisabled(asked),
    MaskedPaths: unconfined !== undefined ? unconfined : (asked.MaskedPaths ?? maskedPaths(host)),
    ReadonlyPaths: unconfined !== undefined ? unconfined : (asked.ReadonlyPaths ?? [...READONLY_PATHS]),
  };
}

/** As dockerd records it, SELinux or not, for containers that see the host's processes or devices. */
function withLabelDisabled(asked: HostConfig): string[] | null {
  const labelled = asked.SecurityOpt?.some((option) => option.split('=')[0] === 'label');
  const open = asked.Privileged || asked.IpcMode === 'host' || asked.PidMode === 'host';
  return open && !labelled ? [...(asked.SecurityOpt ?? []), 'label=disable'] : asked.SecurityOpt;
}

function given(record: object, keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(record).filter(([key, value]) => keys.includes(key) && value !== null && value !== undefined),
  );
}

const asList = (value: string[] | string | null): string[] | null => (typeof value === 'string' ? [value] : value);
